"""Responses whose lines are sent as they come: JSON lines, or server-sent events if a client asks for them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

JSON_LINES, EVENTS = "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class Event:
    """One line of a response."""

    kind: str  # its event name among server-sent events, its field `event` in JSON lines
    values: Mapping[str, Any]

    def to_text(self, media_type: str) -> str:
        """Return the event as it is sent."""
        if media_type == EVENTS:
            return f"event: {self.kind}\ndata: {json.dumps(self.values)}\n\n"
        return json.dumps({"event": self.kind, **self.values}) + "\n"


def wanted_type(request: Request) -> str:
    """Return the media type of events that a request accepts: server-sent events if it names them, else JSON lines."""
    return EVENTS if EVENTS in request.headers.get("accept", "") else JSON_LINES


class DuplexResponse(StreamingResponse):
    """A response that is written while the request is still being read.

    Starlette's own streaming response reads the request too, to notice a client that disconnects.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Write the response. The iterator of its lines reads the request."""
        await self.stream_response(send)


class EventResponse(DuplexResponse):
    """A response of events. What goes wrong before the first event gets a status of its own."""

    def __init__(self, events: AsyncGenerator[Event], media_type: str) -> None:
        super().__init__((), media_type=media_type, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._events, self._type = events, media_type

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait for the first event, and write the response."""
        async with aclosing(self._events) as events:
            self.body_iterator = self._texts(await anext(events), events)
            await super().__call__(scope, receive, send)

    async def _texts(self, first: Event, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        yield first.to_text(self._type)
        async for event in events:
            yield event.to_text(self._type)
