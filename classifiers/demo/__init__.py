"""`ser demo`: a web page that predicts from the microphone or a file, and an HTTP API (extra `[demo]`).

`service` predicts, within limits; `page` builds the page, `answer_html` the HTML of predictions; `live_sessions` and
`api` are the routes of the page and of the API; `server` serves both on a port, and controls access.
"""
