"""What a report says of one head: figures, tables and sentences, computed from its predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from embedcache.text import count

from ..evaluation.intervals import speaker_bootstrap
from ..evaluation.leaderboard import Row, score
from ..evaluation.metrics import ECE_BINS, brier, ece, recalls, reliability, risk_coverage, uar
from ..evaluation.predictions import Predictions
from ..evaluation.row_names import vectors
from . import charts as charts
from .charts import Score
from .hardest_clips import ClipFacts, column
from .terminal_tables import interval, statement

HARDEST = 9  # clips
MOST_LABELS = 40  # of a matrix that is drawn
MOST_GROUPS = 12  # genders, or intensities
MOST_EPOCHS, MOST_LAYERS, MOST_CHOSEN = 1000, 200, 12  # of what a file says: no head of ours comes near
LEVELS = 10  # shades of a matrix, above none
LONGEST = 200  # characters of what a file says
GROUPED = ("gender", "intensity")


@dataclass(frozen=True)
class Figure:
    """A chart with its title, and a sentence under it."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class MatrixCell:
    """Of a confusion matrix: clips, their share of the label's, and the shade, 0 to `LEVELS`."""

    count: int
    share: float
    shade: int


@dataclass(frozen=True)
class Grid:
    """A table with a header line and a header column; cells are text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class GroupScores:
    """What a column of the manifest tells apart: UAR, and recall by label; or why nothing."""

    figure: Figure | None = None
    grid: Grid | None = None
    why: str = ""


@dataclass(frozen=True)
class HardClip:
    """A clip that a head was most wrong about; probabilities are means over the seeds."""

    clip_id: str
    speaker: str
    label: str
    predicted: str
    p_label: float
    p_predicted: float


@dataclass(frozen=True)
class HeadSection:
    """Everything that a report says of one head."""

    title: str
    row: Row
    interval: str
    leak: str
    labels: tuple[str, ...]
    matrix: tuple[tuple[str, tuple[MatrixCell, ...], str], ...]  # label, cells, recall
    figures: tuple[Figure, ...]
    groups: tuple[GroupScores, ...]
    chosen: Grid | None
    notes: tuple[str, ...]  # what is not shown, and why
    hard: tuple[HardClip, ...]
    params: str


def head_section(p: Predictions, known: ClipFacts) -> HeadSection:
    """One head's part."""
    row = score(p)
    drawn = len(p.labels) <= MOST_LABELS
    groups = [_group(p, column(p, known, name), name) for name in GROUPED] if not known.why and drawn else []
    figures = [_by_label(p)] if drawn else []
    figures += [_by_speaker(p), *_reliability(p), *_learnt(p)]
    notes = [f"Recall by gender and intensity is not shown. {known.why}"] if known.why else []
    if not drawn:
        notes.append(f"{len(p.labels)} labels are too many for a matrix here: per_label.csv has their recall.")
    return HeadSection(
        title=f"{p.head} on {vectors(p.head, p.encoder, p.view)}",
        row=row,
        interval=interval(row),
        leak=statement(p.leaks),
        labels=p.labels,
        matrix=_matrix(p) if drawn else (),
        figures=tuple(figures),
        groups=tuple(groups),
        chosen=_chosen(p),
        notes=tuple(notes),
        hard=hardest(p),
        params=json_text(p.params),
    )


def hardest(p: Predictions) -> tuple[HardClip, ...]:
    """The clips to whose label a head gave the lowest probability, lowest first."""
    ids, first, place = np.unique(p.clip_ids, return_index=True, return_inverse=True)
    proba = np.zeros((len(ids), len(p.labels)))
    np.add.at(proba, place, p.proba)
    proba /= np.bincount(place)[:, None]
    own = proba[np.arange(len(ids)), p.truth_columns[first]]
    picked = np.argsort(own, kind="stable")[:HARDEST]
    return tuple(
        HardClip(
            clip_id=str(ids[i]),
            speaker=str(p.speakers[first[i]]),
            label=str(p.truth[first[i]]),
            predicted=p.labels[int(proba[i].argmax())],
            p_label=float(own[i]),
            p_predicted=float(proba[i].max()),
        )
        for i in picked.tolist()
    )


def json_text(value: object) -> str:
    """What JSON holds, in a line of at most `LONGEST` characters."""
    if isinstance(value, Mapping):
        line = ", ".join(f"{key}={_plain(item)}" for key, item in sorted(value.items()))
    elif isinstance(value, list | tuple):
        line = ", ".join(map(_plain, value))
    else:
        line = _plain(value)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _matrix(p: Predictions) -> tuple[tuple[str, tuple[MatrixCell, ...], str], ...]:
    matrix = p.matrix()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = zip(p.labels, matrix.tolist(), shares.tolist(), recalls(matrix).tolist(), strict=True)
    return tuple(
        (
            label,
            tuple(MatrixCell(n, s, math.ceil(s * LEVELS - 1e-9)) for n, s in zip(counts, of, strict=True)),
            f"{recall:.2f}",
        )
        for label, counts, of, recall in rows
    )


def _by_label(p: Predictions) -> Figure:
    matrix = p.matrix()
    values = zip(p.labels, recalls(matrix).tolist(), matrix.sum(axis=1).tolist(), strict=True)
    scores = [Score(label, value, note=f"of {n}") for label, value, n in values]
    return Figure("Recall of each label", charts.bars(scores, "Recall by label"))


def _by_speaker(p: Predictions) -> Figure:
    values = uar(p.matrices_by(p.speakers)).tolist()
    scores = [Score(str(name), value) for name, value in zip(np.unique(p.speakers), values, strict=True)]
    mean = float(np.mean(values))
    note = f"From {min(values):.2f} to {max(values):.2f}, standard deviation {np.std(values):.2f}."
    return Figure("UAR of each speaker", charts.strip(scores, mean, "UAR by speaker"), note)


def _reliability(p: Predictions) -> list[Figure]:
    drawn = charts.reliability_diagram(reliability(p.proba, p.correct))
    scores = f"ECE {ece(p.proba, p.correct):.3f}, Brier score {brier(p.proba, p.truth_columns):.3f}"
    sure = f"{ECE_BINS} bins of equal width; dots grow with their clips. {scores}. Below the diagonal: too sure."
    _, coverage, risk = risk_coverage(p.proba, p.correct)
    answered = "Clips are answered in the order of the head's certainty; the last point answers all."
    return [
        Figure("Reliability", drawn, sure),
        Figure("Risk and coverage", charts.risk_curve(coverage, risk), answered),
    ]


def _group(p: Predictions, values: NDArray[np.str_], name: str) -> GroupScores:
    """UAR by a column of the manifest, over the labels that all its values have; and recall by label."""
    names = [str(value) for value in np.unique(values) if value]
    if len(names) < 2:
        has = f"only {names[0]}" if names else "nothing"
        return GroupScores(why=f"Recall by {name} is not shown: the manifest has {has} there.")
    if len(names) > MOST_GROUPS:
        return GroupScores(why=f"Recall by {name} is not shown: the manifest has {len(names)} values there.")
    matrices = np.stack([p.matrix(values == value) for value in names])
    shared = (matrices.sum(axis=2) > 0).all(axis=0)
    grid = _recall_grid(p, matrices, names, name)
    if not shared.any():
        return GroupScores(grid=grid)
    scores = [_group_score(p, values == value, shared, value) for value in names]
    left = [label for label, kept in zip(p.labels, shared, strict=True) if not kept]
    note = "Whiskers: 95 % over speakers." + (f" Without {', '.join(left)}, which not all have." if left else "")
    return GroupScores(Figure(f"UAR by {name}", charts.bars(scores, f"UAR by {name}"), note), grid)


def _group_score(p: Predictions, rows: NDArray[np.bool_], shared: NDArray[np.bool_], name: str) -> Score:
    speakers = np.unique(p.speakers[rows])
    matrices = np.stack([p.matrix(rows & (p.speakers == speaker)) for speaker in speakers])
    matrices[:, ~shared] = 0  # a label without a clip does not count
    low, high = speaker_bootstrap(matrices, uar)
    note = f"{count(len(speakers), 'speaker')}, {count(int(matrices.sum()), 'clip')}"
    return Score(name, float(uar(matrices.sum(axis=0))), low, high, note=note)


def _recall_grid(p: Predictions, matrices: NDArray[np.int64], names: Sequence[str], name: str) -> Grid:
    clips = matrices.sum(axis=2)
    values = recalls(matrices)
    rows = tuple(
        (label, *(f"{values[g, i]:.2f} of {clips[g, i]}" if clips[g, i] else "–" for g in range(len(names))))
        for i, label in enumerate(p.labels)
    )
    return Grid(f"Recall by label and {name}", ("label", *names), rows)


def _learnt(p: Predictions) -> list[Figure]:
    """Learning curves and layer weights, of heads that have them."""
    figures = []
    for what in ("loss", "accuracy"):
        train, held = (_lines(p.histories, f"{part}_{what}") for part in ("train", "val"))
        if train or held:
            note = "Thin: a fold. Bold: the mean of the folds that still learn at that epoch."
            figures.append(Figure(f"Learning curves: {what}", charts.curves(train, held, what), note))
    lengths = {len(weights) for weights in p.layer_weights}
    if len(lengths) == 1 and 1 < min(lengths) <= MOST_LAYERS:
        weights = np.array(p.layer_weights, dtype=np.float64)
        note = (
            f"Columns: the mean of {count(len(weights), 'fold')}; whiskers: least and greatest; dashed: equal shares."
        )
        figures.append(Figure("Weight of each layer", charts.columns(weights), note))
    return figures


def _lines(histories: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """One curve a fold; what is no list of finite numbers of at least 0 is no curve."""
    found = [history.get(name) for history in histories]
    return [curve[:MOST_EPOCHS] for curve in found if isinstance(curve, list) and curve and all(map(_is_number, curve))]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1e9


def _chosen(p: Predictions) -> Grid | None:
    """What each fold chose, in the order of seeds and folds."""
    if not p.chosen:
        return None
    names = sorted({name for fold in p.chosen for name in fold})[:MOST_CHOSEN]
    folds = list(dict.fromkeys(p.splits.tolist()))
    called = folds if len(folds) == len(p.chosen) else [str(n) for n in range(1, len(p.chosen) + 1)]
    rows = tuple(
        (fold, *(json_text(chosen.get(name, "–")) for name in names))
        for fold, chosen in zip(called, p.chosen, strict=True)
    )
    return Grid("Parameters that each fold chose", ("seed/fold", *names), rows, "Chosen on the training clips alone.")
