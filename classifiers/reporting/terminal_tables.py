"""A leaderboard for people: one table for each set of rows that can be compared, and what its leaks mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from embedcache.text import count

from ..data.labels import NATIVE
from ..evaluation.cross_table import CrossRow
from ..evaluation.leaderboard import Row, peers
from ..evaluation.row_names import vectors
from ..evaluation.statistics import FEWEST_SPEAKERS

ALPHA = 0.05
WIDE = 100  # columns, from which on there is room for the Brier score and times
AIRY = 110  # from which on there is room for wider gaps, too
CROSS_NOTES = (
    "Of one dataset alone, the score is within it, in folds by speaker.",
    "most: WAR of always saying the label that is most frequent in training.",
    "same, other: test clips left out, whose recordings are trained on, or whose labels are not.",
)
LEAKS = {
    "speaker": "the test speakers were heard in training: on new speakers expect less",
    "audio": "identical files stand in train and test",
    "text": "train and test share sentences",
    "encoder": "the encoder was fine-tuned on test speakers: on new speakers expect less",
}
UNKNOWN = "no leak that this version knows"  # a run may come from another


def show_leaderboard(rows: Sequence[Row], console: Console) -> None:
    """Print rows as they are ranked, a table for each dataset and protocol."""
    for _, group in groupby(rows, key=peers):
        console.print(_table(list(group), console.width))


def show_cross(cells: Sequence[CrossRow], console: Console) -> None:
    """Print the cells of a matrix across datasets, a table for each head and encoder."""
    of_head = attrgetter("head", "encoder")
    for (head, encoder), group in groupby(sorted(cells, key=of_head), key=of_head):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for name in ("trained on", "tested on"):
            table.add_column(name, overflow="fold")
        for name in ("UAR", "95 %", "chance", "WAR", "most", "tested", "same", "other"):
            table.add_column(name, justify="right", no_wrap=True)
        for c in group:
            scores = (f"{c.uar:.3f}", interval(c), f"{c.chance:.3f}", f"{c.war:.3f}", f"{c.majority_war:.3f}")
            table.add_row(c.train, c.test, *scores, str(c.test_clips), str(c.excluded), str(c.test_other))
        console.print(Text(f"\n{head} on {encoder}, across datasets", style="bold cyan"), table, sep="\n")
    console.print(*(Text(note, style="dim") for note in (*CROSS_NOTES, *_leaks_of(cells))), sep="\n")


def _leaks_of(cells: Sequence[CrossRow]) -> list[str]:
    """What the cells of each leak are, and what it means."""
    said = []
    for leaks in sorted({cell.leaks for cell in cells if cell.leaks}):
        pairs = dict.fromkeys(f"{cell.train}->{cell.test}" for cell in cells if cell.leaks == leaks)
        said.append(f"{statement(leaks)[:-1]} ({', '.join(pairs)}).")
    return said


def statement(leaks: str) -> str:
    """What the `leaks` column says, in words."""
    if not leaks:
        return "Leaks: none found."
    return "Leaks: " + "; ".join(f"{name}: {LEAKS.get(name, UNKNOWN)}" for name in leaks.split("+")) + "."


def told_apart(rows: Sequence[Row]) -> str:
    """Which rows of a table the best cannot be told apart from; or why nobody can say."""
    best, others = rows[0], rows[1:]
    if best.n_speakers < FEWEST_SPEAKERS:
        few = count(best.n_speakers, "speaker")
        return f"{few}: too few for an interval, or to tell whether a difference would hold on others."
    if any(row.p_vs_best != row.p_vs_best for row in others):
        return "The rows were tested on other clips: they are not compared."
    tied = [_called(row, rows) for row in others if row.p_vs_best >= ALPHA]
    beaten = [_called(row, rows) for row in others if row.p_vs_best < ALPHA]
    on = f"on {count(best.n_speakers, 'speaker')} (permutation over speakers, Holm, {ALPHA:g})"
    said = f"{', '.join([_called(best, rows), *tied[:-1]])} and {tied[-1]} cannot be told apart {on}" if tied else ""
    lead = f"{_called(best, rows)} is better than {', '.join(beaten)}" + ("" if tied else f" {on}") if beaten else ""
    return "; ".join(part for part in (said, lead) if part) + "."


def _called(row: Row, rows: Sequence[Row]) -> str:
    """A row's head, with its vectors and copies where heads occur more than once."""
    if [other.head for other in rows].count(row.head) == 1:
        return row.head
    copies = f" with {row.copies} copies" if row.copies else ""
    return f"{row.head} on {vectors(row.head, row.encoder, row.view)}{copies}"


def interval(row: Row | CrossRow) -> str:
    """`0.449–0.536`, or a dash where there are too few speakers for an interval."""
    return f"{row.uar_low:.3f}–{row.uar_high:.3f}" if row.uar_low == row.uar_low else "–"


def _table(rows: list[Row], width: int) -> Group:
    first = rows[0]
    seeds = f" x {first.seeds} seeds" if first.seeds > 1 else ""
    labels = f", labels {first.labels}" if first.labels != NATIVE else ""
    title = (
        f"{first.dataset}{labels}, protocol {first.protocol}: {count(first.folds, 'fold')}{seeds}, "
        f"{first.n_clips} clips, {count(first.n_speakers, 'speaker')}, {first.classes} labels "
        f"(chance {1 / first.classes:.3f})"
    )
    gap = 2 if width >= AIRY else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for name in ("#", "head", "encoder", "UAR", "95 %", "WAR", "F1", "ECE"):
        left = name in ("head", "encoder")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "encoder", overflow="fold")
    for name in ("Brier", "fit s", "ms/clip") if width >= WIDE else ():
        table.add_column(name, justify="right")
    copied = any(row.copies for row in rows)
    if copied:
        table.add_column("copies", justify="right")
    for row in rows:
        table.add_row(*_cells(row, width), *([str(row.copies)] if copied else []))
    apart = [told_apart(rows)] if len(rows) > 1 or first.uar_low != first.uar_low else []
    notes = [*apart, *sorted({statement(row.leaks) for row in rows})]
    return Group(Text(f"\n{title}", style="bold cyan"), table, *(Text(note, style="dim") for note in notes))


def _cells(row: Row, width: int) -> Iterable[str]:
    scores = (f"{row.uar:.3f}", interval(row), f"{row.war:.3f}", f"{row.macro_f1:.3f}", f"{row.ece:.3f}")
    wide = (f"{row.brier:.3f}", f"{row.fit_seconds:.2f}", f"{row.predict_ms:.3f}") if width >= WIDE else ()
    return (str(row.rank), row.head, vectors(row.head, row.encoder, row.view), *scores, *wide)
