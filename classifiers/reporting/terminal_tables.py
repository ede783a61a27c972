"""Tables for the terminal: leaderboards and cross-corpus runs, with sentences about significance and leaks.

A table fits the width of the terminal, and no name is broken. If not all columns fit, the encoder and its view are
printed on two lines. If that is not enough, the last columns are left out, and a line below the table names them. If
not even the columns that identify a row and its score fit, each row is printed as a record, with a line for each
column.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from operator import attrgetter
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from embedcache.files.tables import read_rows
from embedcache.terminal import print_table
from embedcache.text import count, one_line

from ..data.csv_text import number_text
from ..data.labels import NATIVE
from ..evaluation.cross_table import CrossRow
from ..evaluation.leaderboard import Row, table_key, value_of
from ..evaluation.row_texts import vectors_name
from ..evaluation.statistics import ALPHA, MIN_SPEAKERS, smallest_p

WIDE_TERMINAL = 110  # width in characters from which columns are separated by two spaces instead of one, if they fit
CROSS_NOTES = (
    "If both datasets are the same, the score is from speaker-independent folds within the dataset.",
    "most: WAR of always predicting the most frequent training label.",
    "same: test clips left out because the same recording, or speaker under another name, is in the training set.",
    "other: test clips left out because the training set lacks their label.",
)
LEAKS = {
    "speaker": "the test speakers also occur in the training clips, so expect lower scores for new speakers",
    "speaker?": "some speakers are unknown, or nearly every clip has its own speaker, so scores may be too high",
    "session": "training and test clips share sessions",
    "audio": "some recordings, or parts of them, are both in the training and in the test clips",
    "audio~": "some test clips are probably copies of training clips",
    "text": "training and test clips share sentences",
    "text?": "the dataset does not give all sentences, so sentences may be shared",
    "encoder": "the encoder was trained on test clips or their speakers, so expect lower scores for new speakers",
    "encoder?": "not all training data of the encoder are known, so test clips may be among them",
}
UNKNOWN_LEAK = "a leak that this version of ser does not know"


@dataclass(frozen=True)
class Column:
    """A column of a table, with the text of each row."""

    name: str
    cells: Sequence[str]
    left: bool = False  # whether the texts are aligned to the left
    optional: bool = False  # whether the column may be left out; the last optional column is left out first

    @property
    def width(self) -> int:
        """The width in characters of the widest line of text, or of the name."""
        return max(cell_len(line) for text in (self.name, *self.cells) for line in text.split("\n"))

    def aligned(self, line: str) -> str:
        """Return a line of text, padded to the width of the column."""
        padding = " " * (self.width - cell_len(line))
        return line + padding if self.left else padding + line

    def wrapped(self) -> Column:
        """Return the column with a line break after each comma: `mfcc, layers` becomes two lines."""
        return replace(self, cells=[text.replace(", ", ",\n") for text in self.cells])


def show_leaderboard(rows: Sequence[Row], console: Console, columns: Sequence[str] = ()) -> None:
    """Print the rows of a leaderboard: a table for each dataset and protocol.

    `columns` are names of columns, see `leaderboard.NAMES`; by default the usual ones.
    """
    for _, group in groupby(rows, key=table_key):
        _show_table(list(group), console, columns)


def show_labels(run: Path) -> None:
    """Print the mapping of the labels of a run, if it changes a label or if the run has several datasets."""
    changes = read_rows(run / "labels.csv", ("dataset", "label", "becomes", "clips"))
    if any(c["label"] != c["becomes"] for c in changes) or len({c["dataset"] for c in changes}) > 1:
        rows = [(c["dataset"], c["label"], c["becomes"] or "(left out)", c["clips"]) for c in changes]
        kept = sum(int(c["clips"]) for c in changes if c["becomes"])
        print_table(("dataset", "label", "becomes", "clips"), rows)
        print(f"clips before: {sum(int(c['clips']) for c in changes)}; after: {kept}")


def show_cross(rows: Sequence[CrossRow], console: Console) -> None:
    """Print the rows of a cross-corpus run: a table for each head and encoder."""
    by_head = attrgetter("head", "encoder")
    for (head, encoder), group in groupby(sorted(rows, key=by_head), key=by_head):
        _print(console, "")
        _print_sentence(console, f"{head} on {encoder}, across datasets", "bold cyan")
        _print_columns(_cross_columns(list(group)), console, "cross.csv in the run folder")
    for note in (*CROSS_NOTES, *_cross_leaks(rows)):
        _print_sentence(console, note)


def leaks_text(leaks: str) -> str:
    """Return a sentence about the `leaks` of a leaderboard row, such as `Leaks: none found.`."""
    return f"Leaks: {leaks_found(leaks)}."


def leaks_found(leaks: str) -> str:
    """Return what was found, without a full stop, such as `training and test clips share sentences (text)`."""
    if not leaks:
        return "none found: speakers, recordings, sentences and the encoder's training data were checked"
    return "; ".join(f"{LEAKS.get(name, UNKNOWN_LEAK)} ({name})" for name in leaks.split("+"))


def comparison_text(rows: Sequence[Row]) -> str:
    """Return a sentence about which rows of a table differ significantly from the best, or why that is unknown."""
    if reason := untested_text(rows):
        return reason
    best, others = rows[0], rows[1:]
    name = row_name(best, rows)
    tied = [row_name(row, rows) for row in others if row.p_vs_best > ALPHA]
    worse = [row_name(row, rows) for row in others if row.p_vs_best <= ALPHA]
    parts = [f"No significant difference between {name} and {enumerated(tied, 'or')}"] if tied else []
    parts += [f"{name} has a higher {best.ranked_by.metric} than {enumerated(worse)}"] if worse else []
    speakers = count(best.n_speakers, "speaker")
    test = f"({speakers}, permutation test adjusted for all pairs of rows, alpha {ALPHA:g})"
    sentence = f"{'; '.join(parts)} {test}."
    return " ".join(filter(None, [sentence, smallest_difference_text(rows) if tied else ""]))


def untested_text(rows: Sequence[Row]) -> str:
    """Return a sentence about why the rows of a table were not tested against the best; "" if they were."""
    best, others = rows[0], rows[1:]
    speakers = count(best.n_speakers, "speaker")
    if best.n_speakers < MIN_SPEAKERS:
        return f"{speakers}: too few speakers for an interval, and too few to compare heads."
    if smallest_p(best.n_speakers) > ALPHA:
        possible = f"{smallest_p(best.n_speakers):.3g}"
        return f"{speakers}: too few speakers to compare heads. No p-value below {possible} is possible."
    by = best.ranked_by
    if best.chosen and math.isnan(by.low):
        return f"{by.metric} has no interval, so the differences were not tested."
    if any(math.isnan(row.p_vs_best) for row in others):
        return "The rows were tested on different clips, so their differences were not tested."
    return ""


def smallest_difference_text(rows: Sequence[Row]) -> str:
    """Return a sentence about the smallest difference to the best row that the table could have shown; "" for none."""
    smallest = min((row.smallest_difference for row in rows[1:] if row.smallest_difference > 0), default=math.inf)
    return (
        f"With these speakers, a difference below {number_text(smallest)} cannot be significant."
        if smallest < rows[0].ranked_by.width
        else ""
    )


def adaptation_text(rows: Sequence[Row]) -> list[str]:
    """Return a sentence on the clips that the rows of a table are adapted to; none for unadapted rows."""
    first = rows[0]
    if not first.adapted:
        return []
    used = f"{first.adapted} of the speaker's clips" if first.adapted != "all" else "all of the speaker's clips"
    drawn = f"drawn at random {first.draws} times" if first.draws > 1 else "taken once"
    clips = f"{count(first.adapt_clips, 'clip')} in {'each draw' if first.draws > 1 else 'all'}"
    return [
        f"Adapted: the vectors of each test speaker are standardised by {used}, {drawn} without labels among the test "
        f"clips ({clips}). Do not compare these scores with unadapted ones as equals."
    ]


def notes_text(rows: Sequence[Row]) -> list[str]:
    """Return the notes on the rows of a table, one sentence for all rows that share a note."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row.notes.split("; ")):
            by_note.setdefault(note, []).append(row_name(row, rows))
    return [
        f"Note: {note if len(names) == len(rows) else f'{enumerated(names)}: {note}'}."
        for note, names in by_note.items()
    ]


def interval_text(row: Row | CrossRow) -> str:
    """Return the interval of the UAR, such as `0.449–0.536`; a dash if there are too few speakers for an interval."""
    return _range_text(row.uar_low, row.uar_high)


def _range_text(low: float, high: float) -> str:
    """Return two numbers as text, such as `0.449–0.536` or `-0.2 to 0.1`; a dash if they are unknown."""
    if math.isnan(low):
        return "–"
    return f"{number_text(low)}{'–' if low >= 0 else ' to '}{number_text(high)}"


def enumerated(names: Sequence[str], word: str = "and") -> str:
    """Return names as text: `a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def row_name(row: Row, rows: Sequence[Row]) -> str:
    """Return the head of a row, with vectors and copies if several rows have the same head."""
    if [other.head for other in rows].count(row.head) == 1:
        return row.head
    copies = f" with {row.copies} copies" if row.copies else ""
    return f"{row.head} on {vectors_name(row.head, row.encoder, row.view)}{copies}"


def _show_table(rows: Sequence[Row], console: Console, names: Sequence[str]) -> None:
    first = rows[0]
    seeds = f" x {first.seeds} seeds" if first.seeds > 1 else ""
    labels = f", labels {first.labels}" if first.labels != NATIVE else ""
    title = (
        f"{first.dataset}{labels}, protocol {first.protocol}: {count(first.folds, 'fold')}{seeds}, "
        f"{first.n_clips} clips, {count(first.n_speakers, 'speaker')}, {first.classes} labels "
        f"({'chance UAR' if first.chosen else 'chance'} {number_text(1 / first.classes)})"
    )
    _print(console, "")
    _print_sentence(console, title, "bold cyan")
    columns = [_named_column(name, rows, optional=n > 0) for n, name in enumerate(names)] or _leaderboard_columns(rows)
    _print_columns(columns, console, "`ser leaderboard --csv FILE`")
    if first.chosen:
        _print_sentence(console, f"Ranked by {first.chosen.metric}: {first.chosen.about}. Greater is better.")
    if len(rows) > 1 or math.isnan(first.ranked_by.low):
        _print_sentence(console, comparison_text(rows))
    for sentence in sorted({leaks_text(row.leaks) for row in rows}):
        _print_sentence(console, sentence)
    for sentence in (*adaptation_text(rows), *notes_text(rows)):
        _print_sentence(console, sentence)


def _leaderboard_columns(rows: Sequence[Row]) -> list[Column]:
    copies = [Column("copies", [str(row.copies) for row in rows])] if any(row.copies for row in rows) else []
    seeds = [Column("seed sd", [number_text(row.uar_seed_sd) for row in rows])] if rows[0].seeds > 1 else []
    scores = [row.ranked_by for row in rows]
    uar = [Column("UAR", [number_text(row.uar) for row in rows], optional=True)] if rows[0].chosen else []
    return [
        Column("#", [str(row.rank) for row in rows]),
        Column("head", [row.head for row in rows], left=True),
        Column("encoder", [vectors_name(row.head, row.encoder, row.view) for row in rows], left=True),
        Column(scores[0].metric, [number_text(score.value) for score in scores]),
        Column("95 %", [_range_text(score.low, score.high) for score in scores]),
        *uar,
        *seeds,
        Column("WAR", [number_text(row.war) for row in rows], optional=True),
        Column("F1", [number_text(row.macro_f1) for row in rows], optional=True),
        Column("ECE", [number_text(row.ece) for row in rows], optional=True),
        Column("Brier", [number_text(row.brier) for row in rows], optional=True),
        Column("fit s", [number_text(row.fit_seconds) for row in rows], optional=True),
        Column("ms/clip", [number_text(row.predict_ms) for row in rows], optional=True),
        *copies,
    ]


def _named_column(name: str, rows: Sequence[Row], optional: bool) -> Column:
    values = [value_of(row, name) for row in rows]
    texts = [number_text(found, name) if isinstance(found, float) else one_line(str(found)) for found in values]
    return Column(name, texts, left=isinstance(values[0], str), optional=optional)


def _cross_columns(rows: Sequence[CrossRow]) -> list[Column]:
    return [
        Column("trained on", [row.train for row in rows], left=True),
        Column("tested on", [row.test for row in rows], left=True),
        Column("UAR", [number_text(row.uar) for row in rows]),
        Column("95 %", [interval_text(row) for row in rows]),
        Column("chance", [number_text(row.chance) for row in rows], optional=True),
        Column("WAR", [number_text(row.war) for row in rows], optional=True),
        Column("most", [number_text(row.majority_war) for row in rows], optional=True),
        Column("tested", [str(row.test_clips) for row in rows], optional=True),
        Column("same", [str(row.excluded) for row in rows], optional=True),
        Column("other", [str(row.test_other) for row in rows], optional=True),
    ]


def _cross_leaks(rows: Sequence[CrossRow]) -> list[str]:
    """Return a sentence for each combination of leaks, with the pairs of datasets that have it."""
    sentences = []
    for leaks in sorted({row.leaks for row in rows if row.leaks}):
        pairs = dict.fromkeys(f"{row.train}->{row.test}" for row in rows if row.leaks == leaks)
        sentences.append(f"Leaks: {leaks_found(leaks)} ({', '.join(pairs)}).")
    return sentences


def _print_columns(columns: Sequence[Column], console: Console, source: str) -> None:
    """Print columns as a table, or as records if no table fits. `source` is where left-out columns can be found."""
    shown, gap = _fit(columns, console.width)
    if not shown:
        _print(console, _records(columns))
        return
    _print(console, _row_text(shown, [column.name for column in shown], gap), "bold")
    for cells in zip(*(column.cells for column in shown), strict=True):
        _print(console, _row_text(shown, cells, gap))
    names = {column.name for column in shown}
    if left_out := ", ".join(column.name for column in columns if column.name not in names):
        text = f"Left out at {console.width} columns: {left_out}. A wider terminal or {source} shows them."
        _print_sentence(console, text)


def _fit(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    """Return the columns that fit into a width, and the number of spaces between them; no column if no table fits.

    Texts are wrapped if not all columns fit. Then optional columns are left out, the last one first, until the others
    fit.
    """
    if width >= WIDE_TERMINAL and _table_width(columns, 2) <= width:
        return list(columns), 2
    if _table_width(columns, 1) <= width:
        return list(columns), 1
    shown = [column.wrapped() for column in columns]
    while _table_width(shown, 1) > width:
        optional = [column for column in shown if column.optional]
        if not optional:
            return [], 1
        shown.remove(optional[-1])
    return shown, 1


def _table_width(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _row_text(columns: Sequence[Column], cells: Sequence[str], gap: int) -> str:
    """Return the lines of a row, with a number of spaces between columns."""
    lines = zip_longest(*(cell.split("\n") for cell in cells), fillvalue="")
    aligned = (map(Column.aligned, columns, line) for line in lines)
    return "\n".join((" " * gap).join(texts).rstrip() for texts in aligned)


def _records(columns: Sequence[Column]) -> str:
    """Return for each row a line with the name and the text of each column, and an empty line between two rows."""
    indent = max(cell_len(column.name) for column in columns) + 2
    records = [
        "\n".join(column.name.ljust(indent) + cell for column, cell in zip(columns, cells, strict=True))
        for cells in zip(*(column.cells for column in columns), strict=True)
    ]
    return "\n\n".join(records)


def _print_sentence(console: Console, sentence: str, style: str = "dim") -> None:
    """Print a sentence, wrapped to the width of the terminal between words."""
    lines = textwrap.wrap(sentence, console.width, break_long_words=False, break_on_hyphens=False)
    _print(console, "\n".join(lines), style)


def _print(console: Console, lines: str, style: str = "") -> None:
    """Print lines as they are: rich must not wrap them, and must not read brackets in names as markup."""
    console.print(Text(lines, style=style), overflow="ignore", crop=False)
