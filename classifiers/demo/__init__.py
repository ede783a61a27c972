"""`ser demo`: a web page that predicts from the microphone or a file, and the HTTP API of `ser serve` (extra `[demo]`).

`page` fills the template, `model_text` says what a model is in words; the scripts in `static` show the predictions.
`live_sessions` has the routes of the page, `choose_models` the models, and `server` serves page and API on a port.
"""
