"""The HTTP API over a desk.

    GET  /api/models                                       what answers: labels, scores, leaks, limits
    POST /api/predict?model=&window=&hop=&abstain_below=   a file's bytes in, predictions out
    POST /api/listen?rate=&model=&window=&hop=&…           raw sound in as it comes, a JSON line a window out

A fault is `{"error": "…"}`: 400 for what was asked, 404 for an unknown model, 408 for sound that is too slow to come,
413 for too much, 422 for sound that cannot be judged, 503 for "busy".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedcache import AudioError, SerError, UnknownName
from embedcache.audio.decode import Waveform

from ..inference.output_formats import to_dict
from ..inference.predictor import check_bound
from ..inference.windows import Windows, samples_of
from .service import BYTES, LIVE, Busy, PredictionService, Said

KNOWN = ("head", "encoder", "dataset", "n_clips", "n_speakers", "scores", "protocol", "leaks", "limits", "intended_use")
SLOWEST = 60.0  # seconds that a recording may take to come
LONGEST_WINDOW = 60.0  # seconds, of sound that is held until its window is whole
LEAST_HOP = 0.1  # seconds, of windows over sound that goes on

Models = Annotated[list[str] | None, Query()]


class TooMuch(SerError):
    """More bytes than a recording may have."""


class TooSlow(SerError):
    """A recording that does not come."""


STATUS = ((Busy, 503), (TooMuch, 413), (TooSlow, 408), (UnknownName, 404), (AudioError, 422), (Exception, 400))

router = APIRouter(prefix="/api")


def add_api(app: FastAPI, desk: PredictionService) -> None:
    """Answer below `/api`; every fault of the application as JSON."""
    app.state.desk = desk
    for kind in (SerError, ValueError, RequestValidationError):
        app.add_exception_handler(kind, _fault)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    app.include_router(router)


@router.get("/models")
def models(request: Request) -> Any:
    """What answers."""
    held = request.app.state.desk.models
    return [{"model": name, "labels": model.labels, **_known(model.about)} for name, model in held.items()]


@router.post("/predict")
async def predict(
    request: Request,
    model: Models = None,
    window: float | None = None,
    hop: float | None = None,
    abstain_below: float | None = None,
    name: str = "sound",
) -> Any:
    """What models say of a file, or of its windows."""
    desk: PredictionService = request.app.state.desk
    windows = None if window is None and hop is None else Windows.asked(window, hop)

    def answered(data: bytes) -> list[dict[str, Any]]:
        said = desk.answer(desk.read(data, name or "sound"), model or (), windows, abstain_below).said
        return [_line((one.model.name, p)) for one in said for p in (one.timeline if windows else [one.whole])]

    with desk.place():
        return {"predictions": await run_in_threadpool(answered, await whole_body(request))}


@router.post("/listen")
async def listen(
    request: Request,
    rate: int,
    model: Models = None,
    window: float = LIVE.window,
    hop: float = LIVE.hop,
    abstain_below: float | None = None,
) -> Any:
    """What models say of raw sound as it comes, 16 bits, little-endian, one channel."""
    desk: PredictionService = request.app.state.desk
    check_bound(abstain_below)
    if window > LONGEST_WINDOW or hop < LEAST_HOP:
        raise ValueError(f"wanted a window of {LONGEST_WINDOW:g} s at most, and a hop of {LEAST_HOP:g} s at least.")
    ear = desk.ear(rate, model or (), Windows(window, hop))

    def heard(samples: Waveform | None) -> str:
        with desk.place():
            said = ear.close(abstain_below) if samples is None else ear.push(samples, abstain_below)
        return _json_lines(said)

    async def lines() -> AsyncIterator[str]:
        try:
            async for samples in _samples(request):
                yield await run_in_threadpool(heard, samples)
            yield await run_in_threadpool(heard, None)
        except SerError as error:  # too late for a status
            yield json.dumps({"error": str(error)}) + "\n"
        except ClientDisconnect:
            return

    return Meanwhile(lines(), media_type="application/x-ndjson")


class Meanwhile(StreamingResponse):
    """A response that is written while the request is still read. Starlette's own reads the request, to its end."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Write, and leave reading to the lines."""
        await self.stream_response(send)


async def whole_body(request: Request, most: int | None = None) -> bytes:
    """The bytes of a request. Raises TooMuch before more than may come are held, and TooSlow."""
    parts, size, most = [], 0, most or BYTES
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooMuch(f"got more than {most:,} bytes, which is what may come at once here.")
                parts.append(part)
    except TimeoutError as error:
        raise TooSlow(f"the sound did not come within {SLOWEST:.0f} s. Send it again.") from error
    return b"".join(parts)


async def _samples(request: Request) -> AsyncIterator[Waveform]:
    odd = b""
    async for data in request.stream():
        whole = odd + data
        odd = whole[-1:] if len(whole) % 2 else b""
        yield samples_of(whole)


def _json_lines(said: Iterable[Said]) -> str:
    return "".join(json.dumps(_line(one)) + "\n" for one in said)


def _line(said: Said) -> dict[str, Any]:
    """As `ser predict --json` has it, and by which model."""
    name, prediction = said
    return {"model": name, **to_dict(prediction)}


def _known(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in KNOWN if name in about}


async def _fault(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    said = str(error)
    if isinstance(error, RequestValidationError):
        said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": said}, status, headers={"Retry-After": "1"} if status == 503 else {})


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


async def _broken(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "ser has a fault of its own here; its terminal says more."}, 500)
