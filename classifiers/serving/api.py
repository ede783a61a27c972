"""The HTTP API of a prediction service.

    GET  /api/models                                       the models: labels, scores, leaks, limits
    POST /api/predict?model=&window=&hop=&abstain_below=   the bytes of an audio file in, predictions out
    POST /api/listen?rate=&model=&window=&hop=&…           raw sound in while it arrives, one JSON line per window out

An error is `{"error": "…"}` with status 400 for a bad option, 404 for an unknown model, 408 for sound that arrives too
slowly, 413 for too many bytes, 422 for sound that cannot be judged, and 503 for "busy".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedcache import AudioError, SerError, UnknownName
from embedcache.audio.decode import Waveform

from ..inference.model import Attribution
from ..inference.output_formats import to_dict
from ..inference.predictor import check_abstain_below
from ..inference.windows import Windows, decode_pcm16
from .service import LIVE_WINDOWS, MAX_BYTES, Busy, ModelPrediction, PredictionService

# The fields of a model card that /api/models returns.
CARD_FIELDS = (
    "head",
    "encoder",
    "dataset",
    "n_clips",
    "n_speakers",
    "scores",
    "protocol",
    "leaks",
    "limits",
    "intended_use",
)
BODY_TIMEOUT = 60.0  # longest time in which the body of a request may arrive, in seconds
MAX_LIVE_WINDOW = 60.0  # longest window of live sound, in seconds; the sound is in memory until its window is complete
MIN_LIVE_HOP = 0.1  # shortest hop of windows of live sound, in seconds

ModelNames = Annotated[list[str] | None, Query()]


class BodyTooLarge(SerError):
    """The body of a request has too many bytes."""


class BodyTooSlow(SerError):
    """The body of a request did not arrive in time."""


# The first class that an error is an instance of gives its status.
STATUS = (
    (Busy, 503),
    (BodyTooLarge, 413),
    (BodyTooSlow, 408),
    (UnknownName, 404),
    (AudioError, 422),
    (Exception, 400),
)

router = APIRouter(prefix="/api")


def add_api(app: FastAPI, service: PredictionService) -> None:
    """Add the routes below `/api` to an application, and return all its errors as JSON."""
    app.state.service = service
    for kind in (SerError, ValueError, RequestValidationError):
        app.add_exception_handler(kind, _handle_error)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)
    app.include_router(router)


@router.get("/models")
def models(request: Request) -> Any:
    """Return the models, with the fields of their cards that say how well they do."""
    service: PredictionService = request.app.state.service
    return [
        {"model": name, "labels": model.labels, **_card_fields(model.card)} for name, model in service.models.items()
    ]


@router.post("/predict")
async def predict(
    request: Request,
    model: ModelNames = None,
    window: float | None = None,
    hop: float | None = None,
    abstain_below: float | None = None,
    attribution: bool = False,
    name: str = "sound",
) -> Any:
    """Return the predictions of an audio file, or of its windows.

    `attribution` adds the shares of layers and frames to the predictions of the file, for models that weigh them.
    """
    service: PredictionService = request.app.state.service
    windows = None if window is None and hop is None else Windows.from_options(window, hop)

    def predict_body(data: bytes) -> list[dict[str, Any]]:
        recording = service.read(data, name or "sound")
        results = service.predict_recording(recording, model or (), windows, abstain_below, attribution).results
        if not windows:
            return [to_json_object((r.model.name, r.whole)) | _shares(r.attribution) for r in results]
        return [to_json_object((r.model.name, p)) for r in results for p in r.timeline]

    with service.reserve_slot():
        return {"predictions": await run_in_threadpool(predict_body, await read_body(request))}


@router.post("/listen")
async def listen(
    request: Request,
    rate: int,
    model: ModelNames = None,
    window: float = LIVE_WINDOWS.window,
    hop: float = LIVE_WINDOWS.hop,
    abstain_below: float | None = None,
) -> Any:
    """Return predictions of raw sound while it arrives: 16 bits, little-endian, one channel."""
    service: PredictionService = request.app.state.service
    check_abstain_below(abstain_below)
    if window > MAX_LIVE_WINDOW or hop < MIN_LIVE_HOP:
        raise ValueError(
            f"got a window of {window:g} s and a hop of {hop:g} s; wanted a window of at most {MAX_LIVE_WINDOW:g} s, "
            f"and a hop of at least {MIN_LIVE_HOP:g} s."
        )
    stream = service.open_stream(rate, model or (), Windows(window, hop))

    def predict_samples(samples: Waveform | None) -> str:
        """Return the JSON lines of the windows that are complete with these samples, or, for None, with the end."""
        with service.reserve_slot():
            return _json_lines(stream.close(abstain_below) if samples is None else stream.push(samples, abstain_below))

    async def lines() -> AsyncIterator[str]:
        try:
            async for samples in _read_samples(request):
                yield await run_in_threadpool(predict_samples, samples)
            yield await run_in_threadpool(predict_samples, None)
        except SerError as error:  # the status has been sent already
            yield json.dumps({"error": str(error)}) + "\n"
        except ClientDisconnect:
            return

    return DuplexResponse(lines(), media_type="application/x-ndjson")


class DuplexResponse(StreamingResponse):
    """A response that is written while the request is still being read.

    Starlette's own streaming response reads the request too, to notice a client that disconnects.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Write the response. The iterator of its lines reads the request."""
        await self.stream_response(send)


async def read_body(request: Request, max_bytes: int | None = None) -> bytes:
    """Return the body of a request.

    Raises BodyTooLarge as soon as more than `max_bytes`, by default `MAX_BYTES`, have arrived, and BodyTooSlow.
    """
    parts, size, max_bytes = [], 0, max_bytes or MAX_BYTES
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise BodyTooLarge(f"got more than {max_bytes:,} bytes, the limit of one request. Send less sound.")
                parts.append(part)
    except TimeoutError as error:
        raise BodyTooSlow(f"the sound did not arrive within {BODY_TIMEOUT:.0f} s. Send it again.") from error
    return b"".join(parts)


async def _read_samples(request: Request) -> AsyncIterator[Waveform]:
    rest = b""  # the first byte of a sample whose second byte has not arrived
    async for part in request.stream():
        data = rest + part
        rest = data[-1:] if len(data) % 2 else b""
        yield decode_pcm16(data)


def _json_lines(predictions: Iterable[ModelPrediction]) -> str:
    return "".join(json.dumps(to_json_object(pair)) + "\n" for pair in predictions)


def to_json_object(pair: ModelPrediction) -> dict[str, Any]:
    """Return the JSON object of `ser predict --json`, and the name of the model."""
    name, prediction = pair
    return {"model": name, **to_dict(prediction)}


def _shares(attribution: Attribution) -> dict[str, Any]:
    return {name: shares for name, shares in asdict(attribution).items() if shares is not None}


def _card_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in CARD_FIELDS if name in card}


async def _handle_error(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    message = str(error)
    if isinstance(error, RequestValidationError):
        message = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    return JSONResponse({"error": message}, status, headers={"Retry-After": "1"} if status == 503 else {})


async def _handle_http_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


async def _handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "an unexpected error occurred in ser demo. Its terminal shows the details."}, 500)
