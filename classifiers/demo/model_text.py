"""A model in words, from its card: what it is called, what it was trained on, how well it does on whom.

The page shows these sentences instead of the name of a folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from embedcache import PluginError, datasets, encoders
from embedcache.text import count

from ..inference.model import Model
from ..workflows.quickstart import NAME as SYNTHETIC_DATASET

# The heads in words. Another head is called by its name.
HEADS = {
    "attention": "attention over frames",
    "best_layer": "logistic regression on the best layer",
    "cnn": "convolutional network",
    "knn": "nearest neighbours",
    "layer_cnn": "convolutional network over weighted layers",
    "layer_weighted": "neural network on weighted layers",
    "lda": "linear discriminant analysis",
    "lgbm": "gradient-boosted trees",
    "logreg": "logistic regression",
    "mlp": "neural network with one hidden layer",
    "ridge": "ridge classifier",
    "stack": "mean of five heads",
    "svm": "support vector machine",
}
KNOWN_SPEAKERS = {"speaker", "speaker?", "encoder"}  # leaks by which a score does not hold for new speakers


@dataclass(frozen=True)
class ModelText:
    """A model in words."""

    name: str  # name of the folder, by which the API knows the model
    title: str
    reads: str  # what the encoder computes; "" if unknown
    trained_on: str
    labels: tuple[str, ...]
    score: str  # the measured score, on whom and how, as sentences
    brief_score: str  # the same in a few words
    acted: bool  # all of its training data are known to be acted
    synthetic: bool  # trained on the synthetic voices of `ser quickstart`
    card: Mapping[str, Any]


def model_texts(models: Iterable[Model]) -> list[ModelText]:
    """Return the words for models of `ser fit` or `ser finetune`. Equal titles get the names of the folders."""
    texts = [_model_text(model) for model in models]
    titles = Counter(text.title for text in texts)
    return [replace(text, title=f"{text.title} ({text.name})") if titles[text.title] > 1 else text for text in texts]


def _model_text(model: Model) -> ModelText:
    card, finetuned = model.card, "base" in model.card
    return ModelText(
        name=model.name,
        title=_capital(f"{card['base']}, fine-tuned" if finetuned else _title(card)),
        reads="" if finetuned else _reads(card),
        trained_on=_finetuned_on(card) if finetuned else _trained_on(card),
        labels=model.labels,
        score=_finetuned_score(card) if finetuned else _score(card),
        brief_score="see below" if finetuned else _brief_score(card),
        acted=_acted(card),
        synthetic=card.get("dataset") == SYNTHETIC_DATASET,
        card=card,
    )


def _title(card: Mapping[str, Any]) -> str:
    adapted = ", with speaker adaptation" if card.get("adapted") else ""
    head, *_ = card["head"].split("-")  # without "-tuned" and "-calibrated"
    return f"{HEADS.get(head, card['head'])} on {card['encoder'].replace('+', ' and ')}{adapted}"


def _reads(card: Mapping[str, Any]) -> str:
    """Return what the encoders compute, in the words of `ser encoders`; "" for others."""
    try:
        specs = [encoders.find(name) for name in card["encoder"].split("+")]
    except PluginError:  # the package that computes the vectors is gone
        return ""
    return "; ".join(spec.about for spec in specs if spec)


def _trained_on(card: Mapping[str, Any]) -> str:
    amount = f"{card['n_clips']:,} clips of {count(card['n_speakers'], 'speaker')}"
    if card.get("dataset") == SYNTHETIC_DATASET:
        return f"the synthetic voices of ser quickstart: {amount}"
    facts = card.get("data", {}).get("datasets", {})
    # a dataset that `ser` does not know has no licence, and its title is a remark
    titles = [fact["title"] if "licence" in fact else name for name, fact in facts.items()] or [card["dataset"]]
    return f"{'; '.join(titles)}: {amount}"


def _acted(card: Mapping[str, Any]) -> bool:
    specs = [datasets.find(name) for name in card.get("data", {}).get("datasets", {})]
    return bool(specs) and all(spec is not None and spec.acted for spec in specs)


def _finetuned_on(card: Mapping[str, Any]) -> str:
    training = card["trained_on"]
    return f"{len(training['keys']):,} clips of {count(len(training['speakers']), 'speaker')}"


def _score(card: Mapping[str, Any]) -> str:
    """Return the measured score as sentences: on whom, how much, against which chance, by which protocol."""
    scores, protocol = card.get("scores", {}), card.get("protocol", {})
    uar = scores.get("uar")
    if not uar:
        return "Not measured: the model card has no score."
    whom = "may also be in its training data" if _knows_speakers(card) else "are not in its training data"
    adapted = f", adapted to {card['adapted']} clips of each speaker" if card.get("adapted") else ""
    bounds = "" if uar["low"] is None else f", 95\u00a0% interval {uar['low']:.3f} to {uar['high']:.3f}"
    name = f"; protocol {protocol['name']}" if protocol.get("name") else ""
    clips = "synthetic clips" if card.get("dataset") == SYNTHETIC_DATASET else "clips"
    return (
        f"Of 100 {clips} of speakers who {whom}, it recognises {100 * uar['value']:.0f}{adapted}; each label counts "
        f"equally (UAR {uar['value']:.3f}{bounds}{name}). Guessing gets {100 * scores['chance']:.3g}."
    )


def _brief_score(card: Mapping[str, Any]) -> str:
    uar = card.get("scores", {}).get("uar")
    if not uar:
        return "not measured"
    whom = "speakers who may be in its training data" if _knows_speakers(card) else "new speakers"
    adapted = f", adapted to {card['adapted']} clips of each" if card.get("adapted") else ""
    chance = f"guessing gets {100 * card['scores']['chance']:.3g}"
    return f"recognises {100 * uar['value']:.0f} of 100 clips of {whom}{adapted} (UAR {uar['value']:.3f}); {chance}"


def _knows_speakers(card: Mapping[str, Any]) -> bool:
    leaks = KNOWN_SPEAKERS.intersection(card.get("leaks", {}))
    return bool(leaks) or card.get("protocol", {}).get("speakers") in ("may be shared", "shared")


def _finetuned_score(card: Mapping[str, Any]) -> str:
    measured = card["history"].get("val_uar")
    if not measured:
        return "Not measured: the checkpoint has no score."
    return (
        f"UAR {max(measured):.3f} on {count(len(card.get('development', ())), 'development speaker')}. This is too "
        "high, because the best epoch was chosen on them."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
