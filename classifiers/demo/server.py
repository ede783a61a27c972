"""The server of the demo: the service of `ser serve`, and a page that is its client."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..serving.access import LOCAL, Access, Credentials, hosts_for
from ..serving.server import PATHS, PUBLIC, address_of, run_server
from ..serving.server import build_app as build_service
from ..serving.service import PredictionService

# The paths that a browser needs of Gradio to show the page, and the prefixes that are open. Gradio's other routes would
# read any file, or request any address, that a visitor names, and keep uploads. The page uses none of them.
GRADIO_PATHS = ("/", "/theme.css", "/favicon.ico", "/manifest.json")
OPEN_PREFIXES = ("/api/", "/page/", "/assets/", "/static/")
SOURCES = "'self' 'unsafe-inline' 'unsafe-eval' data: blob:"  # Gradio writes styles and scripts into the page
POLICY = f"default-src {SOURCES}; frame-ancestors 'self'; form-action 'self'"


def build_app(
    service: PredictionService,
    auth: str = "",
    hosts: tuple[str, ...] = LOCAL,
    banner: str = "",
    root: str = "",
    on_ready: Callable[[], None] = lambda: None,
) -> Any:
    """Return the application, page and API, for any ASGI server.

    `hosts` are the host names that it accepts; empty for all. `on_ready` is called when it starts to serve.
    """
    import gradio as gr
    from fastapi.staticfiles import StaticFiles

    from .live_sessions import LiveSessions, router
    from .page import build_page

    credentials = Credentials.of_password(auth) if auth else None
    access = Access(credentials, hosts, (*GRADIO_PATHS, *PATHS), OPEN_PREFIXES, PUBLIC, POLICY)
    app, here = build_service(service, access, on_ready, "ser demo"), Path(__file__).parent
    app.state.live_sessions = LiveSessions(service)
    app.include_router(router, include_in_schema=False)
    app.mount("/page/static", StaticFiles(directory=here / "static"))
    return gr.mount_gradio_app(
        app,
        build_page(service, banner, root),
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


def serve(
    service: PredictionService,
    listening: socket.socket,
    auth: str,
    banner: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve page and API on a socket of `listen_on`, until Ctrl-C or SIGTERM. `log` receives the address."""
    root = address_of(listening)
    with _quiet_gradio():
        hosts = hosts_for(listening.getsockname()[0])
        run_server(build_app(service, auth, hosts, banner, root, lambda: log(f"{root} (Ctrl-C ends it)")), listening, 1)


@contextmanager
def _quiet_gradio() -> Iterator[None]:
    """Give Gradio a temporary folder, which is removed at the end, and turn off its analytics."""
    with tempfile.TemporaryDirectory(prefix="ser-demo-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield
