"""The server of `ser serve`: the application, the socket on which it listens, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from embedcache import SerError

from . import timeline
from .access import Access, AccessCheck, Credentials, hosts_for
from .api import add_api
from .connections import TimedProtocol
from .metrics import Metrics
from .operations import add_operations
from .request_log import JsonHandler, RequestLog
from .service import PredictionService

GRACE = 7.0  # seconds in which running requests may end after SIGTERM; `docker stop` kills after 10
IDLE_THREADS_END = 0.5  # seconds in which threads without work end
PATHS = ("/docs", "/docs.css", "/openapi.json", "/metrics")
PUBLIC = ("/health", "/ready")


def build_app(
    service: PredictionService, access: Access, on_ready: Callable[[], None] = lambda: None, title: str = "ser serve"
) -> FastAPI:
    """Return the application of a service, for any ASGI server. `on_ready` is called when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A thread for each request that may wait: without it, requests would wait unseen for a thread.
        current_default_thread_limiter().total_tokens = max(40, 8 + service.max_waiting)
        on_ready()
        yield

    app = FastAPI(title=title, openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(AccessCheck, access=access)
    add_api(app, service)
    app.include_router(timeline.router)
    add_operations(app, Metrics(service), access.credentials.scheme if access.credentials else "")
    return app


def serve(
    service: PredictionService,
    listening: socket.socket,
    token: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve the API on the socket of `listen_on`, until Ctrl-C or SIGTERM. `log` receives the address.

    Standard error receives a line of JSON for each request.
    """
    root = address_of(listening)
    credentials = Credentials.of_token(token) if token else None
    access = Access(credentials, hosts_for(listening.getsockname()[0]), PATHS, ("/api/",), PUBLIC)
    service.warm_up()
    logging.captureWarnings(capture=True)
    logging.getLogger().addHandler(JsonHandler(_write_line))
    run_server(
        build_app(service, access, lambda: log(f"{root} (/docs describes the API; Ctrl-C ends it)")),
        listening,
        GRACE,
        _write_line,
    )
    end(service)


def end(service: PredictionService) -> None:
    """Drop what waits in a service whose server has ended, and end this process if a thread still computes.

    A thread cannot be interrupted, and nobody waits for it any more.
    """
    service.queue.close()
    until = time.monotonic() + IDLE_THREADS_END
    others = [one for one in threading.enumerate() if not one.daemon and one is not threading.current_thread()]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        os._exit(0)


def _write_line(line: str) -> None:
    with suppress(OSError, ValueError):  # a log that nobody reads ends no request
        sys.stderr.write(line)
        sys.stderr.flush()


def run_server(
    app: FastAPI, listening: socket.socket, grace: float, write: Callable[[str], None] | None = None
) -> None:
    """Run an application of `build_app` until Ctrl-C or SIGTERM; running requests then have `grace` seconds to end.

    `write` receives a line of JSON for each request. Raises SerError if another server took the port meanwhile.
    """
    import uvicorn

    with _port_errors(*listening.getsockname()[:2]):
        listening.listen()

    config = uvicorn.Config(
        RequestLog(app, app.state.metrics.count_request, write),
        http=TimedProtocol,
        log_config=None if write else uvicorn.config.LOGGING_CONFIG,
        log_level="error",
        access_log=False,
        ws="none",
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
    """Open a socket that listens once a server runs on it: before, connections are refused.

    Raises SerError if the port is taken, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the name of TCP, asyncio leaves Nagle's algorithm on, and the body of a response comes 40 ms late.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _port_errors(host, port):
            listening.bind((host, port))
        yield listening


@contextmanager
def _port_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, TypeError) as error:  # TypeError: the host has a NUL
        reason = getattr(error, "strerror", None) or error
        raise SerError(
            f"cannot listen on {host}:{port}: {reason}. Choose another --port; 0 takes a free one."
        ) from error
