"""The page: record or upload, or speak and watch; what the models are.

Gradio makes the shell: tabs, choices, colours. What is said goes from `static/page.js` to `visits`, and through none of
Gradio's own ways into a server, which read files and addresses that a visitor names: `server` leaves those closed.
"""

from __future__ import annotations

from typing import Any

from .answer_html import about_html, rendered
from .examples import EXAMPLES
from .service import SECONDS, PredictionService

TITLE = "ser: what a voice shows"
UNSURE = 0.35  # where the slider stands at first


def build_page(desk: PredictionService, banner: str = "", root: str = "http://127.0.0.1:7860") -> Any:
    """The page over a desk; `banner` is said above everything."""
    import gradio as gr

    names, models = list(desk.models), list(desk.models.values())

    def html(text: str) -> None:
        gr.HTML(text, apply_default_css=False)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        html(rendered("top.html", title=TITLE, kept=_kept(desk), banner=banner, models=models, names=names))
        with gr.Row():
            gr.CheckboxGroup(
                names,
                value=names[:2],
                label="Models, side by side",
                visible=len(names) > 1,
                elem_id="ser-models",
                interactive=True,  # Gradio knows no event of it
                min_width=300,
            )
            gr.Slider(
                0,
                0.95,
                value=UNSURE,
                step=0.05,
                label="“Not sure” below this probability",
                elem_id="ser-bound",
                interactive=True,
                buttons=[],
                min_width=300,
            )
        with gr.Tabs():
            with gr.Tab("Record or upload"):
                html(rendered("clip.html", minutes=SECONDS / 60, examples=list(EXAMPLES)))
            with gr.Tab("Live"):
                html(rendered("live.html"))
            with gr.Tab("About the model" if len(names) == 1 else "About the models"):
                html(about_html(models))
            with gr.Tab("HTTP API"):
                html(rendered("api.html", root=root))
    return page


def _kept(desk: PredictionService) -> str:
    if desk.keep:
        return f"Recordings and uploads are kept in {desk.keep}; what is said live is not."
    return "Nothing that you say or upload is kept: it is heard and answered in this machine's memory, and forgotten."
