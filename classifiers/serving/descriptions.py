"""The parts of the API's description (OpenAPI) that function signatures do not give: bodies, responses, errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from embedcache import __version__

from .bodies import FORM, MAX_FILES
from .streaming import EVENTS, JSON_LINES

Schema = dict[str, Any]

ABOUT = (
    "Predicts the emotion labels of recordings and of live sound. A recording is the body of a request, or one or more "
    "files of a form. The format is recognised from the bytes."
)
ERRORS = {
    400: "an option is out of range, or the form cannot be read",
    401: "the token or password is missing or wrong",
    403: "the request comes from another page",
    404: "no model has this name",
    408: "the sound did not arrive in time",
    413: "the body has too many bytes",
    415: "the body is compressed",
    421: "the request names another machine as its host",
    422: "the sound cannot be decoded, or is too short or too long for a model",
    503: "busy; the header Retry-After has the seconds after which to try again",
}


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
BYTES: Schema = {"type": "string", "format": "binary"}
PREDICTION_FIELDS = _object(
    {
        "model": {**TEXT, "description": "name of the model"},
        "path": {**TEXT, "description": "name of the recording"},
        "begin": {**NUMBER, "description": "start of the window, in seconds"},
        "end": {**NUMBER, "description": "end of the window, in seconds"},
        "label": {"type": ["string", "null"], "description": "null if the model abstains, or nothing is audible"},
        "certainty": {**NUMBER, "description": "probability of the likeliest label"},
        "probabilities": {"type": "object", "additionalProperties": NUMBER, "description": "label: probability, sum 1"},
        "notes": {**_list(TEXT), "description": "reasons to doubt the prediction"},
        "training_distance": {
            "type": ["number", "null"],
            "description": "how far the sound lies from the training clips; null if the model cannot say",
        },
    }
)
SCHEMAS = {"Prediction": PREDICTION_FIELDS, "Error": _object({"error": TEXT})}
PREDICTION: Schema = {"$ref": "#/components/schemas/Prediction"}
ERROR: Schema = {"$ref": "#/components/schemas/Error"}
FILE_RESULT = _object(
    {"name": TEXT, "predictions": _list(PREDICTION), "error": TEXT}, optional=("predictions", "error")
)
FILES_RESULT = _object({"results": _list(FILE_RESULT), "failed": {"type": "integer"}})


def _body(sound: str) -> Schema:
    form = _object({"file": {**_list(BYTES), "description": f"at most {MAX_FILES} files"}})
    return {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {**BYTES, "description": sound}},
            FORM: {"schema": form},
        },
    }


def _responses(about: str, content: Schema, but: tuple[int, ...] = ()) -> Schema:
    errors = {
        str(status): {"description": about, "content": {"application/json": {"schema": ERROR}}}
        for status, about in ERRORS.items()
        if status not in but
    }
    return {"200": {"description": about, "content": content}, **errors}


_RAW: Schema = {**BYTES, "description": "raw sound: 16 bits, little-endian, one channel"}
_ONE_OR_MORE = [_object({"predictions": _list(PREDICTION)}), FILES_RESULT]
# Path -> the parts of its operation.
OPERATIONS = {
    "/api/models": {
        "responses": _responses(
            "the models",
            {"application/json": {"schema": _list(_object({"model": TEXT, "labels": _list(TEXT)}))}},
            but=(400, 404, 408, 413, 415, 422, 503),
        )
    },
    "/api/predict": {
        "requestBody": _body("an audio file"),
        "responses": _responses(
            "`predictions` for a body of one file; `results`, one for each file, for a form",
            {"application/json": {"schema": {"oneOf": _ONE_OR_MORE}}},
        ),
    },
    "/api/timeline": {
        "requestBody": _body("an audio file of up to six hours"),
        "responses": _responses("one event after the other", {JSON_LINES: {"schema": TEXT}, EVENTS: {"schema": TEXT}}),
    },
    "/api/listen": {
        "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _RAW}}},
        "responses": _responses("a line of JSON for each window and model", {JSON_LINES: {"schema": PREDICTION}}),
    },
}


def describe(app: FastAPI, scheme: str) -> dict[str, Any]:
    """Return the description of an application's API. `scheme` is the scheme of its credentials, "" for none."""
    from fastapi.openapi.utils import get_openapi

    api = get_openapi(title=app.title, version=__version__, description=ABOUT, routes=app.routes)
    for path, parts in OPERATIONS.items():
        for operation in api["paths"][path].values():
            operation.update(parts)
    api["components"] = {"schemas": SCHEMAS}
    if scheme:
        api["components"]["securitySchemes"] = {"credentials": {"type": "http", "scheme": scheme}}
        api["security"] = [{"credentials": []}]
    return api
