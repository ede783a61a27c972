"""The server of the page and of the HTTP API, and the checks that refuse requests from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from embedcache import SerError

from .api import add_api
from .service import PredictionService

LOCAL = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/", "/favicon.ico")
OPEN_PREFIXES = ("/api/", "/page/")
# The browser loads nothing but the page's own files, and runs no script or style that is written into the page.
CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
POLICY = (
    (b"content-security-policy", CONTENT.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
MAX_CONNECTIONS = 256  # at once

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AccessCheck:
    """ASGI middleware that refuses requests without permission, and paths that the page does not need.

    A request must name this machine as its host (against DNS rebinding), must not come from another page, and must have
    the password if there is one. Responses carry a policy by which the browser sends requests nowhere else.
    """

    def __init__(self, app: Any, auth: str = "", hosts: tuple[str, ...] = LOCAL) -> None:
        self.app, self.hosts, self.auth = app, hosts, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal:
            await _refuse(send, *refusal)
            return
        with suppress(asyncio.CancelledError):  # when the server ends, the closed connection tells the client
            await self.app(scope, receive, _with_policy(send))

    def _refusal(self, method: str, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """Return status and message of a request that is refused, or None."""
        host = headers.get(b"host", "")
        if self.hosts and _host_name(host) not in self.hosts:
            return 421, f"got a request for the host '{host}'; wanted {' or '.join(self.hosts)}."
        if self.auth and not self._is_authorized(headers.get(b"authorization", "")):
            return 401, "wanted the user and password that `ser demo --auth` was started with."
        origin, site = headers.get(b"origin", ""), headers.get(b"sec-fetch-site", "")
        if method != "GET" and (site == "cross-site" or (origin and origin.partition("://")[2] != host)):
            return 403, "requests from other pages are refused."
        if path not in OPEN_PATHS and not path.startswith(OPEN_PREFIXES):
            return 404, "there is no page at this address."
        return None

    def _is_authorized(self, header: str) -> bool:
        scheme, _, credentials = header.partition(" ")
        expected = base64.b64encode(self.auth.encode()).decode()
        return scheme.lower() == "basic" and secrets.compare_digest(credentials.strip().encode(), expected.encode())


def _host_name(host: str) -> str:
    """Return a Host header without port, brackets and last dot, in lower case: "[::1]:7860" becomes "::1"."""
    inside, bracket, _ = host.partition("]")
    name = inside[1:] if bracket and inside.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def _with_policy(send: Send) -> Send:
    """Return a `send` that adds the headers of `POLICY`."""

    async def send_with_policy(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *POLICY]
        await send(message)

    return send_with_policy


async def _refuse(send: Send, status: int, message: str) -> None:
    challenge = [(b"www-authenticate", b'Basic realm="ser", charset="UTF-8"')] if status == 401 else []
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *challenge]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def build_app(
    service: PredictionService,
    auth: str = "",
    hosts: tuple[str, ...] = LOCAL,
    banner: str = "",
    on_ready: Callable[[], None] = lambda: None,
) -> Any:
    """Return the application, page and API, for any ASGI server.

    `hosts` are the host names that it accepts; empty for all. `on_ready` is called when it starts to serve.
    """
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles

    from . import live_sessions, page

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        on_ready()
        yield

    app, here = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan), Path(__file__).parent
    app.add_middleware(AccessCheck, auth=auth, hosts=hosts)
    add_api(app, service)
    app.state.live_sessions, app.state.banner = live_sessions.LiveSessions(service), banner
    app.include_router(live_sessions.router)
    app.include_router(page.router)
    app.mount("/page/static", StaticFiles(directory=here / "static"))
    return app


def check_access(host: str, auth: str) -> None:
    """Raise SerError if other machines could connect without a password, or if `auth` lacks a user or a password."""
    if host not in LOCAL and not auth:
        raise SerError(f"--host {host} admits other machines; wanted --auth USER:PASSWORD. Add it, or omit --host.")
    if auth and not all(auth.partition(":")):
        raise SerError("--auth has no password; wanted USER:PASSWORD.")


def serve(
    service: PredictionService,
    listening: socket.socket,
    auth: str,
    banner: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve page and API on a socket of `listen_on`, until Ctrl-C or SIGTERM. `log` receives the address."""
    import uvicorn

    host, port = listening.getsockname()[:2]
    root = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with suppress(KeyboardInterrupt):
        hosts = LOCAL if host in LOCAL else ()
        app = build_app(service, auth, hosts, banner, lambda: log(f"{root} (Ctrl-C ends it)"))
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            ws="none",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # uvicorn ends running requests, then raises the signal again
        uvicorn.Server(config).run(sockets=[listening])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def listen_on(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket. Raises SerError if the port is taken, or the host is no address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()
        except OSError as error:
            reason = error.strerror or error
            raise SerError(
                f"cannot listen on {host}:{port}: {reason}. Choose another --port; 0 takes a free one."
            ) from error
        yield listening
