"""What the page asks: a recording's page part, examples to try, and live sound, in pieces, from an ear a visitor."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from embedcache import AudioError, UnknownName
from embedcache.audio.decode import Waveform
from embedcache.synthetic import wav_bytes

from ..inference.predictor import check_bound
from ..inference.windows import check_rate, samples_of
from .answer_html import answer_html, live_html
from .api import Models, whole_body
from .examples import EXAMPLES
from .service import Busy, LiveStream, PredictionService, steps

LONGEST = 600.0  # seconds that one visitor may speak without a stop
PIECE = 30.0  # seconds of sound that may come at once
IDLE = 60.0  # seconds without sound, after which an ear is forgotten
MOST = 64  # visitors at once

Id = Annotated[str, Query(max_length=64)]

router = APIRouter(prefix="/page")


@dataclass
class LiveSession:
    """Who speaks: an ear for some models and a rate, and when it last heard something."""

    asked: tuple[int, tuple[str, ...]]
    ear: LiveStream
    last: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class LiveSessions:
    """Ears by the name that a page gave its visitor."""

    def __init__(self, desk: PredictionService) -> None:
        self.desk = desk
        self._held: dict[str, LiveSession] = {}
        self._lock = threading.Lock()

    def hear(self, name: str, rate: int, models: list[str], abstain_below: float | None, wave: Waveform) -> str:
        """The page part after more sound, empty where it says nothing new. Raises AudioError and UnknownName.

        Other models, or another rate, than before begin anew.
        """
        check_bound(abstain_below)
        visitor = self._visitor(name, rate, models)
        with visitor.lock:
            visitor.last, ear = time.monotonic(), visitor.ear
            if ear.arriving.length / ear.arriving.rate > LONGEST:
                raise AudioError(f"that was {LONGEST / 60:.0f} minutes: listening has stopped. Press Listen to go on.")
            return live_html(ear.heard) if ear.push(wave, abstain_below) else ""

    def end(self, name: str, abstain_below: float | None) -> str:
        """The page part of sound that has ended; its ear is forgotten."""
        with self._lock:
            visitor = self._held.pop(name, None)
        if visitor is None:
            return ""
        with visitor.lock:
            visitor.ear.close(abstain_below)
            return live_html(visitor.ear.heard)

    def _visitor(self, name: str, rate: int, models: list[str]) -> LiveSession:
        asked = (rate, tuple(models))
        with self._lock:
            now = time.monotonic()
            self._held = {known: one for known, one in self._held.items() if now - one.last < IDLE}
            held = self._held.get(name)
            if held is None and len(self._held) >= MOST:
                raise Busy(f"busy: {MOST} others are listened to. Try again in a minute.")
            if held is None or held.asked != asked:
                held = self._held[name] = LiveSession(asked, self.desk.ear(rate, models))
            return held


@router.post("/answer")
async def answer(
    request: Request, model: Models = None, abstain_below: float = 0, name: str = "the recording"
) -> HTMLResponse:
    """A recording's page part."""
    desk: PredictionService = request.app.state.desk

    def answered(data: bytes) -> str:
        recording = desk.read(data, name or "the recording")
        windows = steps(recording.promised())
        return answer_html(desk.answer(recording, model or (), windows, abstain_below or None, explained=True))

    with desk.place():
        return HTMLResponse(await run_in_threadpool(answered, await whole_body(request)))


@router.get("/example")
def example(name: str) -> Response:
    """An example, as a WAV file."""
    if name not in EXAMPLES:
        raise UnknownName("example", name, EXAMPLES)
    return Response(wav_bytes(EXAMPLES[name]()), media_type="audio/wav")


@router.post("/hear")
async def hear(request: Request, id: Id, rate: int, model: Models = None, abstain_below: float = 0) -> HTMLResponse:
    """More sound of a visitor."""
    check_rate(rate)
    visitors: LiveSessions = request.app.state.visitors
    with visitors.desk.place():  # before the sound is taken: who hears "busy" sends it again
        wave = samples_of(await whole_body(request, round(2 * PIECE * rate)))
        said = await run_in_threadpool(visitors.hear, id, rate, model or [], abstain_below or None, wave)
    return HTMLResponse(said)


@router.post("/end")
async def end(request: Request, id: Id, rate: int, model: Models = None, abstain_below: float = 0) -> HTMLResponse:
    """The last sound of a visitor."""
    check_rate(rate)
    visitors: LiveSessions = request.app.state.visitors

    def ended(wave: Waveform) -> str:
        try:
            visitors.hear(id, rate, model or [], abstain_below or None, wave)
        finally:
            said = visitors.end(id, abstain_below or None)
        return said

    with visitors.desk.place():
        wave = samples_of(await whole_body(request, round(2 * PIECE * rate)))
        return HTMLResponse(await run_in_threadpool(ended, wave))
