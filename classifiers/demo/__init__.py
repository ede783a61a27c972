"""`ser demo`: a page that listens, and the same as an HTTP API (extra `[demo]`).

`desk` answers, within bounds; `page` is what a browser shows, `view` the HTML of an answer; `server` puts both on a
port, with what keeps strangers out.
"""
