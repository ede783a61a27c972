"""The server of `ser demo`: the HTTP API of `ser serve`, and beside it the page and its routes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..serving.access import LOCAL, Access, Credentials, hosts_for
from ..serving.server import PATHS, PUBLIC, address_of, end, run_server
from ..serving.server import build_app as build_service
from ..serving.service import PredictionService

OPEN_PREFIXES = ("/api/", "/page/")
# The browser loads nothing but the page's own files, and runs no script or style that is written into the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


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
    from fastapi.staticfiles import StaticFiles

    from . import live_sessions, page

    credentials = Credentials.of_password(auth) if auth else None
    access = Access(credentials, hosts, ("/", *PATHS), OPEN_PREFIXES, PUBLIC, POLICY)
    app = build_service(service, access, on_ready, "ser demo")
    app.state.live_sessions, app.state.banner = live_sessions.LiveSessions(service), banner
    app.include_router(live_sessions.router, include_in_schema=False)
    app.include_router(page.router, include_in_schema=False)
    app.mount("/page/static", StaticFiles(directory=Path(__file__).parent / "static"))
    return app


def serve(
    service: PredictionService,
    listening: socket.socket,
    auth: str,
    banner: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve page and API on a socket of `listen_on`, until Ctrl-C or SIGTERM. `log` receives the address."""
    hosts = hosts_for(listening.getsockname()[0])
    app = build_app(service, auth, hosts, banner, lambda: log(f"{address_of(listening)} (Ctrl-C ends it)"))
    run_server(app, listening, grace=1)
    end(service)
