"""The page and the HTTP API on a port of this machine, and what keeps strangers out."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from embedcache import SerError

from .api import add_api
from .service import PredictionService

LOCAL = ("127.0.0.1", "localhost", "::1")
# What a browser needs of Gradio to show the page. Its other ways in would read any file, or ask any address, that a
# visitor names, and keep what is uploaded: nothing here uses them, and they are closed.
SHELL = ("/", "/theme.css", "/favicon.ico", "/manifest.json")
BELOW = ("/api/", "/page/", "/assets/", "/static/")
SOURCES = "'self' 'unsafe-inline' 'unsafe-eval' data: blob:"  # Gradio writes styles and scripts into the page
POLICY = (
    (b"content-security-policy", f"default-src {SOURCES}; frame-ancestors 'self'; form-action 'self'".encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
CALLERS = 256  # connections at once

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gate:
    """Lets in who names this machine (DNS rebinding), comes from its own page, and knows the password if there is one.

    What is let in is asked for its page, or ours; answers carry a policy by which a browser asks nobody else.
    """

    def __init__(self, app: Any, auth: str = "", hosts: tuple[str, ...] = LOCAL) -> None:
        self.app, self.hosts, self.auth = app, hosts, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal:
            await _refuse(send, *refusal)
            return
        with suppress(asyncio.CancelledError):  # the server ends; who waits is told by the closed connection
            await self.app(scope, receive, _guarded(send))

    def _refusal(self, method: str, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if self.hosts and _name_of(host) not in self.hosts:
            return 421, f"this is {' or '.join(self.hosts)}, not {host}."
        if self.auth and not self._knows(headers.get(b"authorization", "")):
            return 401, "wanted the user and password that `ser demo --auth` was given."
        origin, site = headers.get(b"origin", ""), headers.get(b"sec-fetch-site", "")
        if method != "GET" and (site == "cross-site" or (origin and origin.partition("://")[2] != host)):
            return 403, "another page may not ask for this."
        if path not in SHELL and not path.startswith(BELOW):
            return 404, "nothing is here."
        return None

    def _knows(self, said: str) -> bool:
        scheme, _, given = said.partition(" ")
        wanted = base64.b64encode(self.auth.encode()).decode()
        return scheme.lower() == "basic" and secrets.compare_digest(given.strip().encode(), wanted.encode())


def _name_of(host: str) -> str:
    """A host without its port, brackets and last dot, in small letters."""
    inside, bracket, _ = host.partition("]")
    name = inside[1:] if bracket and inside.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def _guarded(send: Send) -> Send:
    async def guarded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *POLICY]
        await send(message)

    return guarded


async def _refuse(send: Send, status: int, said: str) -> None:
    asks = [(b"www-authenticate", b'Basic realm="ser", charset="UTF-8"')] if status == 401 else []
    body = json.dumps({"error": said}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *asks]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def build_app(
    desk: PredictionService,
    auth: str = "",
    hosts: tuple[str, ...] = LOCAL,
    banner: str = "",
    root: str = "",
    ready: Callable[[], None] = lambda: None,
) -> Any:
    """The whole application, for any ASGI server. `hosts` are the names it answers to; none: to all.

    `ready` is called when it is about to answer.
    """
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles

    from .live_sessions import LiveSessions, router
    from .page import build_page

    @asynccontextmanager
    async def awake(app: FastAPI) -> AsyncIterator[None]:
        ready()
        yield

    app, here = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=awake), Path(__file__).parent
    app.add_middleware(Gate, auth=auth, hosts=hosts)
    add_api(app, desk)
    app.state.visitors = LiveSessions(desk)
    app.include_router(router)
    app.mount("/page/static", StaticFiles(directory=here / "static"))
    return gr.mount_gradio_app(
        app,
        build_page(desk, banner, root),
        "/",
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate"),
        css_paths=here / "page.css",
        head='<script type="module" src="/page/static/page.js"></script>',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def check_access(host: str, auth: str) -> None:
    """Raises SerError where strangers could come in without a password, or for what is none."""
    if host not in LOCAL and not auth:
        raise SerError(f"--host {host} lets other machines in: give --auth USER:PASSWORD, or leave --host out.")
    if auth and not all(auth.partition(":")):
        raise SerError("--auth has no password; wanted USER:PASSWORD.")


def serve(
    desk: PredictionService,
    listening: socket.socket,
    auth: str,
    banner: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Answer on a socket of `listen_on` until Ctrl-C, or until the process is told to end."""
    import uvicorn

    host, port = listening.getsockname()[:2]
    root = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with suppress(KeyboardInterrupt), _quiet_gradio():
        hosts = LOCAL if host in LOCAL else ()
        app = build_app(desk, auth, hosts, banner, root, lambda: log(f"{root} (Ctrl-C ends it)"))
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            ws="none",
            limit_concurrency=CALLERS,
            timeout_graceful_shutdown=1,
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)  # uvicorn ends what is under way, then raises it again
        uvicorn.Server(config).run(sockets=[listening])


def _end(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def listen_on(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises SerError for a port that is taken, or a host that is not this machine."""
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


@contextmanager
def _quiet_gradio() -> Iterator[None]:
    """Gradio with a folder of its own, gone at the end, and without telling anybody."""
    with tempfile.TemporaryDirectory(prefix="ser-demo-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield
