"""The routes for those who run a server: whether it lives and is ready, what it has done, and the page of the API."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

router = APIRouter()


def add_operations(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.include_router(router)


@router.get("/health")
def health() -> dict[str, str]:
    """Return `ok` as long as the process answers."""
    return {"status": "ok"}
