"""The route for long recordings: they are decoded in blocks, and every window is sent as soon as it is predicted."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from embedcache import AudioError, Recording, SerError
from embedcache.audio.decode import Block

from ..inference.predictor import check_abstain_below
from ..inference.windows import DEFAULT_WINDOW, Windows
from .api import (
    AbstainBelow,
    ModelNames,
    Name,
    bounded_windows,
    options,
    refuse_unknown_parameters,
    to_json_object,
)
from .bodies import SentFile, WrongForm, read_files, watched
from .service import Busy, LiveStream, PredictionService, Slot
from .streaming import DuplexResponse, Event, EventResponse, wanted_type

MAX_LONG = 6 * 3600.0  # longest recording, in seconds
MAX_TIMELINES = 4  # long recordings at once; other requests are predicted between their packs
RETRY_SECONDS = 30  # time after which a client should try again if there are as many, in seconds

router = APIRouter(prefix="/api", tags=["predict"], dependencies=[Depends(refuse_unknown_parameters)])
_open = threading.BoundedSemaphore(MAX_TIMELINES)


@router.post("/timeline", response_class=DuplexResponse)
async def timeline(
    request: Request,
    model: ModelNames = None,
    window: Annotated[float, Query(description="Length of a window, in seconds.")] = DEFAULT_WINDOW,
    hop: Annotated[float | None, Query(description="Seconds between the starts of two windows; 1 by default.")] = None,
    abstain_below: AbstainBelow = None,
    name: Name = "sound",
) -> Any:
    """Predict the windows of a recording of up to six hours, and send each as soon as it is predicted.

    The response is a line of JSON for each event, or server-sent events if the header `Accept` names
    `text/event-stream`. Events are `start`, `prediction` (one for each window and model), `progress`, and at last `end`
    or `error`.
    """
    service: PredictionService = request.app.state.service
    with options():
        check_abstain_below(abstain_below)
    windows = bounded_windows(window, hop)
    names = [one.name for one in service.find_models(model or ())]

    async def events() -> AsyncGenerator[Event]:
        with service.reserve_slot() as slot, _reserve_timeline():
            recording = await _read_recording(request, slot, name)
            blocks = _predict_blocks(service, slot, recording, names, windows, abstain_below)
            async with watched(request, slot):
                with closing(blocks):
                    while slot.is_wanted() and (batch := await run_in_threadpool(next, blocks, None)) is not None:
                        for event in batch:
                            yield event

    return EventResponse(events(), wanted_type(request))


@contextmanager
def _reserve_timeline() -> Iterator[None]:
    if not _open.acquire(blocking=False):
        raise Busy(f"busy: {MAX_TIMELINES} long recordings are being predicted. Try again later.", RETRY_SECONDS)
    try:
        yield
    finally:
        _open.release()


async def _read_recording(request: Request, slot: Slot, name: str) -> Recording:
    files: list[SentFile] = await read_files(request, slot, name or "sound")
    if len(files) != 1:
        raise WrongForm(f"got {len(files)} files; wanted one. Send each long recording in a request of its own.")
    return replace(Recording.of(files[0].data, files[0].name), longest=MAX_LONG)


def _predict_blocks(
    service: PredictionService,
    slot: Slot,
    recording: Recording,
    names: list[str],
    windows: Windows,
    abstain_below: float | None,
) -> Generator[list[Event]]:
    """Yield the events of each block of a recording, as a list. Errors after the first block are events, too."""
    blocks = recording.blocks()
    first = next(blocks)
    stream = service.open_stream(first.rate, names, windows, str(recording.path), slot.is_wanted)
    start = {"models": names, "window": windows.window, "hop": windows.hop, "seconds": first.declared or None}
    events, seconds, n_windows = [Event("start", start)], 0.0, 0
    try:
        for block in _chain(first, blocks):
            seconds += len(block.sound) / block.rate
            predicted = _prediction_events(stream, block, abstain_below)
            n_windows += len(predicted)
            yield [*events, *predicted, Event("progress", _progress(seconds, first.declared))]
            events = []
        last = _prediction_events(stream, None, abstain_below)
        count = (n_windows + len(last)) // len(names)
        yield [*last, Event("end", {"seconds": round(seconds, 3), "windows": count})]
    except (SerError, CancelledError) as error:
        if events:  # nothing was sent, so that the error gets a status
            raise
        yield [Event("error", {"error": str(error) or "the server ends."})]
    finally:
        blocks.close()  # type: ignore[attr-defined] # ends FFmpeg


def _chain(first: Block, others: Iterator[Block]) -> Iterator[Block]:
    yield first
    for block in others:
        if block.rate != first.rate:
            raise AudioError("the recording changes its sample rate in the middle. Convert or cut it.")
        yield block


def _prediction_events(stream: LiveStream, block: Block | None, abstain_below: float | None) -> list[Event]:
    """Return the predictions of the windows that are complete with a block, or, for None, with the end."""
    pairs = stream.close(abstain_below) if block is None else stream.push(block.sound, abstain_below)
    return [Event("prediction", to_json_object(pair)) for pair in pairs]


def _progress(seconds: float, declared: float) -> dict[str, float | None]:
    share = round(min(1.0, seconds / declared), 4) if declared else None
    return {"seconds": round(seconds, 3), "share": share}
