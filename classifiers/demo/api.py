"""The HTTP API over a desk.

    GET  /api/models                                       what answers: labels, scores, leaks, limits
    POST /api/predict?model=&window=&hop=&abstain_below=   a file's bytes in, predictions out
    POST /api/listen?rate=&model=&window=&hop=&…           raw sound in as it comes, a JSON line a window out

A fault is `{"error": "…"}`: 400 for what was asked, 404 for an unknown model, 413 for too much, 422 for sound that
cannot be judged, 503 for "busy".
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from embedcache import AudioError, SerError, UnknownName
from embedcache.audio import Waveform

from ..lines import facts
from ..sounds import Windows
from .desk import BYTES, HALF, Busy, Desk, Said

KNOWN = ("head", "encoder", "dataset", "n_clips", "n_speakers", "scores", "protocol", "leaks", "limits", "intended_use")

Models = Annotated[list[str] | None, Query()]


class TooMuch(SerError):
    """More bytes than a recording may have."""


STATUS = ((Busy, 503), (TooMuch, 413), (UnknownName, 404), (AudioError, 422), (Exception, 400))

router = APIRouter(prefix="/api")


def add_api(app: FastAPI, desk: Desk) -> None:
    """Answer below `/api`."""
    app.state.desk = desk
    for kind in (SerError, ValueError, RequestValidationError):
        app.add_exception_handler(kind, _fault)
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
    desk: Desk = request.app.state.desk
    data = await whole_body(request)
    windows = None if window is None and hop is None else Windows.asked(window, hop)

    def answered() -> list[dict[str, Any]]:
        said = desk.answer(desk.read(data, name), model or (), windows, abstain_below).said
        return [_line((one.model.name, p)) for one in said for p in (one.timeline if windows else [one.whole])]

    return {"predictions": await run_in_threadpool(answered)}


@router.post("/listen")
async def listen(
    request: Request,
    rate: int,
    model: Models = None,
    window: float = HALF.window,
    hop: float = HALF.hop,
    abstain_below: float | None = None,
) -> Any:
    """What models say of raw sound as it comes, 16 bits, little-endian, one channel."""
    desk: Desk = request.app.state.desk
    ear = desk.ear(rate, model or (), Windows(window, hop), abstain_below)

    async def lines() -> AsyncIterator[str]:
        try:
            async for samples in _samples(request):
                yield _json_lines(await run_in_threadpool(ear.push, samples))
            yield _json_lines(await run_in_threadpool(ear.close))
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


def _json_lines(said: Iterable[Said]) -> str:
    return "".join(json.dumps(_line(one)) + "\n" for one in said)


def _line(said: Said) -> dict[str, Any]:
    """As `ser predict --json` has it, and by which model."""
    name, prediction = said
    return {"model": name, **facts(prediction)}


def _known(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in KNOWN if name in about}


async def whole_body(request: Request) -> bytes:
    """The bytes of a request. Raises TooMuch before more than a recording may have are held."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BYTES:
            raise TooMuch(f"got more than {BYTES:,} bytes, which is what a recording may have here.")
        parts.append(part)
    return b"".join(parts)


async def _samples(request: Request) -> AsyncIterator[Waveform]:
    odd = b""
    async for data in request.stream():
        whole = odd + data
        even = len(whole) // 2 * 2
        odd = whole[even:]
        yield samples_of(whole[:even])


def samples_of(data: bytes) -> Waveform:
    """The samples of raw sound: 16 bits, little-endian, one channel."""
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    said = str(error)
    if isinstance(error, RequestValidationError):
        said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": said}, status, headers={"Retry-After": "1"} if status == 503 else {})
