"""The page says in words what its models are, runs nothing that they say, and can be read by everybody."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import HOSTILE, Tags

from classifiers import heads
from classifiers.demo import page
from classifiers.demo.model_text import HEADS, model_texts
from classifiers.demo.page import page_html
from classifiers.inference.model import Model
from classifiers.serving.service import PredictionService

FOLDER = Path(page.__file__).parent
CARD = {
    "head": "logreg-calibrated",
    "encoder": "mfcc",
    "dataset": "ravdess",
    "n_clips": 1440,
    "n_speakers": 24,
    "data": {"datasets": {"ravdess": {"title": "RAVDESS, speech", "licence": "CC BY-NC-SA 4.0"}}},
    "scores": {"chance": 0.125, "uar": {"value": 0.628, "low": 0.579, "high": 0.675}},
    "protocol": {"name": "official", "about": "folds by speaker", "speakers": "disjoint"},
    "leaks": {"text": "Sentences are shared."},
}
LABELS = ("angry", "calm")


def model_of(folder: str = "one", labels: tuple[str, ...] = LABELS, **fields: Any) -> Model:
    """A model whose card has these fields, and which predicts nothing."""

    def nothing(*_: object) -> Any:
        raise NotImplementedError

    card = {**CARD, "labels": labels, **fields}
    return Model(Path("/x") / folder, labels, 16_000, 0.1, 900.0, 900.0, card, (), (), nothing, nothing, nothing)


def text_of(**fields: Any) -> Any:
    (text,) = model_texts([model_of(**fields)])
    return text


def test_a_model_is_called_by_what_it_is() -> None:
    assert text_of().title == "Logistic regression on mfcc"
    assert (
        text_of(head="lda", encoder="mfcc+functionals").title == "Linear discriminant analysis on mfcc and functionals"
    )
    assert text_of(adapted="10").title == "Logistic regression on mfcc, with speaker adaptation"
    assert text_of(head="mine").title == "Mine on mfcc"
    assert text_of().trained_on == "RAVDESS, speech: 1,440 clips of 24 speakers"
    own = {"mine": {"title": "recordings unknown to ser: ask the author"}}
    assert text_of(data={"datasets": own}).trained_on == "mine: 1,440 clips of 24 speakers"
    assert text_of(dataset="sample").trained_on.startswith("the synthetic voices of ser quickstart: ")
    assert set(HEADS) == set(heads.names())
    same = [text.title for text in model_texts([model_of("one"), model_of("two"), model_of("three", head="svm")])]
    assert same[:2] == ["Logistic regression on mfcc (one)", "Logistic regression on mfcc (two)"]
    assert same[2] == "Support vector machine on mfcc"


def test_a_score_says_on_whom_and_how() -> None:
    assert text_of().score == (
        "Of 100 clips of speakers who are not in its training data, it recognises 63; each label counts equally (UAR "
        "0.628, 95\u00a0% interval 0.579 to 0.675; protocol official). Guessing gets 12.5."
    )
    assert "adapted to 10 clips of each speaker" in text_of(adapted="10").score
    assert text_of().brief_score == "recognises 63 of 100 clips of new speakers (UAR 0.628); guessing gets 12.5"
    assert "new speakers, adapted to 10 clips of each (UAR" in text_of(adapted="10").brief_score
    for known in ({"leaks": {"speaker": ""}}, {"leaks": {"encoder": ""}}, {"protocol": {"speakers": "may be shared"}}):
        assert "who may also be in its training data" in text_of(**known).score
        assert "new speakers" not in text_of(**known).brief_score
    unknown = {"chance": 0.5, "uar": {"value": 0.7, "low": None, "high": None}}
    assert "interval" not in text_of(scores=unknown).score
    assert text_of(scores={}).score == "Not measured: the model card has no score."


def test_models_whose_cards_say_little_are_shown() -> None:
    tuned = {"base": "net", "labels": LABELS, "trained_on": {"keys": [], "speakers": ["a"]}, "history": {}}
    bare = model_of("bare", scores={}, data={}, leaks={}, fitting={}, protocol={})
    models = [bare, replace(model_of("tuned"), card=tuned)]
    text = Tags(page_html(PredictionService(models))).text
    assert "Net, fine-tuned" in text
    assert "0 clips of 1 speaker" in text
    measured = {**tuned, "history": {"val_uar": [0.4, 0.5]}, "development": ["b", "c"]}
    (tuned_text,) = model_texts([replace(model_of(), card=measured)])
    assert tuned_text.score.startswith("UAR 0.500 on 2 development speakers. This is too high")


def test_the_page_says_what_it_is_and_what_it_is_not() -> None:
    one = " ".join(Tags(page_html(PredictionService([model_of()]), "A banner.")).text.split())
    assert "which of 2 acted emotions the voice sounds like: angry, calm. It does not know what anybody feels." in one
    assert "Do not judge people by its answers." in one
    assert "A banner." in one
    assert "Nothing that you say or upload is kept" in one
    assert "say nothing about emotion" not in one
    synthetic = Tags(page_html(PredictionService([model_of(dataset="sample")]))).text
    assert "These answers say nothing about emotion" in synthetic
    assert "it recognises 63" not in synthetic.partition("About the model")[0]
    assert "acted" not in Tags(page_html(PredictionService([model_of(data={"datasets": {"own": {}}})]))).text[:700]


def test_nothing_that_a_card_says_is_run() -> None:
    folder = HOSTILE.replace("/", "")
    model = model_of(folder, (HOSTILE, "calm"), limits=[HOSTILE], leaks={HOSTILE: HOSTILE}, head=HOSTILE, about=HOSTILE)
    html = page_html(PredictionService([model]), banner=HOSTILE, root=HOSTILE)
    tags = Tags(html)
    assert tags.crossed == []
    assert "alert(1)" in tags.text
    assert [attributes.get("src") for tag, attributes in tags.found if tag in ("script", "img")] == [
        "/page/static/page.js"
    ]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]


def test_everything_that_can_be_used_has_a_name() -> None:
    tags = Tags(page_html(PredictionService([model_of("one"), model_of("two")])))
    labelled = {attributes.get("for") for tag, attributes in tags.found if tag == "label"}
    for tag, attributes in tags.found:
        if tag == "input" and "hidden" not in attributes and attributes["type"] != "checkbox":  # inside their labels
            assert attributes["id"] in labelled
        if tag in ("section", "canvas") or attributes.get("role") in ("group", "meter"):
            assert attributes.get("aria-label") or attributes.get("aria-labelledby"), (tag, attributes)
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {id for _, a in tags.found if (id := a.get("aria-labelledby"))} <= set(ids)


def luminance(colour: str) -> float:
    """The relative luminance of a colour such as #1a1e23 (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_pictures_stand_out_from_the_page(dark: bool) -> None:
    """WCAG 2, level AA: 4.5 for text, 3 for pictures and for the edge of the focus."""
    css = (FOLDER / "static" / "page.css").read_text()
    palettes = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", palettes[int(dark)]))
    for text, ground in (
        *((text, ground) for text in ("ink", "soft") for ground in ("page", "panel", "warn")),
        ("on-blue", "blue"),
        ("blue", "page"),
        ("red", "page"),
        ("ink", "track"),
        ("soft", "track"),
    ):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for picture, ground in (
        ("bar", "panel"),
        ("bar", "page"),
        ("warm", "panel"),
        ("cursor", "panel"),
        ("bar", "track"),
    ):
        assert contrast(colours[picture], colours[ground]) >= 3, (picture, ground)


def test_one_typeface_and_nothing_from_elsewhere() -> None:
    css = (FOLDER / "static" / "page.css").read_text()
    assert re.findall(
        r"font(?:-family)?: [^;}]*", css.replace("font: inherit", "").replace("font-family: inherit", "")
    ) == ["font: 1rem/1.5 system-ui, sans-serif", "font-family: ui-monospace, Menlo, Consolas, monospace"]  # of code
    for file in (FOLDER / "static").iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(|innerHTML|eval\(|document\.write", text), file.name
