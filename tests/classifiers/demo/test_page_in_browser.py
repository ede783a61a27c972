"""The page in a browser: it shows what was predicted, everybody can use it, and its errors say what to do."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import ARGUMENTS, BROWSERS, HOSTILE
from helpers.extraction import extracted
from helpers.places import needs_ravdess
from helpers.sounds import noise, ravdess_tree, write

from classifiers import Predictor
from classifiers.demo import page as page_module
from classifiers.demo.server import build_app
from classifiers.inference.model import Attribution, Model, load_models
from classifiers.serving.server import listen_on
from classifiers.serving.service import PredictionService
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, Recording
from embedcache.synthetic import wav_bytes

sync = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo-browser")]
SHARES = (0.62, 0.302, 0.078)
MICROPHONE = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose probabilities are always `SHARES`."""
    root = tmp_path_factory.mktemp("page")
    extracted(ravdess_tree(root / "tree"), root / "artifacts")
    folder = fit_model(Artifacts(root / "artifacts"), ComparisonConfig(heads=("logreg",), folds=2), jobs=1)[0]
    (loaded,) = load_models([folder])
    always = replace(loaded, proba=lambda waves, _: np.tile(SHARES, (len(waves), 1)))
    return replace(always, training_sound=None)  # else the confidence of noise, unlike the training clips, is lowered


@contextlib.contextmanager
def served(service: PredictionService, **options: Any) -> Iterator[str]:
    """The application on a port of this machine, in a thread; its address."""
    import uvicorn

    ready = threading.Event()
    with listen_on("127.0.0.1", 0) as listening:
        app = build_app(service, on_ready=ready.set, **options)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        ready.wait(30)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def opened(root: str, flags: tuple[str, ...] = (), **context: Any) -> Iterator[Any]:
    """The page in chromium. It must ask nobody else, and complain of nothing but refused requests."""
    if not BROWSERS:
        pytest.skip("no chromium here")
    with sync.sync_playwright() as tool:
        chromium = tool.chromium.launch(
            executable_path=BROWSERS[0], args=[*ARGUMENTS, *(f"--{flag}" for flag in flags)]
        )
        page = chromium.new_context(viewport={"width": 390, "height": 844}, **context).new_page()
        heard: list[str] = []
        page.on("request", lambda request: heard.append(request.url))
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.goto(root)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        chromium.close()
    mine = (root, f"blob:{root}", "Failed to load resource")
    assert [one for one in heard if not one.startswith(mine)] == []


@pytest.fixture
def ask(model: Model) -> Iterator[Ask]:
    """Open the page of the model, with changes to the model and options of the browser."""
    with contextlib.ExitStack() as stack:

        def ask(models: tuple[Model, ...] = (model,), **context: Any) -> Any:
            return stack.enter_context(opened(stack.enter_context(served(PredictionService(models))), **context))

        yield ask


def sound(seconds: float = 6.3, name: str = "voice.wav") -> dict[str, Any]:
    return {"name": name, "mimeType": "audio/wav", "buffer": wav_bytes(noise(seconds))}


def choose(page: Any, file: dict[str, Any]) -> None:
    page.set_input_files("#file", file)


def bars(page: Any) -> dict[str, str]:
    """What the chart says of each label, from top to bottom."""
    labels, shares = page.locator(".bars th").all_inner_texts(), page.locator(".bars td:last-child").all_inner_texts()
    return dict(zip(labels, shares, strict=True))


def set_bound(page: Any, percent: int) -> None:
    page.evaluate(f"document.querySelector('#bound').value = {percent}")
    page.dispatch_event("#bound", "input")


def until(reached: Callable[[], bool]) -> None:
    """Wait, without a script: the policy of the page forbids those of `wait_for_function`, too."""
    for _ in range(200):
        if reached():
            return
        time.sleep(0.1)
    pytest.fail("not reached in 20 s")


def fault(page: Any) -> str:
    return str(page.wait_for_selector(".fault").inner_text()).replace("\n\n", "\n")


def test_the_charts_agree_with_the_label_above_them(ask: Ask, model: Model) -> None:
    page = ask()
    choose(page, sound())
    page.wait_for_selector(".segment")
    assert page.locator(".label").inner_text() == f"{model.labels[0]} 62 %"
    assert bars(page) == dict(zip(model.labels, ("62 %", "30 %", "8 %"), strict=True))
    assert list(bars(page)) == list(model.labels)
    widths = page.eval_on_selector_all(".bar i", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([62, 30.2, 7.8])
    assert page.locator("#timeline .name").all_inner_texts() == ["label", *model.labels]
    assert page.locator("#timeline .value").all_inner_texts() == ["62 %", "30 %", "8 %"]
    assert page.locator(".segment").all_inner_texts() == [model.labels[0]]
    assert page.locator("#announcement").inner_text() == f"Logistic regression on mfcc: {model.labels[0]}, 62 %."
    assert page.locator("#sound-title").inner_text() == "The recording: voice.wav, 6.3 s"


def test_an_abstained_answer_looks_abstained(ask: Ask, model: Model) -> None:
    page = ask()
    choose(page, sound())
    page.wait_for_selector(".segment")
    set_bound(page, 65)
    assert page.locator(".label").inner_text() == "not sure"
    assert page.locator(".why").inner_text() == (
        f"The likeliest label, {model.labels[0]}, has 62 %. Your limit for “not sure” is 65 %."
    )
    assert page.locator(".answer.unsure").count() == page.locator(".segment.unsure").count() == 1
    assert "repeating-linear-gradient" in page.eval_on_selector(
        ".bar i", "bar => getComputedStyle(bar).backgroundImage"
    )
    set_bound(page, 60)
    assert page.locator(".label").inner_text() == f"{model.labels[0]} 62 %"


def test_silence_gets_no_chart_and_says_what_to_do(ask: Ask) -> None:
    page = ask()
    page.get_by_role("button", name="Silence").click()
    page.wait_for_selector(".answer.silent")
    assert page.locator(".label").inner_text() == "too little sound"
    assert page.locator(".bars").count() == page.locator("#timeline .curve").count() == 0
    assert (
        page.locator(".note")
        .inner_text()
        .endswith("Check that the right microphone is chosen and not muted, then record again.")
    )


def test_a_click_on_the_timeline_jumps_there_and_keys_move_the_position(ask: Ask) -> None:
    page = ask()
    choose(page, sound())
    page.wait_for_selector(".segment")
    track = page.locator("#timeline .track").nth(1)
    track.click(position={"x": track.bounding_box()["width"] / 3, "y": 5})
    assert page.locator("#time").inner_text() == "0:02.1"
    slider = page.get_by_role("slider", name="Position in the recording")
    slider.press("End")
    assert page.locator("#time").inner_text() == "0:06.3"
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0.0 of 6.3 seconds"
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_role("button", name="Pause").wait_for()
    until(lambda: float(page.locator("#position").input_value()) > 0.2)


def test_several_models_answer_side_by_side(ask: Ask, model: Model) -> None:
    turned = replace(model, folder=Path("/x/turned"), proba=lambda waves, _: np.tile(SHARES[::-1], (len(waves), 1)))
    page = ask((model, turned))
    choose(page, sound())
    page.wait_for_selector("#timeline h4")
    labels = page.locator(".label").all_inner_texts()
    assert labels == [f"{model.labels[0]} 62 %", f"{model.labels[2]} 62 %"]
    titles = page.locator(".answer h3").all_inner_texts()
    assert titles == [f"Logistic regression on mfcc ({name})" for name in (model.name, "turned")]
    page.get_by_role("checkbox", name="turned").uncheck()
    until(lambda: page.locator(".answer").count() == 1)
    page.get_by_role("checkbox", name=model.name).uncheck()
    assert fault(page) == "No model is chosen\nChoose at least one model above."


def test_nothing_that_a_model_or_a_file_says_is_run(ask: Ask, model: Model) -> None:
    hostile = replace(
        model,
        folder=Path(f"/x/{HOSTILE.replace('/', '')}"),
        labels=(HOSTILE, *model.labels[1:]),
        attribution=lambda wave, batch: Attribution((0.25, 0.75), (0.1, 0.9)),
    )
    page = ask((hostile,))
    choose(page, sound(name=HOSTILE.replace("/", "")))
    page.wait_for_selector(".segment")
    assert page.locator(".label strong").inner_text() == HOSTILE
    assert page.locator("script").count() == 1
    assert page.get_by_role("img", name="layer 0: 25 %, layer 1: 75 %").count() == 1
    assert page.get_by_role("img", name="Attention, highest at 75 % of the recording").count() == 1


def test_errors_say_what_to_do(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MAX_BYTES", 2 << 20)
    monkeypatch.setattr(page_module, "MAX_SECONDS", 9.0)
    page = ask()
    choose(page, {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no sound at all" * 99})
    assert fault(page).startswith("This recording cannot be used\na.txt: is text that begins with")
    choose(page, {**sound(), "buffer": bytes(3 << 20)})
    page.get_by_text("This file is too large").wait_for()
    assert "It has 3 MB; this page takes up to 2 MB. Cut it" in fault(page)
    choose(page, sound(10.2))
    page.get_by_text("This recording is too long").wait_for()
    assert "It lasts 0:10 minutes; this page takes up to 0:09. Cut it" in fault(page)
    page.get_by_role("button", name="Record a sentence").click()
    page.get_by_text("microphone was found").or_(page.get_by_text("may not use the microphone")).wait_for()
    assert fault(page).endswith("then press the button again. Or choose a file instead.")
    choose(page, sound())
    page.wait_for_selector(".answer")
    assert page.locator(".fault").count() == 0


def test_a_server_that_is_gone_or_busy_can_be_asked_again(ask: Ask) -> None:
    page = ask()
    page.route("**/api/predict?*", lambda route: route.abort())
    choose(page, sound())
    assert fault(page) == (
        "The server does not answer\nIs ser demo still running? Start it again in its terminal, then try again.\n"
        "Try again"
    )
    page.unroute("**/api/predict?*")
    busy = iter([True, False])

    def refuse(route: Any) -> None:
        if not next(busy, False):
            return route.fallback()
        return route.fulfill(status=503, headers={"Retry-After": "0"}, json={"error": "busy"})

    page.route("**/api/predict?*", refuse)
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".segment")
    assert next(busy, None) is None
    page.route("**/api/timeline?*", lambda route: route.abort())
    choose(page, sound())
    page.get_by_text("The answers over time are missing. The server does not answer.").wait_for()
    assert page.locator(".answer").count() == 1


def test_a_file_can_be_dropped_on_the_page(ask: Ask) -> None:
    page = ask()
    drop = """(bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
        for (const kind of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
        }
    }"""
    page.evaluate(drop, list(wav_bytes(noise(1.0))))
    page.wait_for_selector(".answer")
    assert page.locator("#sound-title").inner_text() == "The recording: dropped.wav, 1.0 s"


def test_a_voice_is_recorded_and_heard_live(ask: Ask, model: Model, tmp_path: Path) -> None:
    """With the level of the microphone; a file that is dropped meanwhile takes the place of the recording."""
    spoken = write(tmp_path / "spoken.wav", 0.5 * noise(5.0, 48_000), 48_000)
    flags = (*MICROPHONE, f"use-file-for-fake-audio-capture={spoken}")
    page = ask(flags=flags, permissions=["microphone"])
    page.get_by_role("button", name="Record a sentence").click()
    until(lambda: int(page.locator("#level").get_attribute("aria-valuenow")) > 10)
    until(lambda: page.locator("#capture-time").inner_text() > "0:01.0")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".answer")
    assert page.locator("#sound-title").inner_text().startswith("The recording: your recording, ")
    page.get_by_role("button", name="Record a sentence").click()
    page.get_by_role("button", name="Stop").wait_for()
    choose(page, sound(1.0))
    page.get_by_text("The recording: voice.wav").wait_for()
    page.get_by_role("button", name="Listen live").click()
    page.wait_for_selector(".segment", timeout=20_000)
    assert page.locator("#result-title").inner_text() == "Answer for the last three seconds"
    assert page.locator(".label").inner_text() == f"{model.labels[0]} 62 %"
    assert not page.locator("#player").is_visible()
    ends = []
    for _ in range(3):
        time.sleep(1.2)
        ends.append(page.locator(".ends").inner_text())
    assert len(set(ends)) == 3, ends
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Listen live").wait_for()


@needs_ravdess
def test_the_page_says_what_the_predictor_says(tmp_path: Path) -> None:
    root = Path(os.environ["SER_RAVDESS_ROOT"])
    clip = next(iter(sorted(root.glob("Actor_21/03-01-05-02*"))))
    for actor in ("Actor_01", "Actor_02", "Actor_03"):
        (tmp_path / "three" / actor).parent.mkdir(exist_ok=True)
        (tmp_path / "three" / actor).symlink_to(root / actor)
    extracted(tmp_path / "three", tmp_path / "artifacts")
    folder, _, _ = fit_model(Artifacts(tmp_path / "artifacts"), ComparisonConfig(heads=("logreg",), folds=3), jobs=1)
    (said,) = Predictor.load(folder).predict([clip])
    with served(PredictionService(load_models([folder]))) as address, opened(address) as page:
        choose(page, {"name": clip.name, "mimeType": "audio/flac", "buffer": clip.read_bytes()})
        page.wait_for_selector(".bars")
        shown = bars(page)
        assert list(shown) == sorted(said.probabilities, key=lambda label: -said.probabilities[label])
        for label, share in said.probabilities.items():
            assert abs(float(re.sub(r"[<> %]", "", shown[label])) - 100 * share) <= 1
        assert page.locator(".label strong").inner_text() == (said.label if said.confidence >= 0.35 else "not sure")
        assert Recording.load(clip).declared_seconds() == pytest.approx(
            float(page.locator("#position").get_attribute("max")), abs=0.01
        )
