"""The routes of the page beside the API: example sounds, and live sessions, to which sound is sent piece by piece.

A browser cannot stream sound to `/api/listen` and read its lines meanwhile, so a session keeps the stream open for it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from embedcache import AudioError, UnknownName
from embedcache.audio.decode import Waveform, check_rate
from embedcache.synthetic import wav_bytes

from ..inference.predictor import check_abstain_below
from ..inference.windows import decode_pcm16
from ..serving.api import ModelNames, options, to_json_object
from ..serving.bodies import read_body
from ..serving.service import Busy, LiveStream, ModelPrediction, PredictionService, Slot
from .examples import EXAMPLES

MAX_SESSION = 600.0  # longest live sound without a stop, in seconds
MAX_CHUNK = 30.0  # longest sound of one request, in seconds
IDLE = 60.0  # time without sound after which a session is dropped, in seconds
MAX_SESSIONS = 64  # sessions at once

SessionId = Annotated[str, Query(max_length=64)]

router = APIRouter(prefix="/page")


@dataclass
class LiveSession:
    """One visitor's live sound, for the chosen models and the sample rate of the microphone."""

    rate: int  # Hz
    models: tuple[str, ...]  # names; empty for all models
    stream: LiveStream
    last_used: float = field(default_factory=time.monotonic)  # time of the last request, in seconds
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_in_use(self, now: float) -> bool:
        """Whether the session has a request that waits or runs, or had one shortly before the time `now`."""
        return self.lock.locked() or now - self.last_used < IDLE


class LiveSessions:
    """The live sessions of all visitors, by the id that the page chose for its visitor."""

    def __init__(self, service: PredictionService) -> None:
        self.service = service
        self._sessions: dict[str, LiveSession] = {}
        self._lock = threading.Lock()

    def push(
        self, session_id: str, rate: int, models: list[str], abstain_below: float | None, wave: Waveform
    ) -> list[ModelPrediction]:
        """Add sound to a session, and return the predictions of the windows that are complete with it.

        A session starts anew if the models or the sample rate differ from its last call. Raises AudioError,
        ConfigError, UnknownName and Busy.
        """
        with options():
            check_abstain_below(abstain_below)
        session = self._find_or_start(session_id, rate, tuple(models))
        with session.lock:
            session.last_used, stream = time.monotonic(), session.stream
            if stream.window_stream.length / stream.window_stream.rate > MAX_SESSION:
                raise AudioError(f"stopped after {MAX_SESSION / 60:.0f} min of live sound. Press Listen to continue.")
            return stream.push(wave, abstain_below)

    def end(self, session_id: str, abstain_below: float | None) -> list[ModelPrediction]:
        """End a session, drop it, and return the predictions of its last windows; none if there is no such session."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        if session is None:
            return []
        with session.lock:
            return session.stream.close(abstain_below)

    def _find_or_start(self, session_id: str, rate: int, models: tuple[str, ...]) -> LiveSession:
        with self._lock:
            now = time.monotonic()
            self._sessions = {key: old for key, old in self._sessions.items() if old.is_in_use(now)}
            session = self._sessions.get(session_id)
            if session is None and len(self._sessions) >= MAX_SESSIONS:
                raise Busy(f"busy: {MAX_SESSIONS} live sessions are open. Try again in a minute.", round(IDLE))
            if session is None or (session.rate, session.models) != (rate, models):
                session = LiveSession(rate, models, self.service.open_stream(rate, models))
                self._sessions[session_id] = session
            return session


@router.get("/example")
def example(name: str) -> Response:
    """Return an example sound as a WAV file."""
    if name not in EXAMPLES:
        raise UnknownName("example", name, EXAMPLES)
    return Response(wav_bytes(EXAMPLES[name]()), media_type="audio/wav")


@router.post("/hear")
async def push_sound(
    request: Request, id: SessionId, rate: int, model: ModelNames = None, abstain_below: float = 0
) -> Any:
    """Add sound to a live session, and return the predictions of the windows that are complete with it."""
    check_rate(rate)
    sessions: LiveSessions = request.app.state.live_sessions
    with sessions.service.reserve_slot() as slot:  # before the sound is added: after "busy" the page sends it again
        wave = await _read_chunk(request, rate, slot)
        pairs = await run_in_threadpool(sessions.push, id, rate, model or [], abstain_below or None, wave)
    return {"predictions": [to_json_object(pair) for pair in pairs]}


@router.post("/end")
async def end_session(
    request: Request, id: SessionId, rate: int, model: ModelNames = None, abstain_below: float = 0
) -> Any:
    """Add the last sound to a live session, end it, and return the predictions of its last windows."""
    check_rate(rate)
    sessions: LiveSessions = request.app.state.live_sessions

    def push_and_end(wave: Waveform) -> list[ModelPrediction]:
        pairs: list[ModelPrediction] = []
        try:
            pairs = sessions.push(id, rate, model or [], abstain_below or None, wave)
        finally:
            pairs += sessions.end(id, abstain_below or None)
        return pairs

    with sessions.service.reserve_slot() as slot:
        pairs = await run_in_threadpool(push_and_end, await _read_chunk(request, rate, slot))
    return {"predictions": [to_json_object(pair) for pair in pairs]}


async def _read_chunk(request: Request, rate: int, slot: Slot) -> Waveform:
    return decode_pcm16(await read_body(request, slot, round(2 * MAX_CHUNK * rate)))  # two bytes a sample
