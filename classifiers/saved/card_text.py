"""The text of a model card: data, protocol, scores with intervals, leaks, intended use and limits.

The card follows Mitchell et al. (2019), Model Cards for Model Reporting. Every statement is either computed from the
task and its predictions, or holds for every model of `ser`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedcache import EncoderInfo, EncoderSpec, PluginError, datasets, encoders

from ..data.csv_text import DECIMALS
from ..data.task import Task
from ..evaluation.intervals import intervals
from ..evaluation.metrics import ece
from ..evaluation.predictions import Predictions
from ..heads import Calibrated, Tuned
from ..heads.best_layer import BestLayer
from ..heads.stack import Stack
from ..protocols.catalogue import AS_GIVEN, Protocol, adapted_by, protocol_of
from .model_folder import ModelCard
from .training_sound import TrainingSound

# The meaning of each leak, by name.
MEANING = {
    "none": "No leak was found: training and test clips share no speaker, no recording and no sentence, and the "
    "encoder was not trained on them.",
    "speaker": "The test speakers also occur in the training clips. The scores hold for known speakers; expect lower "
    "scores for new speakers.",
    "speaker?": "Some speakers are unknown, or nearly every clip has its own speaker, so that the speakers may be "
    "names of clips. The scores may be too high for new speakers.",
    "session": "Training and test clips share sessions, such as the two halves of a dialogue.",
    "audio": "Some recordings are both in the training and in the test clips. The scores are too high.",
    "audio~": "Some test clips are probably copies of training clips. The scores may be too high.",
    "text": "Training and test clips share sentences. The scores may be lower for other sentences.",
    "text?": "The dataset does not give all sentences. Training and test clips may share sentences.",
    "encoder": "The encoder was trained on test speakers. The scores hold for known speakers; expect lower scores "
    "for new speakers.",
    "encoder?": "Not all training data of the encoder are known. The scores are too high if test clips are among them.",
}
# The scores with intervals, with their descriptions.
SCORES = {
    "uar": "unweighted average recall: the mean recall over the labels; random guessing gives `chance`",
    "war": "weighted average recall: the share of clips whose label is predicted correctly",
    "macro_f1": "the mean F1 score over the labels",
}
INTERVAL = (
    "`low` and `high` are the ends of a 95 % confidence interval over speakers; null with fewer than three speakers"
)
SELECTED = (
    "The head ranks first of {n} rows in the comparison {run} of the same clips, and was probably selected for that. "
    "Its scores are therefore too high on average, and their intervals are extended as those of the row ranked first."
)
ECE = "expected calibration error: the mean absolute difference between confidence and accuracy; 0 is best"
INTENDED_USE = (
    "Research on speech emotion recognition, and prototypes whose users know that a classifier analyses their voice.",
    "One utterance of one speaker at a time, with speakers, languages and recordings like those of the training data.",
    "Not for judging people: do not use it to decide about work, school, health, credit, insurance, law or borders.",
)
ACTED = (
    "The emotions in the training data are acted. Their labels are the emotions that the speakers intended or that "
    "listeners perceived, not emotions that the speakers felt."
)
UNKNOWN = (
    "It is not known here whether the emotions in the training data were acted, reported by the speakers or rated by "
    "listeners. A predicted label means no more than it means in the training data."
)
TUNED = (
    "The settings were chosen by UAR in inner folds, split by speaker, of all clips. `params` lists the parameters of "
    "the saved head; `setting` lists those that the search drew, and is empty if the defaults had the highest UAR. "
    "`uar_of_the_chosen` is too high, because it is the best of several. `scores` are not affected: they were measured "
    "with heads that chose their settings anew in each fold, without its test clips. In the folds without a choice, "
    "the training clips allowed no inner folds, and the head had the default settings."
)
UNTUNED = "The clips allow no inner folds in which settings could be chosen, so the settings are the defaults."
CALIBRATED = (
    "The logarithms of the probabilities are divided by the temperature, and the probabilities are then scaled to sum "
    "to 1. A temperature above 1 means that the head was overconfident, below 1 that it was underconfident. The "
    "temperature was fitted in inner folds, split by speaker; it is 1 if the clips allow no inner folds. It changes no "
    "predicted label."
)
STRENGTH = (
    "The strength of the regularisation, which `params` calls `chosen`, has the lowest log-loss in inner folds, split "
    "by speaker, of all clips. `tried` is the number of strengths compared; it is 0 if the clips allow no such folds, "
    "and the strength is then the usual one."
)
UNKNOWN_LICENCE = "unknown to ser: ask the author of the encoder"
LAYER = (
    "`kept` is the number of the layer, from 0, with the highest UAR in inner folds, split by speaker. `uar` lists the "
    "UAR of each layer; it is null if the clips allow no inner folds."
)


def describe(task: Task, p: Predictions, adapts: bool = True, rivals: Sequence[Predictions] = ()) -> dict[str, Any]:
    """Return the fields of `ModelCard` that describe data, protocol, scores, leaks, intended use and limits.

    `adapts` is whether the saved head is adapted to speakers, if the scores are measured with an adaptation. `rivals`
    are the rows of other heads that the head was better than when it was selected, if it was.
    """
    return {
        "data": _data(task),
        "protocol": _protocol(p, rivals),
        "scores": _scores(p, rivals),
        "leaks": {name: MEANING.get(name, "") for name in (p.leaks or "none").split("+")},
        "encoder_licences": _encoder_licences(task.encoder_infos),
        "intended_use": INTENDED_USE,
        "limits": _limits(task, p, adapts),
    }


def fitting(estimator: Any, p: Predictions) -> dict[str, Any]:
    """Return how a head chose its settings, temperature and layer; an empty dictionary if it chose nothing.

    `p` are the predictions from which the scores of the card are computed. The number of their folds in which settings
    could not be chosen is part of the card.
    """
    fields: dict[str, Any] = {}
    if isinstance(estimator, Tuned):
        folds = {"folds": len(p.chosen), "folds_without_a_choice": sum(not chosen.get("tried") for chosen in p.chosen)}
        fields["tuned"] = _tuned(estimator.chosen_) | folds
        estimator = estimator.model_
    if isinstance(estimator, Calibrated):
        fields["calibrated"] = {"about": CALIBRATED, "temperature": estimator.temperature_}
        estimator = estimator.model_
    if setting := _strengths(estimator):
        fields["strength"] = {"about": STRENGTH, **setting}
    if isinstance(estimator, BestLayer):
        fields["layer"] = {
            "about": LAYER,
            "kept": estimator.layer_,
            "uar": [None if math.isnan(uar) else uar for uar in estimator.layer_uar_.tolist()],
        }
    return fields


def _strengths(estimator: Any) -> dict[str, Any]:
    """Return the strengths that a head, or each member of a `stack`, chose; an empty dictionary for none."""
    if isinstance(estimator, Stack):
        members = zip(estimator.members, estimator.members_, strict=True)
        return {name: strengths for name, member in members if (strengths := _strengths(member))}
    chosen = getattr(estimator, "chosen_", {})
    name = estimator.strength.parameter if hasattr(estimator, "strength") else ""
    if name not in chosen.get("setting", {}):
        return {}
    # `tried` of `best_layer` is the number of its layers
    tried = {} if isinstance(estimator, BestLayer) else {"tried": chosen["tried"]}
    return {"setting": {name: chosen["setting"][name]}, **tried}


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
        "copies_of_each_clip": task.copies.per_clip if task.copies else 0,
        "copies_made_by": task.copies.recipe if task.copies else "",
    }


def _dataset(name: str) -> dict[str, str]:
    """Return title, licence, citation, source and language of a dataset that `ser` supports, else a title only."""
    spec = datasets.find(name)
    if spec is None:
        return {"title": "recordings unknown to ser: ask the author of the model about licence and consent"}
    fields = {"title": spec.title, "licence": spec.licence, "citation": spec.citation, "source": spec.source}
    return fields | ({"language": spec.language} if spec.language else {})


def _encoder_licences(infos: Sequence[EncoderInfo]) -> dict[str, str]:
    """Return the licence of each encoder by its name, without encoders that are a part of `ser`."""
    specs = ((info.name, _spec_of(info)) for info in infos)
    licences = {name: spec.licence if spec else UNKNOWN_LICENCE for name, spec in specs}
    return {name: licence for name, licence in licences.items() if licence}


def _spec_of(info: EncoderInfo) -> EncoderSpec | None:
    """Return the spec of a built-in encoder or of a plug-in; None for other checkpoints and imported vectors."""
    try:
        spec = None if info.is_imported else encoders.find(info.name)
    except PluginError:  # the vectors are stored, but the package that computed them is gone
        return None
    return spec if spec and spec.checkpoint == info.checkpoint else None


def _protocol(p: Predictions, rivals: Sequence[Predictions]) -> dict[str, Any]:
    protocol = protocol_of(p.protocol, p.dataset)
    return {
        "name": p.protocol,
        "about": protocol.about if protocol else "",
        "speakers": _shared_speakers(p, protocol),
        "folds": len(np.unique(p.folds)),
        "seeds": len(np.unique(p.seeds)),
        "then": "The saved head was then fitted on all clips. It has not been tested itself.",
        **({"selected": SELECTED.format(n=len(rivals) + 1, run=rivals[0].run)} if rivals else {}),
    }


def _shared_speakers(p: Predictions, protocol: Protocol | None) -> str:
    """Return whether training and test clips share speakers: by the promise of the protocol, or as was found."""
    if protocol and protocol.promise == AS_GIVEN:
        return "shared" if "speaker" in p.leaks.split("+") else "disjoint"
    return "disjoint" if protocol and protocol.disjoint_speakers else "may be shared"


def _scores(p: Predictions, rivals: Sequence[Predictions]) -> dict[str, Any]:
    fields: dict[str, Any] = {"chance": _rounded(1 / len(p.labels)), "interval": INTERVAL}
    for one in intervals(p, rivals):
        if one.metric in SCORES:
            low, high = (None if np.isnan(bound) else _rounded(bound) for bound in (one.low, one.high))
            about = SCORES[one.metric]
            fields[one.metric] = {"value": _rounded(one.value), "low": low, "high": high, "about": about}
    return fields | {"ece": {"value": _rounded(ece(p.proba, p.correct)), "about": ECE}}


def _rounded(score: Any) -> float:
    """Return a score with the decimals that it has in a leaderboard."""
    return round(float(score), DECIMALS)


def predicting(card: ModelCard) -> dict[str, str]:
    """Return what `ser predict`, `ser demo` and `Predictor` do with the model of a card, a sentence for each matter."""
    adapted = f"to {card.adapted} clips or more of a speaker who was enrolled with `ser enrol`, named by --speaker"
    return {
        "confidence": "The confidence is the probability of the likeliest label. The probabilities are "
        + ("calibrated: see `fitting`." if "calibrated" in card.fitting else "those of the head, not calibrated.")
        + " `scores` were measured with heads that were fitted, and chose their settings, in the same way.",
        **(_of_vectors() if card.is_of_imported else _of_recordings(card)),
        "adaptation": f"The vectors are adapted {adapted}." if card.adapted else "The vectors are not adapted.",
    }


def _of_vectors() -> dict[str, str]:
    return {
        "without_a_label": "All vectors get a label, unless --abstain-below asks for a confidence. Nothing is known of "
        "the sound, so silence and noise get a label, too.",
    }


def _of_recordings(card: ModelCard) -> dict[str, str]:
    channel = f"Channel {card.channel}" if card.channel else "The mean of all channels"
    return {
        "without_a_label": "A recording of which less than 0.1 s is audible gets no label and equal probabilities. All "
        "others get a label, unless --abstain-below asks for a confidence.",
        "unlike_training": _unlike_training(TrainingSound.from_dict(card.training_sound)),
        "whole_recordings": "A recording is predicted as a whole; with --window, each window of it is.",
        "channel": f"{channel} is predicted, unless --channel names one.",
    }


def _unlike_training(sound: TrainingSound | None) -> str:
    if sound is None:
        return "It is not known how the training clips sound, so sounds that are unlike them get no note."
    return (
        f"A sound that is farther from the average of {sound.clips} training clips than 99 % of them gets a note and a "
        "lower confidence, as most noises, tones and music do, and speech in more noise than theirs. Its label stays. "
        "`scores` were measured without this, which concerns about one in a hundred clips like the training clips. "
        f"The clips last {sound.shortest:.2f} to {sound.longest:.2f} s, have a level of "
        f"{sound.quietest:.0f} to {sound.loudest:.0f} dB of full scale, and sample rates from {sound.lowest_rate:,} Hz."
    )


def _adaptation(p: Predictions, adapts: bool) -> tuple[str, ...]:
    """Return a sentence on the adaptation that the scores are measured with; none without an adaptation."""
    if not (amount := adapted_by(p.protocol)):
        return ()
    measured = f"The scores are measured with {amount} clips of each test speaker, without labels, "
    if not adapts:
        return (
            f"{measured}to which the vectors are adapted in folds whose inner folds scored higher with that. The saved "
            "head is not adapted, because the inner folds of all clips scored higher without.",
        )
    return (
        f"{measured}to which the vectors are adapted. They do not hold for a speaker who is not enrolled "
        "(`ser enrol`), nor for clips of one emotion.",
    )


def _limits(task: Task, p: Predictions, adapts: bool) -> tuple[str, ...]:
    names = task.dataset.split("+")
    specs = [spec for name in names if (spec := datasets.find(name))]
    languages = sorted({spec.language for spec in specs if spec.language})
    language = f" ({', '.join(languages)})" if languages and len(specs) == len(names) else ""
    n_speakers = len(set(task.speakers.tolist()))
    terms = [named.terms for info in task.encoder_infos if (named := _spec_of(info)) and named.terms]
    return (
        *dict.fromkeys(terms),
        *_adaptation(p, adapts),
        ACTED if len(specs) == len(names) and all(spec.acted for spec in specs) else UNKNOWN,
        f"The scores hold for speakers like the {n_speakers} speakers of the training data, for their "
        f"language{language} and for similar recordings. Other microphones, rooms and noise reduce accuracy.",
        f"The model predicts one of its {len(p.labels)} labels for every sound but silence and clicks: for another "
        "emotion, for noise and for music, too. `predicting` says whether such sounds get a note.",
        "The probabilities were learned on the training data and may be far off on other data.",
        "The emotion that a voice expresses is not always the emotion that a person feels, and people and cultures "
        "express emotions differently.",
    )
