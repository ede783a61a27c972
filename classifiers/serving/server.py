"""The server of `ser serve`: the application, the socket on which it listens, and how it ends."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from fastapi import FastAPI

from embedcache import SerError

from .access import Access, AccessCheck, Credentials, hosts_for
from .api import add_api
from .operations import add_operations
from .service import PredictionService

MAX_CONNECTIONS = 256  # at once
GRACE = 8.0  # seconds in which running requests may end after SIGTERM; `docker stop` kills after 10
PATHS = ("/", "/docs", "/openapi.json", "/metrics")
PUBLIC = ("/health", "/ready")


def build_app(
    service: PredictionService, access: Access, on_ready: Callable[[], None] = lambda: None, about: str = "ser serve"
) -> FastAPI:
    """Return the application of a service, for any ASGI server. `on_ready` is called when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        on_ready()
        yield

    app = FastAPI(title=about, openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(AccessCheck, access=access)
    add_api(app, service)
    add_operations(app)
    return app


def serve(
    service: PredictionService,
    listening: socket.socket,
    token: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve the API on a socket of `listen_on`, until Ctrl-C or SIGTERM. `log` receives the address."""
    root = address_of(listening)
    credentials = Credentials.of_token(token) if token else None
    access = Access(credentials, hosts_for(listening.getsockname()[0]), PATHS, ("/api/",), PUBLIC)
    run_server(build_app(service, access, lambda: log(f"{root} (Ctrl-C ends it)")), listening)


def run_server(app: Any, listening: socket.socket, grace: float = GRACE) -> None:
    """Run an application until Ctrl-C or SIGTERM; running requests then have `grace` seconds to end."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=round(grace),
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # uvicorn ends running requests, then raises the signal again
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def address_of(listening: socket.socket) -> str:
    """Return the address of a listening socket, as a browser takes it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


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
