"""Connections: one whose request does not begin in time, or whose client takes no response, is ended.

uvicorn alone would wait for ever, and count such connections among those that it has.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 30.0  # longest time in which the headers of a request may arrive, in seconds
MAX_CONNECTIONS = 512  # at once; further ones are closed at once
SEND_TIMEOUT = 60.0  # longest time in which a client may take what waits to be sent to it, in seconds


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, with time limits for the headers of a request, and for what is sent to a client."""

    _timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # writing is paused whenever something waits to be sent
        self._wait()
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def pause_writing(self) -> None:
        """Begin to wait for the client, also if the connection is being closed."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(SEND_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer: everything was sent."""
        super().resume_writing()
        self._stop_sending()

    def data_received(self, data: bytes) -> None:
        """Wait on if the headers are not complete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        self._stop_sending()
        super().connection_lost(exc)

    def _stop_sending(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None

    def _wait(self) -> None:
        self._timer = self._timer or self.loop.call_later(HEADER_TIMEOUT, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
