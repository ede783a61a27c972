"""The HTTP API of a prediction service; `timeline` has the route for long recordings.

    GET  /api/models                                       the models: labels, scores, leaks, limits
    POST /api/predict?model=&window=&hop=&abstain_below=   audio files in, predictions out
    POST /api/listen?rate=&model=&window=&hop=&…           raw sound in while it arrives, one JSON line per window out

An error is `{"error": "…"}` with a status of `descriptions.ERRORS`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedcache import AudioError, ConfigError, SerError, UnknownName
from embedcache.audio.decode import Waveform

from ..inference.model import Attribution
from ..inference.output_formats import to_dict
from ..inference.predictor import check_abstain_below
from ..inference.windows import Windows
from .bodies import BodyTooLarge, BodyTooSlow, SentFile, WrongEncoding, is_form, read_files, read_samples, watched
from .request_log import NO_ANSWER
from .service import LIVE_WINDOWS, Busy, ModelPrediction, PredictionService, Slot
from .streaming import JSON_LINES, DuplexResponse

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
    "version",
)
MAX_WINDOW = 60.0  # longest window of sound that arrives in parts, in seconds; it is in memory until it is complete
MIN_HOP = 0.1  # shortest hop of such windows, in seconds
FILES_AT_ONCE = 16  # files of one form that are decoded or wait for the encoder; the others wait for them

ModelNames = Annotated[list[str] | None, Query(description="Names of models, repeated for several; all by default.")]
Window = Annotated[float | None, Query(description="Length of windows, in seconds; the whole recording by default.")]
Hop = Annotated[float | None, Query(description="Seconds between the starts of two windows; 1 by default.")]
AbstainBelow = Annotated[float | None, Query(description="Confidence below which a prediction has no label.")]
Name = Annotated[str, Query(description="Name of the recording in messages.", max_length=1000)]

# The first class that an error is an instance of gives its status.
STATUS = (
    (Busy, 503),
    (BodyTooLarge, 413),
    (BodyTooSlow, 408),
    (WrongEncoding, 415),
    (UnknownName, 404),
    (AudioError, 422),
    (ClientDisconnect, NO_ANSWER),  # in the log alone: nobody receives it
    (CancelledError, NO_ANSWER),
    (Exception, 400),
)


@dataclass(frozen=True)
class Wanted:
    """What a request wants to know of its files."""

    models: Sequence[str]  # names
    windows: Windows | None  # None for whole files
    abstain_below: float | None
    attribution: bool


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise ConfigError if the address has a parameter that the route does not have: it would be ignored."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise ConfigError(f"got the parameter '{name}'; wanted {' or '.join(known) or 'none'}.")


router = APIRouter(prefix="/api", tags=["predict"], dependencies=[Depends(refuse_unknown_parameters)])


def add_api(app: FastAPI, service: PredictionService) -> None:
    """Add the routes to an application, and return all its errors as JSON."""
    app.state.service = service
    for kind in (SerError, RequestValidationError, ClientDisconnect, CancelledError):
        app.add_exception_handler(kind, _handle_error)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)
    app.include_router(router)


@router.get("/models")
async def models(request: Request) -> Any:
    """Return the models, with the fields of their cards that say how well they do."""
    service: PredictionService = request.app.state.service
    return [
        {"model": name, "labels": model.labels, **_card_fields(model.card)} for name, model in service.models.items()
    ]


@router.post("/predict")
async def predict(
    request: Request,
    model: ModelNames = None,
    window: Window = None,
    hop: Hop = None,
    abstain_below: AbstainBelow = None,
    attribution: Annotated[bool, Query(description="Add the shares of layers and frames.")] = False,
    name: Name = "sound",
) -> Any:
    """Predict an audio file, or its windows; or the files of a form, where one bad file does not fail the others.

    `attribution` adds the shares of layers and frames to the predictions of whole files, for models that weigh them.
    """
    service: PredictionService = request.app.state.service
    windows = None if window is None and hop is None else Windows.from_options(window, hop)
    with options():
        check_abstain_below(abstain_below)
    wanted = Wanted([one.name for one in service.find_models(model or ())], windows, abstain_below, attribution)
    with service.reserve_slot() as slot:
        files = await read_files(request, slot, name or "sound")
        async with watched(request, slot):
            if not is_form(request):
                return {"predictions": await run_in_threadpool(_predict_file, service, slot, wanted, files[0])}
            at_once = CapacityLimiter(FILES_AT_ONCE)
            results = await _all_of(
                [to_thread.run_sync(_try_file, service, slot, wanted, file, limiter=at_once) for file in files]
            )
        return {"results": results, "failed": sum("error" in result for result in results)}


def _predict_file(service: PredictionService, slot: Slot, wanted: Wanted, file: SentFile) -> list[dict[str, Any]]:
    """Return the predictions of a file. Raises AudioError, and CancelledError as soon as the client goes away."""
    results = service.predict_recording(
        service.read(file.data, file.name),
        wanted.models,
        wanted.windows,
        wanted.abstain_below,
        wanted.attribution,
        slot.is_wanted,
    ).results
    if not wanted.windows:
        return [to_json_object((r.model.name, r.whole)) | _shares(r.attribution) for r in results]
    return [to_json_object((r.model.name, p)) for r in results for p in r.timeline]


def _try_file(service: PredictionService, slot: Slot, wanted: Wanted, file: SentFile) -> dict[str, Any]:
    """Return the predictions of a file of a form, or why it cannot be predicted."""
    try:
        return {"name": file.name, "predictions": _predict_file(service, slot, wanted, file)}
    except SerError as error:
        return {"name": file.name, "error": str(error)}


async def _all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return the results of all calls. If one raises, the others end before: they belong to the same slot."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@router.post("/listen", response_class=DuplexResponse)
async def listen(
    request: Request,
    rate: Annotated[int, Query(description="Sample rate of the sound, in Hz.")],
    model: ModelNames = None,
    window: Annotated[float, Query(description="Length of a window, in seconds.")] = LIVE_WINDOWS.window,
    hop: Annotated[float, Query(description="Seconds between the starts of two windows.")] = LIVE_WINDOWS.hop,
    abstain_below: AbstainBelow = None,
) -> Any:
    """Predict raw sound while it arrives: 16 bits, little-endian, one channel. The response has a line per window."""
    service: PredictionService = request.app.state.service
    windows = bounded_windows(window, hop)
    with options():
        check_abstain_below(abstain_below)
    stream = service.open_stream(rate, model or (), windows)

    def predict_samples(samples: Waveform | None) -> str:
        """Return the JSON lines of the windows that are complete with these samples, or, for None, with the end."""
        with service.reserve_slot():
            return _json_lines(stream.close(abstain_below) if samples is None else stream.push(samples, abstain_below))

    async def lines() -> AsyncIterator[str]:
        try:
            async for samples in read_samples(request):
                yield await run_in_threadpool(predict_samples, samples)
            yield await run_in_threadpool(predict_samples, None)
        except SerError as error:  # the status has been sent already
            yield json.dumps({"error": str(error)}) + "\n"
        except ClientDisconnect:
            return

    return DuplexResponse(lines(), media_type=JSON_LINES)


def bounded_windows(window: float, hop: float | None) -> Windows:
    """Return the windows of sound that arrives in parts. Raises ConfigError if they are too long or too frequent."""
    windows = Windows.from_options(window, hop)
    if windows.window > MAX_WINDOW or windows.hop < MIN_HOP:
        raise ConfigError(
            f"got a window of {windows.window:g} s and a hop of {windows.hop:g} s; wanted a window of at most "
            f"{MAX_WINDOW:g} s, and a hop of at least {MIN_HOP:g} s."
        )
    return windows


@contextmanager
def options() -> Iterator[None]:
    """Raise ConfigError for a ValueError of an option. A ValueError anywhere else is an error of the server."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def to_json_object(pair: ModelPrediction) -> dict[str, Any]:
    """Return the JSON object of `ser predict --json`, and the name of the model."""
    name, prediction = pair
    return {"model": name, **to_dict(prediction)}


def _shares(attribution: Attribution) -> dict[str, Any]:
    return {name: shares for name, shares in asdict(attribution).items() if shares is not None}


def _json_lines(predictions: Iterable[ModelPrediction]) -> str:
    return "".join(json.dumps(to_json_object(pair)) + "\n" for pair in predictions)


def _card_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in CARD_FIELDS if name in card}


async def _handle_error(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    message = str(error) or "the client went away."
    if isinstance(error, RequestValidationError):
        message = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    service: PredictionService = request.app.state.service
    seconds = max(service.queue.retry_after(), error.seconds) if isinstance(error, Busy) else 0
    headers = {"Retry-After": str(seconds)} if seconds else {}
    return JSONResponse({"error": message}, status, headers=headers)


async def _handle_http_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


async def _handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "an unexpected error occurred in ser. The log of the server has the details."}, 500)
