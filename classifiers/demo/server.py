"""The page and the HTTP API on a port of this machine, and what keeps strangers out."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from embedcache import SerError

from .api import add_api
from .desk import BYTES, Desk

PORT = 7860
LOCAL = ("127.0.0.1", "localhost", "::1")
SOURCES = "'self' 'unsafe-inline' 'unsafe-eval' data: blob:"  # Gradio writes styles and scripts into the page
POLICY = (
    (b"content-security-policy", f"default-src {SOURCES}; frame-ancestors 'self'; form-action 'self'".encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gate:
    """Lets in who knows the password, if there is one, and only requests that name this machine (DNS rebinding)."""

    def __init__(self, app: Any, auth: str = "", hosts: tuple[str, ...] = LOCAL) -> None:
        self.app, self.hosts = app, hosts
        self.wanted = b"Basic " + base64.b64encode(auth.encode()) if auth else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].strip("[]")
        if self.hosts and host not in self.hosts:
            await _refuse(send, 421, f"this is {' or '.join(self.hosts)}, not {host}.")
        elif self.wanted and not secrets.compare_digest(headers.get(b"authorization", b""), self.wanted):
            await _refuse(send, 401, "wanted the user and password that `ser demo --auth` was given.")
        else:
            await self.app(scope, receive, _guarded(send))


def _guarded(send: Send) -> Send:
    """Answers with a policy by which a browser asks nobody else for anything."""

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


def build_app(desk: Desk, auth: str = "", hosts: tuple[str, ...] = LOCAL, banner: str = "", root: str = "") -> Any:
    """The whole application, for any ASGI server. `hosts` are the names it answers to; none: to all."""
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles

    from .live import Visitors
    from .live import router as live
    from .page import build_page

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, auth=auth, hosts=hosts)
    add_api(app, desk)
    app.state.visitors = Visitors(desk)
    app.include_router(live)
    app.mount("/live/static", StaticFiles(directory=Path(__file__).with_name("static")))
    return gr.mount_gradio_app(
        app,
        build_page(desk, banner, root).queue(max_size=4 * desk.waiting, api_open=False),
        "/",
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate"),
        css_paths=Path(__file__).with_name("page.css"),
        head='<script type="module" src="/live/static/live.js"></script>',
        footer_links=[],
        run_history=False,
        max_file_size=BYTES,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def serve(
    desk: Desk, host: str, port: int, auth: str, banner: str = "", say: Callable[[str], None] = lambda line: None
) -> None:
    """Answer until Ctrl-C. Raises SerError for a port that is taken, and for strangers without a password."""
    import uvicorn

    if host not in LOCAL and not auth:
        raise SerError(f"--host {host} lets other machines in: give --auth USER:PASSWORD, or leave --host out.")
    if auth and not all(auth.partition(":")):
        raise SerError("--auth has no password; wanted USER:PASSWORD.")
    with _port(host, port) as listening, _scratch():
        root = f"http://{host}:{listening.getsockname()[1]}"
        app = build_app(desk, auth, LOCAL if host in LOCAL else (), banner, root)
        say(f"{root} (Ctrl-C ends it)")
        config = uvicorn.Config(app, log_level="error", access_log=False, ws="none", timeout_graceful_shutdown=1)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _port(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            reason = error.strerror or error
            raise SerError(
                f"cannot listen on {host}:{port}: {reason}. Choose another --port; 0 takes a free one."
            ) from error
        yield listening


@contextmanager
def _scratch() -> Iterator[None]:
    """A folder of our own for what a browser sends, gone at the end; and nothing goes out."""
    with tempfile.TemporaryDirectory(prefix="ser-demo-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield
