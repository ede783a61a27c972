"""The page: record or upload a recording, predict live, read about the models.

Gradio builds the shell: tabs, choices, colours. Sound goes from `static/page.js` to the routes of `live_sessions`,
never through Gradio's own routes, which read files and addresses that a visitor names. `server` keeps those closed.
"""

from __future__ import annotations

from typing import Any

from ..serving.service import MAX_SECONDS, PredictionService
from .answer_html import about_html, render
from .examples import EXAMPLES

TITLE = "ser: speech emotion recognition"
ABSTAIN_BELOW = 0.35  # first value of the slider


def build_page(service: PredictionService, banner: str = "", root: str = "http://127.0.0.1:7860") -> Any:
    """Return the Gradio page of a service. `banner` is shown at the top; `root` is the address in the API examples."""
    import gradio as gr

    names, models = list(service.models), list(service.models.values())

    def add_html(text: str) -> None:
        gr.HTML(text, apply_default_css=False)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        privacy = _privacy_text(service)
        add_html(render("top.html", title=TITLE, privacy=privacy, banner=banner, models=models, names=names))
        with gr.Row():
            _add_choices(names)
        with gr.Tabs():
            with gr.Tab("Record or upload"):
                add_html(render("clip.html", minutes=MAX_SECONDS / 60, examples=list(EXAMPLES)))
            with gr.Tab("Live"):
                add_html(render("live.html"))
            with gr.Tab("About the model" if len(names) == 1 else "About the models"):
                add_html(about_html(models))
            with gr.Tab("HTTP API"):
                add_html(render("api.html", root=root))
    return page


def _add_choices(names: list[str]) -> None:
    """Add the choice of models and of the confidence below which a model abstains. `page.js` reads both."""
    import gradio as gr

    gr.CheckboxGroup(
        names,
        value=names[:2],
        label="Models, side by side",
        visible=len(names) > 1,
        elem_id="ser-models",
        interactive=True,  # Gradio makes inputs without an event listener read-only
        min_width=300,
    )
    gr.Slider(
        0,
        0.95,
        value=ABSTAIN_BELOW,
        step=0.05,
        label="“Not sure” below this confidence",
        elem_id="ser-bound",
        interactive=True,
        buttons=[],
        min_width=300,
    )


def _privacy_text(service: PredictionService) -> str:
    if service.keep:
        return f"Recordings and uploads are kept in {service.keep}. Live sound is not kept."
    return (
        "Nothing that you say or upload is kept. Predictions are computed in the memory of the machine that runs ser."
    )
