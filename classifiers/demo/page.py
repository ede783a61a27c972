"""The page: a template with the models in words. Its scripts, in `static`, send sound to the API and show the answers.

The page holds no framework and asks no other host for anything; its policy (`server.POLICY`) allows its own files only.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ..serving.operations import templates
from ..serving.service import MAX_BYTES, MAX_SECONDS, PredictionService
from .examples import EXAMPLES
from .model_text import model_texts

ABSTAIN_BELOW = 35  # first value of the slider, in percent
MODELS_CHOSEN = 2  # models that are chosen at first, so that an answer fits a screen

router = APIRouter()


@router.get("/")
def page(request: Request) -> HTMLResponse:
    """Return the page of the service of this application."""
    state = request.app.state
    return HTMLResponse(page_html(state.service, state.banner, str(request.base_url).rstrip("/")))


def page_html(service: PredictionService, banner: str = "", root: str = "http://127.0.0.1:7860") -> str:
    """Return the page. `banner` is shown at the top; `root` is the address in the examples of API calls."""
    models = model_texts(service.models.values())
    return str(
        templates("classifiers.demo")
        .get_template("page.html")
        .render(
            models=models,
            labels=list(dict.fromkeys(label for model in models for label in model.labels)),
            acted=all(model.acted for model in models),
            synthetic=any(model.synthetic for model in models),
            banner=banner,
            keep=service.keep,
            root=root,
            examples=list(EXAMPLES),
            abstain_below=ABSTAIN_BELOW,
            chosen=MODELS_CHOSEN,
            limits={"seconds": MAX_SECONDS, "bytes": MAX_BYTES},
        )
    )
