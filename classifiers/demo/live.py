"""What the page asks while somebody speaks: sound in, in pieces, the page part out; an ear a visitor, for a while."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from embedcache import AudioError
from embedcache.audio import Waveform

from .api import Models, samples_of, whole_body
from .desk import Busy, Desk, Ear
from .view import live_html

LONGEST = 600.0  # seconds that one visitor may speak without a stop
IDLE = 60.0  # seconds without sound, after which an ear is forgotten
MOST = 64  # visitors at once

router = APIRouter(prefix="/live")


@dataclass
class Visitor:
    """Who speaks: an ear, and when it last heard something."""

    ear: Ear
    last: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Visitors:
    """Ears by the name that a page gave its visitor."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._held: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def hear(self, name: str, rate: int, models: list[str], abstain_below: float | None, wave: Waveform) -> str:
        """The page part after more sound, empty where it says nothing new. Raises AudioError, Busy and UnknownName."""
        visitor = self._visitor(name, rate, models)
        with visitor.lock:
            visitor.last = time.monotonic()
            ear = visitor.ear
            ear.abstain_below = abstain_below
            if ear.arriving.length / ear.arriving.rate > LONGEST:
                raise AudioError(f"that was {LONGEST / 60:.0f} minutes: listening has stopped. Press Listen to go on.")
            return live_html(ear.heard) if ear.push(wave) else ""

    def end(self, name: str) -> str:
        """The page part of sound that has ended; its ear is forgotten."""
        with self._lock:
            visitor = self._held.pop(name, None)
        if visitor is None:
            return ""
        with visitor.lock:
            visitor.ear.close()
            return live_html(visitor.ear.heard)

    def _visitor(self, name: str, rate: int, models: list[str]) -> Visitor:
        with self._lock:
            now = time.monotonic()
            self._held = {known: one for known, one in self._held.items() if now - one.last < IDLE}
            if name not in self._held:
                if len(self._held) >= MOST:
                    raise Busy(f"busy: {MOST} others are listened to. Try again in a minute.")
                self._held[name] = Visitor(self.desk.ear(rate, models))
            return self._held[name]


@router.post("/hear")
async def hear(
    request: Request,
    id: Annotated[str, Query(max_length=64)],
    rate: int,
    model: Models = None,
    abstain_below: float = 0,
) -> HTMLResponse:
    """More sound of a visitor."""
    visitors: Visitors = request.app.state.visitors
    wave = samples_of(await whole_body(request))
    said = await run_in_threadpool(visitors.hear, id, rate, model or [], abstain_below or None, wave)
    return HTMLResponse(said)


@router.post("/end")
async def end(
    request: Request,
    id: Annotated[str, Query(max_length=64)],
    rate: int,
    model: Models = None,
    abstain_below: float = 0,
) -> HTMLResponse:
    """The last sound of a visitor."""
    visitors: Visitors = request.app.state.visitors
    wave = samples_of(await whole_body(request))

    def ended() -> str:
        try:
            visitors.hear(id, rate, model or [], abstain_below or None, wave)
        finally:
            said = visitors.end(id)
        return said

    return HTMLResponse(await run_in_threadpool(ended))
