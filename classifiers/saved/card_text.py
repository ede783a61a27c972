"""What a model card says to people: data, protocol, scores with intervals, leaks, intended use and limits.

After Mitchell et al. (2019), Model Cards for Model Reporting. Everything is computed from the task and its predictions,
or is a sentence that holds for every model of `ser`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import datasets

from ..data.task import Task
from ..evaluation.intervals import speaker_bootstrap
from ..evaluation.metrics import ece, macro_f1, uar, war
from ..evaluation.predictions import Predictions
from ..evaluation.protocols import PROTOCOLS
from ..heads import Calibrated, Tuned
from ..heads.best_layer import BestLayer

MEANING = {
    "none": "Training and test share no speaker, no recording and, as far as it is known, no sentence.",
    "speaker": "The speakers tested on were heard in training: the scores are of known voices, and lower on new ones.",
    "audio": "Some recordings stand in training and test alike: the scores are too high.",
    "text": "Training and test share sentences: on other sentences the scores may be lower.",
    "encoder": "The encoder was fine-tuned on speakers tested on: the scores are of known voices.",
}
SCORES: dict[str, tuple[Callable[[NDArray[Any]], NDArray[np.float64]], str]] = {
    "uar": (uar, "unweighted average recall: the mean of the labels' recalls; a guess gives `chance`"),
    "war": (war, "the share of clips that are labelled rightly"),
    "macro_f1": (macro_f1, "the mean of the labels' F1"),
}
INTERVAL = "`low` and `high`: 95 %, by a bootstrap over speakers; null with fewer than three"
ECE = "expected calibration error: how far certainty is from the share that is right, on average; 0 is best"
INTENDED_USE = (
    "Research on speech emotion recognition, and prototypes whose users know that they are heard by a classifier.",
    "One utterance of one speaker at a time, of speakers, languages and recordings like those of the training data.",
    "Not for judging people: no decision on work, school, health, credit, insurance, law or borders.",
)
ACTED = (
    "The emotions of the training data are acted, and labelled by what was intended or by what listeners heard: not by "
    "what anybody felt."
)
UNKNOWN = (
    "Whether the emotions of the training data were acted, told or rated by listeners is not known here: a label means "
    "no more than it meant there."
)
TUNED = (
    "The settings were chosen by UAR in inner folds by speaker of all clips, and stand in `params`; `setting` is what "
    "was drawn for them, and empty where the defaults did best. The UAR of the chosen is too high, for it is the best "
    "of several: `scores` are of heads that chose anew in each fold, without the clips that they were tested on, but "
    "for the folds without a choice, whose training clips allowed no inner folds."
)
UNTUNED = "The clips allow no inner folds to choose settings in: they are the defaults."
CALIBRATED = (
    "The logarithms of the probabilities are divided by the temperature, then made to sum to 1: above 1 the head was "
    "too certain, below 1 too uncertain. It was fitted in inner folds by speaker, and is 1 where the clips allow none. "
    "No label changes by it."
)
LAYER = (
    "The layer, from 0, that did best in inner folds by speaker, and the UAR of each there; null without such folds."
)


def describe(task: Task, p: Predictions) -> dict[str, Any]:
    """The fields of a card that are for people, by name."""
    return {
        "data": _data(task),
        "protocol": _protocol(p),
        "scores": _scores(p),
        "leaks": {name: MEANING.get(name, "") for name in (p.leaks or "none").split("+")},
        "intended_use": INTENDED_USE,
        "limits": _limits(task, p),
    }


def fitting(estimator: Any, p: Predictions) -> dict[str, Any]:
    """How a head chose its settings and became as certain as it is; empty where it did neither.

    `p` are the predictions behind the scores: of folds in which nothing could be chosen, the scores are of defaults.
    """
    said: dict[str, Any] = {}
    if isinstance(estimator, Tuned):
        folds = {"folds": len(p.chosen), "folds_without_a_choice": sum(not chosen.get("tried") for chosen in p.chosen)}
        said["tuned"] = _tuned(estimator.chosen_) | folds
        estimator = estimator.model_
    if isinstance(estimator, Calibrated):
        said["calibrated"] = {"about": CALIBRATED, "temperature": estimator.temperature_}
        estimator = estimator.model_
    if isinstance(estimator, BestLayer):
        said["layer"] = {
            "about": LAYER,
            "kept": estimator.layer_,
            "uar": [uar if uar == uar else None for uar in estimator.layer_uar_.tolist()],
        }
    return said


def _tuned(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "about": TUNED if chosen["tried"] else UNTUNED,
        "settings_tried": chosen["tried"],
        "setting": chosen["setting"],
        "uar_of_the_chosen": chosen.get("uar"),
        "uar_of_the_defaults": chosen.get("untuned"),
    }


def _data(task: Task) -> dict[str, Any]:
    labels, counts = np.unique(task.y, return_counts=True)
    return {
        "datasets": {name: _dataset(name) for name in task.dataset.split("+")},
        "clips_by_label": dict(zip(map(str, labels), map(int, counts), strict=True)),
        "clips_left_out": len(task.skipped) + len(task.dropped),
        "copies_of_each_clip": task.copies.each if task.copies else 0,
        "copies_made_by": task.copies.recipe if task.copies else "",
    }


def _dataset(name: str) -> dict[str, str]:
    """The facts of a dataset that `ser` knows; nothing of a folder of one's own."""
    spec = datasets.find(name)
    if spec is None:
        return {"title": "recordings of one's own: ask who made the model for licence and consent"}
    said = {"title": spec.title, "licence": spec.licence, "citation": spec.citation, "source": spec.source}
    return said | ({"language": spec.language} if spec.language else {})


def _protocol(p: Predictions) -> dict[str, Any]:
    known = PROTOCOLS.get(p.protocol)
    return {
        "name": p.protocol,
        "about": known.about if known else "",
        "speakers": "disjoint" if known and known.disjoint_speakers else "may be shared",
        "folds": len(np.unique(p.folds)),
        "seeds": len(np.unique(p.seeds)),
        "then": "The head that is saved was fitted on all clips, and is itself not tested on any.",
    }


def _scores(p: Predictions) -> dict[str, Any]:
    by_speaker = p.matrices_by(p.speakers)
    said: dict[str, Any] = {"chance": 1 / len(p.labels), "interval": INTERVAL}
    for name, (score, about) in SCORES.items():
        low, high = (None if np.isnan(bound) else bound for bound in speaker_bootstrap(by_speaker, score))
        said[name] = {"value": float(score(p.matrix())), "low": low, "high": high, "about": about}
    return said | {"ece": {"value": ece(p.proba, p.correct), "about": ECE}}


def _limits(task: Task, p: Predictions) -> tuple[str, ...]:
    names = task.dataset.split("+")
    specs = [spec for name in names if (spec := datasets.find(name))]
    languages = sorted({spec.language for spec in specs if spec.language})
    heard = f" ({', '.join(languages)})" if languages and len(specs) == len(names) else ""
    return (
        ACTED if len(specs) == len(names) and all(spec.acted for spec in specs) else UNKNOWN,
        f"The scores hold for speakers like the {len(set(task.speakers.tolist()))} of the training data and for their "
        f"language{heard}, recorded as they were; other microphones, rooms and noise cost accuracy.",
        f"It always answers with one of its {len(p.labels)} labels: also to silence, noise, or another emotion.",
        "A probability is no certainty: it was learned on the training data, and elsewhere it may be far off.",
        "What a voice shows is not what a person feels; how it is shown differs between people and cultures.",
    )
