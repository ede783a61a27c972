"""The page: record or upload, or speak and watch; what the models are. A Gradio app whose answers come from a desk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from embedcache import AudioError, Recording, SerError
from embedcache.sample import wav_bytes

from .desk import SECONDS, Desk, steps
from .examples import EXAMPLES
from .view import about_html, answer_html, fault_html, rendered

TITLE = "ser: what a voice shows"
UNSURE = 0.35  # where the slider stands at first
LINGER = 10.0  # seconds that a file stays on the disk for the page's own player to fetch it
RECORDED = 5  # seconds of the button

# Presses the recorder's own buttons: it asks for the microphone, and knows what to do without one.
RECORD = f"""async () => {{
  const clip = document.getElementById('ser-clip');
  const is = (button, name) => button.ariaLabel === name || button.innerText.trim() === name;
  const named = (name) => [...clip.querySelectorAll('button')].find((button) => is(button, name));
  const press = async (name) => {{
    for (let tries = 0; tries < 20 && !named(name); tries++) await new Promise((done) => setTimeout(done, 50));
    named(name)?.click();
  }};
  if (named('Stop')?.offsetParent) return;
  named('Clear')?.click();
  await press('Record audio');
  await press('Record');
  setTimeout(() => press('Stop'), {1000 * RECORDED + 300});
}}"""

EMPTY = '<p class="ser-hint">What is heard will be answered here.</p>'


def build_page(desk: Desk, banner: str = "", root: str = "http://127.0.0.1:7860") -> Any:
    """The page over a desk; `banner` is said above everything."""
    import gradio as gr

    names = list(desk.models)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(apply_default_css=False, value=_top(desk, banner))
        with gr.Row():
            chosen = gr.CheckboxGroup(
                names,
                value=names[:2],
                label="Models, side by side",
                visible=len(names) > 1,
                elem_id="ser-models",
                min_width=300,
            )
            bound = gr.Slider(
                0,
                0.95,
                value=UNSURE,
                step=0.05,
                label="“Not sure” below this probability",
                elem_id="ser-bound",
                min_width=300,
                buttons=[],
            )
        with gr.Tabs():
            with gr.Tab("Record or upload"):
                _clip_tab(gr, desk, chosen, bound)
            with gr.Tab("Live"):
                _live_tab(gr)
            with gr.Tab("About the model" if len(names) == 1 else "About the models"):
                gr.HTML(apply_default_css=False, value=about_html(list(desk.models.values())))
            with gr.Tab("HTTP API"):
                gr.HTML(apply_default_css=False, value=rendered("api.html", root=root))
    return page


def _top(desk: Desk, banner: str) -> str:
    kept = (
        f"Recordings and uploads are kept in {desk.keep}; what is said live is not."
        if desk.keep
        else "Nothing that you say or upload is kept: it is heard, answered and deleted, on this machine."
    )
    return rendered("top.html", title=TITLE, kept=kept, banner=banner, models=list(desk.models.values()))


def _clip_tab(gr: Any, desk: Desk, chosen: Any, bound: Any) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            clip = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=f"Your recording: WAV, FLAC, OGG or MP3, up to {SECONDS / 60:.0f} minutes",
                elem_id="ser-clip",
                editable=False,
                buttons=[],
            )
            five = gr.Button(f"Record {RECORDED} seconds", variant="primary")
            gr.HTML(apply_default_css=False, value='<p class="ser-hint">Or try a sound that was made up:</p>')
            with gr.Row():
                tries = [gr.Button(name, size="sm", min_width=140) for name in EXAMPLES]
        with gr.Column(scale=3, min_width=320):
            out = gr.HTML(apply_default_css=False, value=EMPTY, min_height=200)
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "queue": False}
    five.click(None, js=RECORD, api_visibility="private")
    for event in (clip.upload, clip.stop_recording):
        event(partial(heard, desk), [clip, chosen, bound], out, **quiet)
    clip.clear(lambda: EMPTY, None, out, **quiet)
    for button in tries:
        button.click(partial(tried, desk), [button, chosen, bound], [clip, out], **quiet)


def _live_tab(gr: Any) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            gr.HTML(apply_default_css=False, value=rendered("live.html"))
        with gr.Column(scale=3, min_width=320):
            gr.HTML(apply_default_css=False, value=f'<div id="ser-live-out">{EMPTY}</div>', min_height=200)


def heard(desk: Desk, path: str | None, names: list[str], bound: float) -> str:
    """The page part of a recording that the browser sent."""
    return _said(lambda: _answer(desk, take(path), names, bound)) if path else ""


def tried(desk: Desk, name: str, names: list[str], bound: float) -> tuple[Any, str]:
    """An example, for the player, and its page part."""
    data = wav_bytes(EXAMPLES[name]())
    sound, rate = Recording.of(data, name).sound()
    return (rate, (sound[:, 0] * 32767).astype("int16")), _said(lambda: _answer(desk, (data, name), names, bound))


def take(path: str) -> tuple[bytes, str]:
    """The bytes and the name of a file that the browser sent, which is soon no more."""
    from gradio.utils import get_upload_folder

    place = Path(path)
    try:
        data = place.read_bytes()
    except OSError as error:
        raise AudioError("the recording did not arrive. Send it again.") from error
    if Path(get_upload_folder()) in place.parents:
        later = threading.Timer(LINGER, shutil.rmtree, (place.parent,), {"ignore_errors": True})
        later.daemon = True
        later.start()
    return data, place.name


def _answer(desk: Desk, sent: tuple[bytes, str], names: list[str], bound: float) -> str:
    recording = desk.read(*sent)
    windows = steps(recording.promised())
    return answer_html(desk.answer(recording, names, windows, bound or None, explained=True))


def _said(answer: Callable[[], str]) -> str:
    try:
        return answer()
    except SerError as error:
        return fault_html(str(error))
