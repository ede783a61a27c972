"""One line of JSON for each request, with the id that the client sent or that is made here; nothing of its content."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .access import Message, Receive, Scope, Send, send_error

ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # of a request; other ids are replaced
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
PROBES = ("/health", "/ready")  # asked every few seconds; the log has a line only of those that fail
MAX_PATH = 200  # characters of a path in a line
NO_ANSWER = 499  # status of a request whose client went away before a response
MAX_REQUESTS = 256  # at once; probes are answered beyond it, too
RETRY_SECONDS = 5  # time after which a client should try again that was refused here, in seconds


@dataclass
class RequestRecord:
    """What is known of a request when it has ended."""

    request_id: str
    client: str
    method: str
    path: str
    route: str = "none"  # the route that answered; "none" for a request that was refused
    status: int = NO_ANSWER
    seconds: float = 0.0
    received: int = 0  # bytes
    sent: int = 0  # bytes
    error: str = ""  # traceback of an error that nobody expected


class RequestLog:
    """ASGI middleware around a whole application that logs and counts its requests."""

    def __init__(
        self, app: Any, count: Callable[[RequestRecord], None], write: Callable[[str], None] | None = None
    ) -> None:
        """`count` receives a record of each request, `write` its line; without `write`, errors are raised instead."""
        self.app, self.count, self.write = app, count, write
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; log it when it has ended."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record, begin = _record_of(scope), time.perf_counter()
        send = _counting_send(send, record)
        self._open += 1
        try:
            if self._open > MAX_REQUESTS and record.path not in PROBES:
                await _refuse(send, f"busy: {MAX_REQUESTS} other requests are open. Try again in a moment.")
            else:
                await self.app(scope, _counting_receive(receive, record), send)
        except asyncio.CancelledError:  # the server ends, and the time for running requests is over
            if record.status == NO_ANSWER:
                await _refuse(send, "the server ends. Send the request again later.")
        except Exception:
            record.error = traceback.format_exc()
            if self.write is None:
                raise
        finally:
            self._open -= 1
            record.seconds = time.perf_counter() - begin
            record.route = getattr(scope.get("route"), "path", "") or "none"
            self.count(record)
            if self.write and not (record.path in PROBES and record.status == 200):
                self.write(line_of(record))


def line_of(record: RequestRecord) -> str:
    """Return the line of a request."""
    values = {
        "request_id": record.request_id,
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "seconds": round(record.seconds, 4),
        "bytes_received": record.received,
        "bytes_sent": record.sent,
    }
    return json_line("error" if record.error else "info", values | ({"error": record.error} if record.error else {}))


def json_line(level: str, values: dict[str, Any]) -> str:
    """Return a line of the log."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": level, **values}) + "\n"


class JsonHandler(logging.Handler):
    """A handler that writes the messages of libraries as lines of the log."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        values = {"logger": record.name, "message": record.getMessage()} | ({"error": error} if error else {})
        self._write(json_line(record.levelname.lower(), values))


async def _refuse(send: Send, message: str) -> None:
    await send_error(send, 503, message, [(b"retry-after", str(RETRY_SECONDS).encode())])


def _record_of(scope: Scope) -> RequestRecord:
    headers = dict(scope["headers"])
    sent = headers.get(b"x-request-id", b"").decode("latin-1")
    client = scope["client"][0] if scope.get("client") else ""
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    return RequestRecord(
        sent if ID.fullmatch(sent) else secrets.token_hex(8), client, method, str(scope["path"])[:MAX_PATH]
    )


def _counting_receive(receive: Receive, record: RequestRecord) -> Receive:
    async def counted() -> Message:
        message = await receive()
        record.received += len(message.get("body", b""))
        return message

    return counted


def _counting_send(send: Send, record: RequestRecord) -> Send:
    """Return a `send` that counts, and adds the id to the headers of the response."""

    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", record.request_id.encode())]
        record.sent += len(message.get("body", b""))
        await send(message)

    return counted
