"""The README.md of a model on the Hugging Face Hub: a card in the hub's own format, with the scores in `model-index`.

Every statement is from the model's own card (`model.json`). The hub reads the front matter, in YAML: task, labels for
search, the encoder as base model, and each score with its interval. The licence is `unknown`: it depends on the
licences of the recordings and of the encoder, which the text lists, and on the author of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcache.encoders.hub import HUB_ID, without_revision

from ..evaluation.statistics import LEVEL
from ..saved.model_folder import ModelCard

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIBRARY, TASK, TASK_NAME = "ser-toolkit", "audio-classification", "Speech Emotion Recognition"
TAGS = ("speech-emotion-recognition", "emotion-recognition", "audio", "speech", LIBRARY)
# Scores of a model's card -> type, averaging and name as the hub's metrics have them.
METRICS = {
    "uar": ("recall", "macro", "UAR (unweighted average recall, balanced accuracy)"),
    "war": ("accuracy", None, "WAR (weighted average recall, accuracy)"),
    "macro_f1": ("f1", "macro", "Macro F1"),
    "ece": ("ece", None, "ECE (expected calibration error)"),
}
LANGUAGES = {"English": "en", "German": "de", "French": "fr", "Italian": "it", "Spanish": "es", "Mandarin": "zh"}


def hub_card(card: ModelCard, hub_id: str, files: Mapping[str, str]) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    card : the model's card.
    hub_id : `user/model`.
    files : what each file in the folder is, by name.
    """
    from huggingface_hub import ModelCardData

    base = base_models(card)
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=TASK,
        license="unknown",
        language=_languages(card) or None,
        tags=[*TAGS, card.head],
        base_model=base or None,
        metrics=sorted({METRICS[name][0] for name in METRICS if name in card.scores}),
        model_name=hub_id.partition("/")[2],
        eval_results=eval_results(card) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(_sections(card, hub_id, files)) + "\n"


def eval_results(card: ModelCard) -> list[EvalResult]:
    """Return the scores of the card, with their intervals, as the hub lists them."""
    from huggingface_hub import EvalResult

    protocol = card.protocol.get("name", "")
    return [
        EvalResult(
            task_type=TASK,
            task_name=TASK_NAME,
            dataset_type=card.dataset,
            dataset_name=", ".join(_titles(card)),
            dataset_split=f"cross-validation, protocol {protocol}",
            dataset_args={
                name: card.protocol[name] for name in ("folds", "seeds", "speakers") if name in card.protocol
            },
            metric_type=METRICS[name][0],
            metric_config=METRICS[name][1],
            metric_name=METRICS[name][2],
            metric_value=card.scores[name]["value"],
            metric_args=_interval(card.scores[name]),
        )
        for name in METRICS
        if name in card.scores
    ]


def base_models(card: ModelCard) -> list[str]:
    """Return the hub ids of the encoders, without revisions."""
    checkpoints = [info["checkpoint"] for info in card.encoder_infos]
    return [without_revision(checkpoint) for checkpoint in checkpoints if HUB_ID.fullmatch(checkpoint)]


def _interval(score: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the ends of the interval of a score; None if it has none."""
    if score.get("low") is None or score.get("high") is None:
        return None
    return {"confidence_level": LEVEL, "low": score["low"], "high": score["high"]}


def _languages(card: ModelCard) -> list[str]:
    named = {str(facts.get("language", "")) for facts in card.data.get("datasets", {}).values()}
    return sorted(LANGUAGES[name] for name in named if name in LANGUAGES)


def _titles(card: ModelCard) -> list[str]:
    """Return the titles of the datasets that `ser` knows, and the names of others, whose title is an explanation."""
    known = card.data.get("datasets", {})
    return [_text(facts["title"] if "licence" in facts else name) for name, facts in known.items()] or [card.dataset]


def _sections(card: ModelCard, hub_id: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the parts of the text."""
    labels = ", ".join(map(_text, card.labels))
    yield f"# {hub_id.partition('/')[2]}"
    yield (
        f"Recognises {len(card.labels)} emotions in speech: {labels}. A head `{card.head}` on vectors of the frozen "
        f"encoder `{_text(card.encoder)}`, fitted on {card.n_clips} clips of {card.n_speakers} speakers "
        f"({', '.join(_titles(card))}) by `ser` {card.version} ({LIBRARY})."
    )
    yield _use(card, hub_id)
    yield from _listed("Intended use", card.intended_use)
    yield from _listed("Limits", card.limits)
    if card.scores:
        yield _scores(card)
    yield from _listed("Leaks", [f"`{name}`: {about}" for name, about in card.leaks.items()])
    yield from _listed("Data and licences", _licences(card))
    yield from _listed("Files", [f"`{name}`: {about}" for name, about in files.items()])


def _use(card: ModelCard, hub_id: str) -> str:
    file = "CLIP.wav" if not card.is_of_imported else "VECTORS.npz"
    from_sound = (
        ""
        if card.is_of_imported
        else (
            "from classifiers import Predictor\n\n"
            f'model = Predictor.load("{hub_id}")\n'
            'print(model("CLIP.wav").probabilities)\n\n'
        )
    )
    return (
        f"## Use\n\n```sh\npip install {LIBRARY}\nser predict {hub_id} {file}\n```\n\n```python\n{from_sound}"
        "from classifiers import load_model\n\n"
        f'estimator, card = load_model("{hub_id}")  # a scikit-learn classifier; no pickle is loaded\n'
        "print(estimator.predict(X))  # X: rows as `card.reads` describes\n```"
    )


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"## {title}\n\n" + "\n".join(f"- {_text(line)}" for line in lines)


def _scores(card: ModelCard) -> str:
    rows = []
    for name, (_, _, title) in METRICS.items():
        if score := card.scores.get(name):
            low, high = score.get("low"), score.get("high")
            ends = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
            rows.append(f"| {title} | {score['value']:.3f} | {ends} |")
    protocol = card.protocol
    return (
        "## Scores\n\n| score | value | 95 % interval over speakers |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"Protocol `{protocol.get('name', '')}`: {_text(protocol.get('about', ''))}. Speakers of training and test "
        f"clips: {protocol.get('speakers', '')}. {_text(protocol.get('then', ''))} "
        f"{_text(protocol.get('selected', ''))}"
    )


def _licences(card: ModelCard) -> list[str]:
    lines = []
    for name, facts in card.data.get("datasets", {}).items():
        parts = [
            f"{name}: {facts.get('title', '')}",
            *(f"{key}: {facts[key]}" for key in ("licence", "citation") if key in facts),
        ]
        lines.append("; ".join(parts))
    lines += [f"encoder {name}; licence: {licence}" for name, licence in card.encoder_licences.items()]
    return [*lines, "The licence of this model is not declared; its author writes it into `license` above."]


def _text(text: Any) -> str:
    """Return a text on one line, in which no character is Markdown or HTML."""
    line = " ".join(str(text).split())
    return line.replace("<", "&lt;").replace("|", "\\|")
