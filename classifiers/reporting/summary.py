"""The top of a report: what to look at first, in sentences, for each table of the leaderboard.

Every sentence is computed from predictions. It gives the number of speakers or clips that it rests on, and says so if
these are too few, or if an interval contains chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.text import count

from ..data.csv_text import number_text
from ..evaluation.leaderboard import Row, Table
from ..evaluation.metrics import uar
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import vectors_name
from ..evaluation.statistics import MIN_SPEAKERS
from ..protocols.catalogue import unadapted_name
from ..protocols.fold import UNION
from ..protocols.leaks import trained_on_test_speakers
from .figure_data import Confusion, Reliability, SpeakerScores
from .sections import clips_of_speakers, datasets_of
from .terminal_tables import comparison_text, enumerated, leaks_found, notes_text

FEW_SPEAKERS = 10  # with fewer, a sentence says that other speakers may score otherwise
FEW_CLIPS = 10  # of a label, below which its recall says little
LOWEST = 3  # speakers that are named
SPEAKER_INDEPENDENT = "Speaker-independent: no test speaker occurs in the training clips."
SPEAKERS_UNKNOWN = "Speakers are not all known: test speakers may occur in the training clips."
ADAPTED = (
    "The vectors of each test speaker are standardised by some of its clips, without labels. Do not compare these "
    "scores with unadapted ones as equals."
)
SPEAKER_DEPENDENT = "Trained on test speakers: these scores do not hold for new speakers."


@dataclass(frozen=True)
class Summary:
    """What to look at first in one table of the leaderboard."""

    title: str  # dataset and protocol
    verdict: str  # whether test speakers occur in the training clips
    speaker_dependent: bool  # whether heads or encoders were trained on test speakers
    points: tuple[tuple[str, str], ...]  # each with its subject


def summaries(boards: Sequence[Table], baselines: Sequence[str]) -> list[Summary]:
    """Return a summary of each table, with its sentence about duration and level; of tables of adapted heads, one.

    The one is for all tables of a dataset and protocol: it has a point for each amount of clips.
    """
    found = [summary(b, text) for b, text in zip(boards, baselines, strict=True) if not b.rows[0].adapted]
    adapted: dict[str, list[Table]] = {}
    for board in boards:
        if board.rows[0].adapted:
            adapted.setdefault(_place(board.rows[0]), []).append(board)
    return [*found, *(_adapted_summary(place, tables) for place, tables in adapted.items())]


def _place(row: Row) -> str:
    return f"{row.dataset}, protocol {unadapted_name(row.protocol)}"


def _adapted_summary(place: str, boards: Sequence[Table]) -> Summary:
    dependent = any(trained_on_test_speakers(board.rows[0].leaks) for board in boards)
    points = [(_amount_text(board.rows[0]), best_text(board.rows)) for board in boards]
    points.append(("Leaks", _leaks_text(boards[0].rows[0].leaks)))
    verdict = SPEAKER_DEPENDENT if dependent else ADAPTED
    return Summary(f"{place}, adapted to test speakers", verdict, dependent, tuple(points))


def _amount_text(row: Row) -> str:
    return "All clips" if row.adapted == "all" else count(int(row.adapted), "clip")


def summary(board: Table, baselines: str = "") -> Summary:
    """Return the summary of a table. `baselines` is the sentence about duration and level; "" for none.

    Labels, speakers and confidence are described for the best head. They are left out if the head was trained on test
    speakers, because those scores are not for new speakers.
    """
    first, p = board.rows[0], board.predictions[0]
    dependent = trained_on_test_speakers(first.leaks)
    points = [("Best head" if len(board.rows) > 1 else "Score", best_text(board.rows))]
    if len(board.rows) > 1:
        points.append(("Differences", comparison_text(board.rows)))
    points.append(("Leaks", _leaks_text(first.leaks)))
    if not dependent:
        points += _details(p)
        points += [("Baseline", baselines)] if baselines else []
    points += [("Note", text) for text in _other_notes(board.rows)]
    return Summary(_place(first), _verdict(first.leaks), dependent, tuple(points))


def _verdict(leaks: str) -> str:
    if trained_on_test_speakers(leaks):
        return SPEAKER_DEPENDENT
    return SPEAKERS_UNKNOWN if "speaker?" in leaks.split("+") else SPEAKER_INDEPENDENT


def _other_notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes on the rows, without what other points of a summary say: intervals, and datasets of a union."""
    notes = [text.removeprefix("Note: ") for text in notes_text(rows)]
    return [note for note in notes if "no intervals: " not in note and "UAR by dataset: " not in note]


def _leaks_text(leaks: str) -> str:
    """Return what was found, each with its word in the column `leaks`: `Training and test clips share … (text).`"""
    found = leaks_found(leaks)
    return f"{found[0].upper()}{found[1:]}."


def _details(p: Predictions) -> Iterator[tuple[str, str]]:
    yield "Weakest label", weakest_label_text(p)
    yield "Speakers", speakers_text(p)
    yield "Confidence", confidence_text(p)
    if UNION in p.dataset:
        yield "By dataset", datasets_text(p)


def best_text(rows: Sequence[Row]) -> str:
    """Return sentences about the score of the best row: its interval, chance, and how much they rest on."""
    best = rows[0]
    chance = 1 / best.classes
    name = f"{best.head} on {vectors_name(best.head, best.encoder, best.view)}"
    begin = f"{name} has the highest UAR" if len(rows) > 1 else f"{name} has a UAR of"
    sentences = [f"{begin}{':' if len(rows) > 1 else ''} {_interval_text(best)}; chance is {number_text(chance)}."]
    if best.uar_low <= chance <= best.uar_high:
        sentences.append("The interval contains chance, so the head may be no better than guessing.")
    if best.uar_high < chance:
        sentences.append("The interval is below chance.")
    if math.isnan(best.uar_low):
        sentences.append("Without an interval, it is not known how far other speakers would score from this.")
    elif best.n_speakers < FEW_SPEAKERS:
        sentences.append(f"Only {count(best.n_speakers, 'speaker')} were tested.")
    if best.folds == 1:
        sentences.append("It was measured on one fold, so another choice of training clips may give another score.")
    return " ".join(sentences)


def _interval_text(row: Row) -> str:
    speakers = count(row.n_speakers, "speaker")
    if math.isnan(row.uar_low):
        why = f"an interval needs {MIN_SPEAKERS}" if row.n_speakers < MIN_SPEAKERS else "no interval"
        return f"{number_text(row.uar)} ({speakers}; {why})"
    interval = f"{number_text(row.uar_low)}–{number_text(row.uar_high)}"
    return f"{number_text(row.uar)}, 95 % interval {interval} over {speakers}"


def weakest_label_text(p: Predictions) -> str:
    """Return a sentence about the label of the lowest recall, and what its clips are most often taken for."""
    data = Confusion.of(p)
    known = np.flatnonzero(data.clips)
    lowest, highest = data.recalls[known].min(), data.recalls[known].max()
    if lowest == highest:
        return f"All labels have a recall of {number_text(lowest)}."
    weakest = [int(i) for i in known if data.recalls[i] == lowest]
    labels = [data.labels[i] for i in weakest]
    names = enumerated(labels) if len(labels) <= LOWEST else f"{len(labels)} labels"
    few = int(data.clips[weakest].min()) // p.repeats < FEW_CLIPS
    warning = f" A label with fewer than {FEW_CLIPS} clips: its recall says little." if few else ""
    if len(weakest) > 1:
        return f"{names} have the lowest recall: {number_text(lowest)} each.{warning}"
    (i,) = weakest
    correct, total = int(data.counts[i, i]), int(data.clips[i])
    what = "predictions" if p.repeats > 1 else "clips"
    text = f"{names}: {p.head} is right for {correct} of {total} {what} (recall {number_text(lowest)})"
    return f"{text}{_taken_for(data.counts[i], i, data.labels)}.{warning}"


def _taken_for(counts: NDArray[np.int64], own: int, labels: Sequence[str]) -> str:
    """Return the label that is most often predicted instead of the true one, given its row of the matrix (C,)."""
    others = counts.copy()
    others[own] = 0
    most = int(others.argmax())
    return f", and takes {others[most]} for {labels[most]}" if others[most] else ""


def speakers_text(p: Predictions) -> str:
    """Return sentences about the spread of the UAR over speakers, with the names of the lowest."""
    data = SpeakerScores.of(p)
    order = np.argsort(data.uar, kind="stable")
    if len(order) == 1:
        return "Only one speaker was tested, so nothing is known about others."
    low, high = (number_text(data.uar[i]) for i in (order[0], order[-1]))
    lowest = order[: LOWEST if len(order) > 2 * LOWEST else 1]
    named = ", ".join(f"{data.names[i]} ({number_text(data.uar[i])})" for i in lowest)
    text = f"The UAR of {p.head} for one speaker is between {low} and {high}; lowest: {named}."
    return f"{text} {clips_of_speakers(p)}"


def confidence_text(p: Predictions) -> str:
    """Return a sentence that compares the mean confidence with the accuracy, with ECE and Brier score."""
    data = Reliability.of(p)
    # rounded first, so that the difference is that of the numbers that are shown
    confidence, accuracy = round(float(p.proba.max(axis=1).mean()), 2), round(float(p.correct.mean()), 2)
    gap = confidence - accuracy
    verdict = "as high as" if abs(gap) < 0.005 else f"{abs(gap):.2f} {'above' if gap > 0 else 'below'}"
    calibrated = " The probabilities were calibrated in inner folds." if p.head.endswith("-calibrated") else ""
    means = f"The mean confidence of {p.head}, {confidence:.2f}, is {verdict} its accuracy, {accuracy:.2f}"
    return f"{means} ({data.scores}).{calibrated}"


def datasets_text(p: Predictions) -> str:
    """Return the UAR of each dataset of a union, with its speakers."""
    owners = datasets_of(p)
    scores = zip(np.unique(owners).tolist(), uar(p.matrices_by(owners)), strict=True)
    parts = (f"{name} {number_text(score)} ({_speakers_of(p, owners == name)})" for name, score in scores)
    return f"UAR within {', '.join(parts)}."


def _speakers_of(p: Predictions, rows: NDArray[np.bool_]) -> str:
    return count(len(np.unique(p.speakers[rows])), "speaker")
