"""The settings and the origin of a run, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedcache import DataError
from embedcache.files.untrusted import read_json
from embedcache.text import count

from ..data.labels import NATIVE
from ..evaluation.predictions import Predictions
from ..evaluation.run_folder import MAX_BYTES
from ..protocols.catalogue import adapted_by, protocol_of, unadapted_name
from .sections import json_text
from .terminal_tables import leaks_found

MAX_NAMES = 40  # most names in a list of labels or clips
SAID_BY_FOLDS = ("folds", "seeds")  # options that the row "folds" says in words; some protocols have folds of their own


@dataclass(frozen=True)
class RunSettings:
    """The settings and the origin of a run."""

    name: str
    facts: tuple[tuple[str, str], ...]  # name and value


def run_settings(folder: Path, predictions: Sequence[Predictions]) -> RunSettings:
    """Return the settings of a run: from its run.json, and from those of the predictions that are the run's."""
    advice = f"{folder} cannot be read as a run. Remove the folder, or run the comparison again."
    run = read_json(folder / "run.json", MAX_BYTES, DataError, advice)
    own = [p for p in predictions if p.run == folder.name]
    facts = [*_distinct(own), ("skipped clips", _skipped_text({clip for p in own for clip in p.skipped}))]
    facts.append(("hash of the folds", ", ".join(sorted({p.fold_hash for p in own}))))
    facts.append(("created", f"{json_text(run.get('created', ''))} by version {json_text(run.get('version', ''))}"))
    facts.append(("configuration", _asked_text(run.get("asked", {}))))
    return RunSettings(folder.name, tuple(facts))


def _asked_text(asked: object) -> str:
    """Return what a run was asked, without options that another row says, or whose value is 0, false or empty."""
    if not isinstance(asked, dict):
        return json_text(asked)
    return json_text({name: value for name, value in asked.items() if value and name not in SAID_BY_FOLDS})


def _distinct(predictions: Sequence[Predictions]) -> list[tuple[str, str]]:
    """Return the facts about predictions, each once, in the order of their subjects."""
    facts = list(dict.fromkeys(fact for p in predictions for fact in _facts(p)))
    subjects = list(dict.fromkeys(name for name, _ in facts))
    return sorted(facts, key=lambda fact: subjects.index(fact[0]))


def _facts(p: Predictions) -> Iterator[tuple[str, str]]:
    yield "dataset", f"{p.dataset}: {_size(p)}"
    yield "labels", f"{len(p.labels)}{_view_text(p)}: {_listed(p.labels)}"
    yield "protocol", _protocol_text(p)
    yield "folds", _folds_text(p)
    yield "leaks", f"{leaks_found(p.leaks)}."
    yield f"fingerprint of {p.encoder}", p.fingerprint
    if p.strengths:
        yield f"strength of {p.protocol} by fold, {p.encoder}", json_text(p.strengths)
    if p.copies:
        yield "copies in training", f"{p.copies} of each clip: {p.augment}"


def _size(p: Predictions) -> str:
    clips, speakers = (len(np.unique(column)) for column in (p.clip_ids, p.speakers))
    return f"{count(clips, 'test clip')} of {count(speakers, 'speaker')}"


def _view_text(p: Predictions) -> str:
    return "" if p.label_view == NATIVE else f" (labels {p.label_view})"


def _protocol_text(p: Predictions) -> str:
    """Return a protocol and what it does: `official: the dataset's folds by speaker …; speaker-independent`."""
    rules, name = protocol_of(p.protocol, p.dataset), unadapted_name(p.protocol)
    about = (
        f"{name}: {rules.about.replace('`', '')}"
        if rules
        else f"{name}: a protocol that this version of ser does not know"
    )
    promise = "" if not rules or rules.promise in rules.about else f"; {rules.promise}"
    amount = adapted_by(p.protocol)
    clips = "all clips" if amount == "all" else f"{amount} clips"
    adapted = f"; vectors adapted to {clips} of each test speaker, without labels" if amount else ""
    return about + promise + adapted


def _folds_text(p: Predictions) -> str:
    folds, seeds = (len(np.unique(column)) for column in (p.folds, p.seeds))
    trained = f", with {p.train_clips:.0f} training clips on average" if p.train_clips else ""
    repeated = f", repeated with {count(seeds, 'seed')}" if seeds > 1 else ""
    return f"{count(folds, 'fold')}{repeated}{trained}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:MAX_NAMES])}{', …' if len(names) > MAX_NAMES else ''}"


def _skipped_text(clip_ids: set[str]) -> str:
    """Return the number of skipped clips and their names: `2: a, b`."""
    return f"{len(clip_ids)}: {_listed(sorted(clip_ids))}" if clip_ids else "0"
