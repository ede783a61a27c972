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
from ..protocols.fold import UNION
from . import charts as charts
from .charts import Score
from .figure_data import Confusion, LayerWeights, LearningCurves, Reliability, RiskCoverage, SpeakerScores
from .hardest_clips import ClipFacts, clip_column
from .svg import WIDTH
from .terminal_tables import interval_text, leaks_text

HARDEST = 9  # number of hardest clips
MAX_LABELS = 40  # with more labels, no confusion matrix is drawn
MAX_BESIDE = 12  # with more labels, the confusion matrix fills the page, and the bars are below it
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
    narrow: Markup | None = None  # for narrow screens, if the chart fills the page on others


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
    scores: tuple[tuple[str, str], ...]  # names and numbers
    labels: tuple[str, ...]
    matrix: tuple[MatrixRow, ...]  # () if there are too many labels
    by_label: Figure | None  # beside the matrix, or below it if it fills the page
    speakers: Figure
    figures: tuple[Figure, ...]  # about confidence and training
    groups: tuple[GroupScores, ...]
    grids: tuple[Grid, ...]  # what folds chose, and what linear heads weigh most
    notes: tuple[str, ...]  # what is not shown, and why
    hardest: tuple[HardClip, ...]
    params: str  # parameters of the head


def head_section(row: Row, p: Predictions, facts: ClipFacts) -> HeadSection:
    """Return the section about one head, given its row in the leaderboard and its predictions.

    `facts` are the manifest's entries of its test clips.
    """
    confusion = Confusion.of(p)
    few_labels = len(p.labels) <= MAX_LABELS
    return HeadSection(
        title=f"{p.head} on {vectors_name(p.head, p.encoder, p.view)}",
        row=row,
        interval=interval_text(row),
        leaks=leaks_text(p.leaks),
        scores=_scores(row),
        labels=p.labels,
        matrix=_matrix_rows(confusion) if few_labels else (),
        by_label=_recall_figure(confusion) if few_labels else None,
        speakers=_speaker_figure(p),
        figures=(*_confidence_figures(p), *_training_figures(p)),
        groups=_groups(p, facts) if few_labels else (),
        grids=(*_chosen_parameters(p), *_features(p)),
        notes=_notes(p, facts, few_labels),
        hardest=hardest_clips(p),
        params=json_text(p.params),
    )


def _scores(row: Row) -> tuple[tuple[str, str], ...]:
    values = (row.war, row.macro_f1, row.ece, row.brier)
    return tuple(zip(("WAR", "macro-F1", "ECE", "Brier score"), map(number_text, values), strict=True))


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
    scores = [Score(label, recall, note=_parts(recall, clips)) for label, recall, clips in rows]
    note = "In brackets: correct predictions / predictions of the clips that have the label."
    return _bar_figure("Recall of each label", scores, "Recall by label", note, len(scores) > MAX_BESIDE)


def _parts(recall: float, clips: int) -> str:
    """Return the numbers that a recall is a ratio of: `(63/96)`."""
    return f"({round(recall * clips)}/{clips})" if clips else ""


def _bar_figure(title: str, scores: Sequence[Score], name: str, note: str, fills_page: bool) -> Figure:
    narrow = charts.bars(scores, name)
    if not fills_page:
        return Figure(title, narrow, note)
    return Figure(title, charts.bars(scores, name, charts.WIDE), note, narrow)


def _speaker_figure(p: Predictions) -> Figure:
    data = SpeakerScores.of(p)
    scores = [Score(name, value) for name, value in zip(data.names, data.uar.tolist(), strict=True)]
    lowest, highest, deviation = map(number_text, (data.uar.min(), data.uar.max(), data.sd))
    note = f"From {lowest} to {highest}, standard deviation {deviation}. {clips_of_speakers(p)}"
    mean, whole = number_text(data.mean), number_text(float(uar(p.matrix())))
    note += (
        f" Their mean, {mean}, counts each speaker once; the UAR over all clips is {whole}." if mean != whole else ""
    )
    title, name = "UAR of each speaker", "UAR by speaker"
    if len(scores) <= charts.FEW_SPEAKERS:
        return _bar_figure(title, scores, name, note, True)
    wide, narrow = (charts.strip(scores, data.mean, name, width) for width in (charts.WIDE, WIDTH))
    return Figure(title, wide, note, narrow)


def clips_of_speakers(p: Predictions) -> str:
    """Return a sentence about the number of test clips of a speaker, of which its score depends by chance, too."""
    clips = np.unique(p.speakers, return_counts=True)[1] // p.repeats
    low, high = int(clips.min()), int(clips.max())
    number = count(low, "clip") if low == high else f"{low} to {high} clips"
    return f"Each speaker has {number}, so part of the spread is chance."


def _confidence_figures(p: Predictions) -> tuple[Figure, Figure]:
    """Return the reliability diagram and the risk-coverage curve."""
    data = Reliability.of(p)
    note = (
        f"{len(data.clips)} bins of equal width; larger dots have more clips. {data.scores}. Dots below the diagonal: "
        "the confidence is too high."
    )
    risk = RiskCoverage.of(p)
    numbers = "; ".join(dict.fromkeys(text for _, text in charts.risk_texts(risk)))
    curve_note = f"Clips are accepted in descending order of confidence. Dots: {numbers}."
    return (
        Figure("Reliability", charts.reliability_diagram(data), note),
        Figure("Risk and coverage", charts.risk_curve(risk), curve_note),
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
    by_dataset = [_group_scores(p, datasets_of(p), "dataset")] if UNION in p.dataset else []
    if facts.reason:
        return tuple(by_dataset)
    return (*by_dataset, *(_group_scores(p, clip_column(p, facts, name), name) for name in GROUP_COLUMNS))


def datasets_of(p: Predictions) -> NDArray[np.str_]:
    """Return the dataset of each row of a union (n,): its name is in front of the clip's."""
    return np.array([clip.partition(":")[0] for clip in p.clip_ids.tolist()])


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
    note = f"{'; '.join(_group_size(p, values == group, group) for group in groups)}."
    note += " Whiskers: 95 % intervals over speakers." if any(score.has_interval for score in scores) else ""
    note += f" Without {', '.join(left_out)}, which not every group has." if left_out else ""
    return GroupScores(_bar_figure(f"UAR by {name}", scores, f"UAR by {name}", note, False), grid)


def _group_size(p: Predictions, rows: NDArray[np.bool_], group: str) -> str:
    speakers, clips = (len(np.unique(column[rows])) for column in (p.speakers, p.clip_ids))
    return f"{group}: {count(speakers, 'speaker')}, {count(clips, 'clip')}"


def _group_score(p: Predictions, rows: NDArray[np.bool_], shared: NDArray[np.bool_], group: str) -> Score:
    """Return the UAR of selected rows over the labels `shared`, with its interval over speakers."""
    speakers = np.unique(p.speakers[rows])
    matrices = np.stack([p.matrix(rows & (p.speakers == speaker)) for speaker in speakers])
    matrices[:, ~shared] = 0  # a label without a clip is left out of UAR
    low, high = recall_estimate(matrices, uar, p.repeats).interval()
    return Score(group, float(uar(matrices.sum(axis=0))), low, high)


def _recall_grid(p: Predictions, matrices: NDArray[np.int64], groups: Sequence[str], name: str) -> Grid:
    """Return the table of recalls: a row for each label, a column for each group."""
    clips = matrices.sum(axis=2)  # (groups, C)
    values = recalls(matrices)
    rows = tuple(
        (label, *(_recall_cell(values[g, i], clips[g, i]) for g in range(len(groups))))
        for i, label in enumerate(p.labels)
    )
    note = "In brackets: correct predictions / predictions."
    return Grid(f"Recall by label and {name}", ("label", *groups), rows, note)


def _recall_cell(recall: float, clips: int) -> str:
    return f"{number_text(recall)} {_parts(recall, clips)}" if clips else "–"


def _chosen_parameters(p: Predictions) -> tuple[Grid, ...]:
    """Return the table of the parameters that each fold chose, in the order of seeds and folds; () if none did."""
    if not p.chosen:
        return ()
    names = sorted({name for chosen in p.chosen for name in chosen})[:MAX_CHOSEN]
    folds = list(dict.fromkeys(p.splits.tolist()))
    if len(folds) != len(p.chosen):
        folds = [str(n) for n in range(1, len(p.chosen) + 1)]
    rows = tuple(
        (fold, *(json_text(chosen.get(name, "–")) for name in names))
        for fold, chosen in zip(folds, p.chosen, strict=True)
    )
    if len(rows) > 1 and len({row[1:] for row in rows}) == 1:
        rows = ((f"all {len(rows)}", *rows[0][1:]),)
    note = "Chosen on the training clips alone."
    return (Grid("Parameters chosen in each fold", ("seed/fold", *names), rows, note),)


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
