"""Leaderboards as tables for papers, notebooks and programs: Markdown, LaTeX, HTML, CSV and JSON.

Rows that can be compared share a table, as on the terminal, and each table of a paper says what its rows were tested
on. Only the score that ranks the rows is marked: the best value is bold, and a dagger marks the rows that do not differ
significantly from it. A table that allows no test has no daggers, and says why. The notes are short, as captions are:
`ser cite` has the sentences about the methods.

Scores of papers have two decimals, because their intervals are wider than that. CSV and JSON have the digits of
leaderboard.csv.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from embedcache import __version__, datasets
from embedcache.progress import Progress, silent
from embedcache.text import count, numbered, one_line

from ..data.csv_text import number_text
from ..data.labels import NATIVE
from ..data.latex_text import latex_text, needs_fonts
from ..evaluation.leaderboard import Row, all_columns, table_key, to_csv, value_of
from ..evaluation.leaderboard import leaderboard as rows_of
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import SUFFIXES
from ..evaluation.statistics import ALPHA
from ..metrics import UAR, Metric
from ..protocols.catalogue import AS_GIVEN, base_name, protocol_of, unadapted_name
from ..protocols.fold import UNION
from .terminal_tables import (
    adaptation_text,
    enumerated,
    leaks_text,
    notes_text,
    row_name,
    untested_text,
)

DAGGER = "†"  # marks a row that does not differ significantly from the best
INTERVALS = {"uar": ("uar_low", "uar_high"), "score": ("score_low", "score_high")}  # columns of the ends
SCORES = {"uar", "uar_low", "uar_high", "uar_fold_mean", "war", "macro_f1", "score", "score_low", "score_high"}
HEADINGS = {
    "rank": "#",
    "vectors": "Encoder",
    "macro_f1": "Macro-F1",
    "p_vs_best": "p",
    "n_clips": "Clips",
    "n_speakers": "Speakers",
    "classes": "Labels",
    "labels": "Label view",
    "fit_seconds": "Fit (s)",
    "predict_ms": "ms/clip",
    "uar_seed_sd": "SD of seeds",
    "uar_fold_sd": "SD of folds",
    **dict.fromkeys(("uar", "war", "ece"), ""),  # in capitals
}
ABOUT = {
    "uar": "UAR: mean recall over the labels",
    "war": "WAR: share of clips predicted correctly",
    "macro_f1": "Macro-F1: mean F1 over the labels",
    "ece": "ECE: expected calibration error, 0 is best",
    "brier": "Brier: Brier score in [0, 2], 0 is best",
    "uar_seed_sd": "SD of seeds: standard deviation of the UAR over the random seeds",
}
VARIANTS = dict(
    zip(
        SUFFIXES,
        (
            "Heads with -calibrated: probabilities scaled by a temperature that is fitted on training speakers",
            "Heads with -tuned: settings chosen by UAR on training speakers, without the test clips",
        ),
        strict=True,
    )
)
INTERVAL = "In brackets: 95 % confidence interval over test speakers."
TEST = f"permutation test by speaker, adjusted for all pairs of rows, α = {ALPHA:g}"
TELLING = ("view", "copies", "augment", "fingerprint", "version", "run")  # tell rows of one head and encoder apart
MARKDOWN = re.compile(r"([\\`*\[\]<>|~&#])|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is none of emphasis


class Leaderboard(list[Row]):
    """The rows of a leaderboard: a list, which a notebook shows as tables."""

    def _repr_html_(self) -> str:
        return to_html(self)


def leaderboard(
    predictions: Iterable[Predictions], metric: str | Metric = UAR, progress: Progress = silent
) -> Leaderboard:
    """Return the rows of leaderboard.csv, ranked within their tables. A notebook shows them as tables.

    `p_vs_best` is adjusted for all pairs of rows of the table, and the interval of the first row for its selection.
    `metric` ranks the rows: "uar", the name of a scorer of scikit-learn or of another package's metric, or a `Metric`.
    `progress` receives the progress of a metric other than "uar", in rows.

    Raises UnknownName or ConfigError if there is no such metric, DataError if it cannot score a row.
    """
    return Leaderboard(rows_of(predictions, metric, progress))


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    interval: str = ""  # such as `[0.49, 0.57]`
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of comparable rows."""

    key: str  # letters, digits and hyphens that name the table
    name: str  # dataset and protocol, for a list of tables
    title: str  # what the rows were tested on, in sentences
    notes: tuple[str, ...]  # sentences about the columns, the marks, and what a reader of the scores has to know
    headings: tuple[Cell, ...]
    left: tuple[bool, ...]  # for each column, whether it holds names, which are aligned to the left
    cells: tuple[tuple[Cell, ...], ...]


def to_json(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as a JSON list of objects, by default with the columns of leaderboard.csv.

    Numbers have the digits of leaderboard.csv. Unknown numbers are null, and so is a `smallest_difference` that does
    not exist, because no difference could have been significant.
    """
    names = columns or all_columns(rows)
    found = [{name: _json_value(value_of(row, name), name) for name in names} for row in rows]
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _json_value(found: Any, name: str) -> Any:
    if not isinstance(found, float):
        return found
    return float(number_text(found, name)) if math.isfinite(found) else None


def to_markdown(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as Markdown with tables as on GitHub: for each table its title, its rows and its notes."""
    return "\n".join(map(_markdown, paper_tables(rows, columns)))


def to_latex(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as LaTeX for the package booktabs: a table with a caption and a label for each table."""
    tables = paper_tables(rows, columns)
    labels = numbered(table.key for table in tables)
    text = "\n".join(_latex(table, label) for table, label in zip(tables, labels, strict=True))
    missing = ["% Some characters need \\usepackage[T1]{fontenc}, or lualatex and a font that has them."]
    header = [f"% Made by ser {__version__}. In the preamble: \\usepackage{{booktabs}}"]
    return "\n".join([*header, *(missing if needs_fonts(text) else []), "", text])


def to_html(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """Return rows as HTML: for each table its title, its rows and its notes. All texts are escaped."""
    return "\n".join(map(_html, paper_tables(rows, columns)))


TO_TEXT: Mapping[str, Callable[[Sequence[Row], Sequence[str]], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}


def paper_tables(rows: Sequence[Row], columns: Sequence[str] = ()) -> list[PaperTable]:
    """Return the tables of ranked rows, by default with the columns that a paper needs."""
    return [_paper_table(list(group), columns) for _, group in groupby(rows, key=table_key)]


def _paper_table(rows: Sequence[Row], columns: Sequence[str]) -> PaperTable:
    names = list(columns) or _usual_columns(rows)
    first = rows[0]
    return PaperTable(
        key=re.sub(r"[^a-z0-9]+", "-", f"{first.dataset}-{first.protocol}".lower()).strip("-"),
        name=f"{dataset_title(first.dataset)}, protocol {first.protocol}",
        title=title_text(rows),
        notes=tuple(_notes(rows, names)),
        headings=tuple(_heading(name, first) for name in names),
        left=tuple(isinstance(value_of(first, name), str) for name in names),
        cells=tuple(tuple(_cell(row, name, rows) for name in names) for row in rows),
    )


def _usual_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of a table by default: scores, and what tells its rows apart."""
    first = rows[0]
    chosen = ["score"] if first.chosen else []
    seeds = ["uar_seed_sd"] if first.seeds > 1 else []
    copies = ["copies"] if any(row.copies for row in rows) else []
    leaks = ["leaks"] if len({row.leaks for row in rows}) > 1 else []
    names = ["head", "vectors", *copies]
    for name in TELLING:
        told = len({tuple(value_of(row, n) for n in names) for row in rows})
        if told < len(rows) and len({tuple(value_of(row, n) for n in (*names, name)) for row in rows}) > told:
            names.append(name)
    return [*names, *chosen, "uar", *seeds, "war", "macro_f1", *leaks]


def _heading(name: str, row: Row) -> Cell:
    usual = name.replace("_", " ").capitalize()
    heading = row.ranked_by.metric if name == "score" else HEADINGS.get(name, usual) or name.upper()
    return Cell(heading, "[95 %]" if name in INTERVALS else "")


def _cell(row: Row, name: str, rows: Sequence[Row]) -> Cell:
    found = value_of(row, name)
    interval = ""
    if name in INTERVALS and not math.isnan(value_of(row, INTERVALS[name][0])):
        interval = f"[{', '.join(_text(value_of(row, end), end) for end in INTERVALS[name])}]"
    if name != ranking_column(row):
        return Cell(_text(found, name), interval)
    tied = not untested_text(rows) and row.rank > 1 and row.p_vs_best > ALPHA
    is_best = len(rows) > 1 and row.ranked_by.value == rows[0].ranked_by.value
    return Cell(_text(found, name), interval, bold=is_best, mark=DAGGER if tied and not is_best else "")


def ranking_column(row: Row) -> str:
    """Return the column of the score that ranks the rows."""
    return "score" if row.chosen else "uar"


def _text(found: Any, name: str) -> str:
    if not isinstance(found, float):
        return one_line(str(found))
    if math.isinf(found):
        return "∞"
    return number_text(found, name) if math.isnan(found) or name not in SCORES else f"{found:.2f}"


def title_text(rows: Sequence[Row]) -> str:
    """Return a sentence about what the rows of a table were tested on."""
    row = rows[0]
    view = f" (label view {row.labels})" if row.labels != NATIVE else ""
    seeds = f" with each of {row.seeds} seeds" if row.seeds > 1 else ""
    rules = protocol_of(row.protocol, row.dataset)
    promise = f", {rules.promise}" if rules and rules.promise != AS_GIVEN else ""
    source = _source_of_folds(row)
    adapted = f" with adaptation to {row.adapted} clips of each test speaker" if row.adapted else ""
    return (
        f"{dataset_title(row.dataset)}: {count(row.n_clips, 'clip')} of {count(row.n_speakers, 'speaker')}, "
        f"{count(row.classes, 'label')}{view}, chance UAR {number_text(1 / row.classes)}. "
        f"Protocol {unadapted_name(row.protocol)}{adapted}: {count(row.folds, 'fold')}{source}{seeds}{promise}."
    )


def dataset_title(name: str) -> str:
    """Return the name of a dataset for people, `EMO-DB`; the name itself if `ser` does not know the dataset."""
    specs = [datasets.find(part) for part in name.split(UNION)]
    titles = [
        spec.title if spec and spec.n_clips else part for spec, part in zip(specs, name.split(UNION), strict=True)
    ]
    return enumerated(titles)


def _source_of_folds(row: Row) -> str:
    """Return who defined the official folds of a dataset: they are not always published."""
    spec = datasets.find(row.dataset)
    if base_name(row.protocol) != "official" or not spec or not spec.official_source:
        return ""
    return " defined by ser" if spec.official_source.startswith("ours") else f" of {spec.official_source.split()[0]}"


def _notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return the sentences below a table."""
    suffixes = [suffix for suffix in SUFFIXES[::-1] if any(suffix in row.head for row in rows)]
    return [
        *_column_notes(names),
        *_metric_notes(rows, names),
        *_interval_notes(rows, names),
        *_test_notes(rows, names),
        *(f"{VARIANTS[suffix]}." for suffix in suffixes),
        *adaptation_text(rows),
        *_leak_notes(rows, names),
        *notes_text(rows),
    ]


def _column_notes(names: Sequence[str]) -> list[str]:
    known = "; ".join(ABOUT[name] for name in names if name in ABOUT)
    return [f"{known}."] if known else []


def _metric_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    by = rows[0].ranked_by
    return [f"Ranked by {by.metric}: {by.about}. Greater is better."] if rows[0].chosen else []


def _interval_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    shown = [name for name in names if name in INTERVALS]
    known = any(not math.isnan(value_of(row, INTERVALS[name][0])) for name in shown for row in rows)
    return [INTERVAL] if known else []


def _test_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return sentences about the marks of the score that ranks the rows, if that is shown."""
    first = rows[0]
    if len(rows) == 1 or ranking_column(first) not in names:
        return []
    best = f"Bold: highest {first.ranked_by.metric}."
    if reason := untested_text(rows):
        return [best, reason]
    tied = [row for row in rows[1:] if row.p_vs_best > ALPHA]
    if not tied:
        return [best, f"All other rows are significantly lower ({TEST})."]
    return [best, f"{DAGGER}: not significantly different from the best row ({TEST})."]


def _leak_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return sentences on the leaks: one if all rows have the same, or if a column has them, otherwise several."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.leaks, []).append(row_name(row, rows))
    if len(found) == 1 or "leaks" in names:
        words = list(dict.fromkeys(word for leaks in found for word in leaks.split("+") if word))
        return [leaks_text("+".join(words))] if words else []
    return [f"{enumerated(some)}: {leaks_text(leaks)}" for leaks, some in found.items() if leaks]


def _markdown(table: PaperTable) -> str:
    cells = [[_markdown_cell(cell) for cell in row] for row in table.cells]
    headings = list(map(_markdown_cell, table.headings))
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, table.left, strict=True)]
    lines = [
        " | ".join(
            text.ljust(w) if left else text.rjust(w) for text, w, left in zip(line, widths, table.left, strict=True)
        )
        for line in (headings, rule, *cells)
    ]
    notes = " ".join(map(_markdown_text, table.notes))
    return "\n".join([f"{_markdown_text(table.title)}\n", *(f"| {line} |" for line in lines), f"\n{notes}\n"])


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text)
    return " ".join(filter(None, [f"**{text}**" if cell.bold else text, cell.interval])) + cell.mark


def _markdown_text(text: str) -> str:
    return MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))


def _latex(table: PaperTable, label: str) -> str:
    columns = "".join("l" if left else "r" for left in table.left)
    body = [" & ".join(map(_latex_cell, row)) for row in table.cells]
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption[{{{latex_text(table.name)}}}]{{%",
        *(f"    {_latex_sentence(text)}" for text in (table.title, *table.notes)),
        "  }",
        f"  \\label{{tab:{label}}}",
        r"  \medskip\small",
        f"  \\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"    \toprule",
        f"    {' & '.join(map(_latex_cell, table.headings))} \\\\",
        r"    \midrule",
        *(f"    {{}}{line} \\\\" if line[:1] in "[*" else f"    {line} \\\\" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_sentence(text: str) -> str:
    return latex_text(text).replace(r" \%", r"~\%")


def _latex_cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    if re.fullmatch(r"-[\d.]+", cell.text):
        text = f"$-${cell.text[1:]}"
    shown = f"\\textbf{{{text}}}" if cell.bold else text
    mark = r"\rlap{$^\dagger$}" if cell.mark else ""
    return " ".join(filter(None, [shown, _latex_sentence(cell.interval).replace("-", "$-$")])) + mark


def _html(table: PaperTable) -> str:
    sides = ["left" if left else "right" for left in table.left]
    head = "".join(_html_cell("th", _html_text(cell), side) for cell, side in zip(table.headings, sides, strict=True))
    body = [
        "".join(_html_cell("td", _html_text(cell), side) for cell, side in zip(row, sides, strict=True))
        for row in table.cells
    ]
    lines = [
        "<table>",
        f'<caption style="caption-side: top; text-align: left">{html.escape(table.title)}</caption>',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *(f"<tr>{row}</tr>" for row in body),
        "</tbody>",
        "</table>",
        f"<p><small>{html.escape(' '.join(table.notes))}</small></p>",
    ]
    return "\n".join(lines)


def _html_cell(tag: str, content: str, side: str) -> str:
    return f'<{tag} style="text-align: {side}; white-space: nowrap; padding: 0.1em 0.6em">{content}</{tag}>'


def _html_text(cell: Cell) -> str:
    text = html.escape(cell.text)
    shown = f"<b>{text}</b>" if cell.bold else text
    mark = f'<span style="display: inline-block; width: 0">{cell.mark}</span>' if cell.mark else ""
    return " ".join(filter(None, [shown, cell.interval])) + mark
