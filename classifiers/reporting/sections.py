"""The section of a report about one head: figures, tables and sentences, computed from its predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from embedcache.text import count

from ..data.csv_text import number_text
from ..evaluation.intervals import recall_estimate
from ..evaluation.leaderboard import Row
from ..evaluation.metrics import recalls, uar
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import vectors_name
from . import charts as charts
from .charts import Score
from .figure_data import Confusion, LayerWeights, LearningCurves, Reliability, RiskCoverage, SpeakerScores
from .hardest_clips import ClipFacts, clip_column
from .terminal_tables import interval_text, leaks_text

HARDEST = 9  # number of hardest clips
MAX_LABELS = 40  # with more labels, no confusion matrix is drawn
MAX_GROUPS = 12  # with more values of a column, such as gender, no scores by its values are shown
MAX_CHOSEN = 12  # chosen parameters that are listed
SHADES = 10  # shades of the cells of a confusion matrix, not counting the background
MAX_CHARACTERS = 200  # longest text that is taken from run.json
GROUP_COLUMNS = ("gender", "intensity")  # columns of the manifest by which scores are shown


@dataclass(frozen=True)
class Figure:
    """A chart with a title, and a sentence below it."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a confusion matrix."""

    count: int  # number of clips
    share: float  # share of the clips of the row's label
    shade: int  # 0 to SHADES


@dataclass(frozen=True)
class MatrixRow:
    """A row of a confusion matrix: the clips of one label."""

    label: str
    cells: tuple[MatrixCell, ...]
    recall: str


@dataclass(frozen=True)
class Grid:
    """A table of texts with a header row. The first cell of each row is its header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class GroupScores:
    """UAR, and recall by label, for each value of a column of the manifest; or the reason why they are not shown."""

    figure: Figure | None = None
    grid: Grid | None = None
    reason: str = ""


@dataclass(frozen=True)
class HardClip:
    """A clip to whose true label a head gave a low probability. Probabilities are means over the seeds."""

    clip_id: str
    speaker: str
    label: str  # true label
    predicted: str  # label with the highest probability
    p_label: float  # probability of the true label
    p_predicted: float  # probability of the predicted label


@dataclass(frozen=True)
class HeadSection:
    """The section of a report about one head."""

    title: str
    row: Row
    interval: str  # interval of the UAR
    leaks: str  # sentence about the leaks
    labels: tuple[str, ...]
    matrix: tuple[MatrixRow, ...]  # () if there are too many labels
    figures: tuple[Figure, ...]
    groups: tuple[GroupScores, ...]
    chosen: Grid | None  # parameters that each fold chose
    features: tuple[Grid, ...]  # features that a linear head weighs most, and their contours
    notes: tuple[str, ...]  # what is not shown, and why
    hardest: tuple[HardClip, ...]
    params: str  # parameters of the head


def head_section(row: Row, p: Predictions, facts: ClipFacts) -> HeadSection:
    """Return the section about one head, given its row in the leaderboard and its predictions.

    `facts` are the manifest's entries of its test clips.
    """
    confusion = Confusion.of(p)
    few_labels = len(p.labels) <= MAX_LABELS
    by_label = [_recall_figure(confusion)] if few_labels else []
    return HeadSection(
        title=f"{p.head} on {vectors_name(p.head, p.encoder, p.view)}",
        row=row,
        interval=interval_text(row),
        leaks=leaks_text(p.leaks),
        labels=p.labels,
        matrix=_matrix_rows(confusion) if few_labels else (),
        figures=(*by_label, _speaker_figure(p), *_confidence_figures(p), *_training_figures(p)),
        groups=_groups(p, facts) if few_labels and not facts.reason else (),
        chosen=_chosen_parameters(p),
        features=_features(p),
        notes=_notes(p, facts, few_labels),
        hardest=hardest_clips(p),
        params=json_text(p.params),
    )


def hardest_clips(p: Predictions) -> tuple[HardClip, ...]:
    """Return the HARDEST clips to whose true label a head gave the lowest probability, the lowest first."""
    ids, first_rows, clip_numbers = np.unique(p.clip_ids, return_index=True, return_inverse=True)
    proba = np.zeros((len(ids), len(p.labels)))
    np.add.at(proba, clip_numbers, p.proba)
    proba /= np.bincount(clip_numbers)[:, None]
    p_label = proba[np.arange(len(ids)), p.truth_columns[first_rows]]
    selected = np.argsort(p_label, kind="stable")[:HARDEST]
    return tuple(
        HardClip(
            clip_id=str(ids[i]),
            speaker=str(p.speakers[first_rows[i]]),
            label=str(p.truth[first_rows[i]]),
            predicted=p.labels[int(proba[i].argmax())],
            p_label=float(p_label[i]),
            p_predicted=float(proba[i].max()),
        )
        for i in selected.tolist()
    )


def json_text(value: object) -> str:
    """Return a JSON value as one line of at most MAX_CHARACTERS characters: `a=1, b=2` for an object."""
    if isinstance(value, Mapping):
        line = ", ".join(f"{key}={_item_text(item)}" for key, item in sorted(value.items()))
    elif isinstance(value, list | tuple):
        line = ", ".join(map(_item_text, value))
    else:
        line = _item_text(value)
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def _item_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _notes(p: Predictions, facts: ClipFacts, few_labels: bool) -> tuple[str, ...]:
    notes = [f"Recall by gender and intensity is not shown. {facts.reason}"] if facts.reason else []
    if not few_labels:
        notes.append(
            f"The confusion matrix of {len(p.labels)} labels is not shown because of its size: per_label.csv has "
            "the recall of each label."
        )
    return tuple(notes)


def _matrix_rows(data: Confusion) -> tuple[MatrixRow, ...]:
    rows = zip(data.labels, data.counts.tolist(), data.shares.tolist(), data.recalls.tolist(), strict=True)
    return tuple(
        MatrixRow(label, tuple(map(_matrix_cell, counts, shares)), f"{number_text(recall)}")
        for label, counts, shares, recall in rows
    )


def _matrix_cell(clips: int, share: float) -> MatrixCell:
    return MatrixCell(clips, share, math.ceil(share * SHADES - 1e-9))


def _recall_figure(data: Confusion) -> Figure:
    rows = zip(data.labels, data.recalls.tolist(), data.clips.tolist(), strict=True)
    scores = [Score(label, recall, note=f"of {clips}") for label, recall, clips in rows]
    return Figure("Recall of each label", charts.bars(scores, "Recall by label"))


def _speaker_figure(p: Predictions) -> Figure:
    data = SpeakerScores.of(p)
    scores = [Score(name, value) for name, value in zip(data.names, data.uar.tolist(), strict=True)]
    lowest, highest, deviation = map(number_text, (data.uar.min(), data.uar.max(), data.sd))
    note = f"From {lowest} to {highest}, standard deviation {deviation}."
    return Figure("UAR of each speaker", charts.strip(scores, data.mean, "UAR by speaker"), note)


def _confidence_figures(p: Predictions) -> tuple[Figure, Figure]:
    """Return the reliability diagram and the risk-coverage curve."""
    data = Reliability.of(p)
    note = (
        f"{len(data.clips)} bins of equal width; larger dots have more clips. {data.scores}. Dots below the diagonal: "
        "the confidence is too high."
    )
    curve_note = "Clips are accepted in descending order of confidence; at the last point, all clips are accepted."
    return (
        Figure("Reliability", charts.reliability_diagram(data), note),
        Figure("Risk and coverage", charts.risk_curve(RiskCoverage.of(p)), curve_note),
    )


def _training_figures(p: Predictions) -> list[Figure]:
    """Return learning curves and layer weights, for heads that have them."""
    figures = []
    for quantity in ("loss", "accuracy"):
        data = LearningCurves.of(p, quantity)
        if data.lines:
            note = "Thin lines: folds. Bold lines: mean over the folds that still train at that epoch."
            figures.append(Figure(f"Learning curves: {quantity}", charts.curves(data), note))
    if weights := LayerWeights.of(p):
        note = (
            f"Columns: mean over {count(weights.folds, 'fold')}. Whiskers: lowest and highest weight. Dashed: equal "
            "weights."
        )
        figures.append(Figure("Weight of each layer", charts.columns(weights), note))
    return figures


def _groups(p: Predictions, facts: ClipFacts) -> tuple[GroupScores, ...]:
    return tuple(_group_scores(p, clip_column(p, facts, name), name) for name in GROUP_COLUMNS)


def _group_scores(p: Predictions, values: NDArray[np.str_], name: str) -> GroupScores:
    """Return the scores by the values (n,) of a column. UAR is over the labels that occur with every value."""
    groups = [str(value) for value in np.unique(values) if value]
    if not 2 <= len(groups) <= MAX_GROUPS:
        found = f"{len(groups)} values" if len(groups) > 1 else f"only the value {groups[0]}" if groups else "no value"
        return GroupScores(reason=f"Recall by {name} is not shown: the manifest has {found} in this column.")
    matrices = np.stack([p.matrix(values == group) for group in groups])  # (groups, C, C)
    grid = _recall_grid(p, matrices, groups, name)
    shared = (matrices.sum(axis=2) > 0).all(axis=0)  # (C,) labels that occur in every group
    if not shared.any():
        return GroupScores(grid=grid)
    scores = [_group_score(p, values == group, shared, group) for group in groups]
    left_out = [label for label, is_shared in zip(p.labels, shared, strict=True) if not is_shared]
    note = "Whiskers: 95 % intervals over speakers."
    note += f" Without {', '.join(left_out)}, which not every group has." if left_out else ""
    return GroupScores(Figure(f"UAR by {name}", charts.bars(scores, f"UAR by {name}"), note), grid)


def _group_score(p: Predictions, rows: NDArray[np.bool_], shared: NDArray[np.bool_], group: str) -> Score:
    """Return the UAR of selected rows over the labels `shared`, with its interval over speakers."""
    speakers = np.unique(p.speakers[rows])
    matrices = np.stack([p.matrix(rows & (p.speakers == speaker)) for speaker in speakers])
    matrices[:, ~shared] = 0  # a label without a clip is left out of UAR
    low, high = recall_estimate(matrices, uar, p.repeats).interval()
    note = f"{count(len(speakers), 'speaker')}, {count(int(matrices.sum()), 'clip')}"
    return Score(group, float(uar(matrices.sum(axis=0))), low, high, note=note)


def _recall_grid(p: Predictions, matrices: NDArray[np.int64], groups: Sequence[str], name: str) -> Grid:
    """Return the table of recalls: a row for each label, a column for each group."""
    clips = matrices.sum(axis=2)  # (groups, C)
    values = recalls(matrices)
    rows = tuple(
        (label, *(f"{number_text(values[g, i])} of {clips[g, i]}" if clips[g, i] else "–" for g in range(len(groups))))
        for i, label in enumerate(p.labels)
    )
    return Grid(f"Recall by label and {name}", ("label", *groups), rows)


def _chosen_parameters(p: Predictions) -> Grid | None:
    """Return the table of the parameters that each fold chose, in the order of seeds and folds."""
    if not p.chosen:
        return None
    names = sorted({name for chosen in p.chosen for name in chosen})[:MAX_CHOSEN]
    folds = list(dict.fromkeys(p.splits.tolist()))
    if len(folds) != len(p.chosen):
        folds = [str(n) for n in range(1, len(p.chosen) + 1)]
    rows = tuple(
        (fold, *(json_text(chosen.get(name, "–")) for name in names))
        for fold, chosen in zip(folds, p.chosen, strict=True)
    )
    return Grid("Parameters chosen in each fold", ("seed/fold", *names), rows, "Chosen on the training clips alone.")


def _features(p: Predictions) -> tuple[Grid, ...]:
    """Return tables of the features that a linear head weighs most, and of their contours."""
    note = (
        "Shares in the squares of the coefficients of standardised features, averaged over folds. Features that depend "
        "on each other divide their share, so a small share is no proof that a feature says nothing."
    )
    return tuple(
        Grid(
            f"{kind.capitalize()} that weigh most",
            (kind.removesuffix("s"), "share"),
            tuple((name, f"{100 * share:.1f} %") for name, share in shares.items()),
            note,
        )
        for kind, shares in p.feature_shares.items()
    )
