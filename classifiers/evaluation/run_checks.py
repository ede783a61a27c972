"""Checks of the predictions in a run folder, which may have been edited, cut off, or written by another program."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from embedcache.text import count, examples

from ..protocols.catalogue import adapted_by, protocol_of
from ..protocols.leaks import LEAKS
from .predictions import Predictions

ROUNDING = 1e-3  # by which the probabilities of a row may miss the sum 1
TIE = 1e-6  # by which the probability of the predicted label may be below the largest


def faults(p: Predictions) -> list[str]:
    """Return a sentence for each kind of fault in the predictions of one head; none if they can be scored."""
    checks = (_repeated_rows, _unequal_draws, _wrong_sums, _other_labels, _divided_speakers, _unknown_leaks)
    return [fault for check in checks for fault in check(p)]


def _repeated_rows(p: Predictions) -> Iterator[str]:
    """Find clips that one seed predicts more than once in a draw: they would count more than others."""
    draws = np.full(len(p.clip_ids), "") if p.draws is None else p.draws
    times = Counter(zip(p.seeds.tolist(), draws.tolist(), p.clip_ids.tolist(), strict=True))
    repeated = [f"{clip} (seed {seed}, {n} rows)" for (seed, _, clip), n in times.items() if n > 1]
    if repeated:
        yield f"{count(len(repeated), 'clip')} with several predictions of one seed: {examples(repeated)}"


def _unequal_draws(p: Predictions) -> Iterator[str]:
    """Find an adaptation whose draws do not predict the same clips, or that its protocol does not name."""
    if bool(adapted_by(p.protocol)) != (p.draws is not None):
        draws = "no draws" if p.draws is None else "draws of an adaptation"
        yield f"{draws} with the protocol '{p.protocol}'"
    if p.draws is not None and len(set(Counter(p.draws.tolist()).values())) > 1:
        yield "draws with different numbers of rows"


def _wrong_sums(p: Predictions) -> Iterator[str]:
    sums = p.proba.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(np.abs(sums - 1) > ROUNDING)
    if len(wrong):
        rows = [f"{p.clip_ids[row]} ({sums[row]:.3f})" for row in wrong.tolist()]
        yield f"{count(len(wrong), 'row')} whose probabilities do not sum to 1: {examples(rows)}"


def _other_labels(p: Predictions) -> Iterator[str]:
    """Find rows whose predicted label is not the most probable one."""
    predicted = p.proba[np.arange(len(p.proba)), p.predicted_columns]
    wrong = np.flatnonzero(predicted < p.proba.max(axis=1) - TIE)
    if len(wrong):
        rows = [f"{p.clip_ids[row]} ({p.predicted[row]})" for row in wrong.tolist()]
        yield f"{count(len(wrong), 'row')} whose predicted label is not the most probable one: {examples(rows)}"


def _divided_speakers(p: Predictions) -> Iterator[str]:
    """Find speakers in several folds of one seed, which a speaker-independent protocol never makes."""
    protocol = protocol_of(p.protocol, p.dataset)
    if not (protocol and protocol.disjoint_speakers and protocol.one_fold_per_speaker):
        return
    folds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for seed, speaker, fold in zip(p.seeds.tolist(), p.speakers.tolist(), p.folds.tolist(), strict=True):
        folds[seed, speaker].add(fold)
    divided = [
        f"{speaker} (folds {', '.join(sorted(found))})" for (_, speaker), found in folds.items() if len(found) > 1
    ]
    if divided:
        yield (
            f"{count(len(divided), 'speaker')} in several folds of the speaker-independent protocol '{p.protocol}': "
            f"{examples(divided)}"
        )


def _unknown_leaks(p: Predictions) -> Iterator[str]:
    unknown = [word for word in p.leaks.split("+") if word and word not in LEAKS]
    if unknown:
        yield f"leaks that this version of ser does not know: {', '.join(unknown)}"
