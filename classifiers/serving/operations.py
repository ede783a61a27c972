"""The routes for those who run a server: whether it lives and is ready, what it has done, and the page of the API."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup, escape

from .descriptions import describe
from .metrics import Metrics
from .service import PredictionService

STYLE = Path(__file__).with_name("docs.css")
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["operations"])


def add_operations(app: FastAPI, metrics: Metrics, scheme: str = "") -> None:
    """Add the routes to an application. `scheme` is the scheme of its credentials, "" for none."""
    app.state.metrics, app.state.scheme = metrics, scheme
    app.include_router(router)


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health() -> dict[str, str]:
    """Return `ok` as long as the process answers."""
    return {"status": "ok"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready")
async def ready(request: Request) -> Response:
    """Return `ready`, or status 503 and `busy` while no further request would be accepted."""
    service: PredictionService = request.app.state.service
    full = service.open_requests > service.max_waiting
    return JSONResponse({"status": "busy" if full else "ready"}, 503 if full else 200)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics of the server in Prometheus' text format."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), media_type=TEXT_FORMAT)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Any:
    """Return the description of the API."""
    return describe(request.app, request.app.state.scheme)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return the description of the API as a page, which loads its own style and nothing else."""
    description = describe(request.app, request.app.state.scheme)
    page = templates("classifiers.serving").get_template("docs.html")
    return HTMLResponse(page.render(api=description, root=str(request.base_url).rstrip("/")))


@router.get("/docs.css", include_in_schema=False)
async def style() -> Response:
    """Return the style of the page."""
    return Response(STYLE.read_bytes(), media_type="text/css")


@cache
def templates(package: str) -> Any:
    """Return the Jinja environment of the templates in a package, which escapes what it fills in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """Return a text as HTML, with what is between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
