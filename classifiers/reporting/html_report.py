"""One HTML page about runs: complete in itself, without network or scripts, the same for the same runs.

What is in a run may come from a stranger. The template escapes every text, and the page forbids itself all scripts and
all requests (Content-Security-Policy), so that a label is read and never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from embedcache import Artifacts, DataError, SerError
from embedcache.files.atomic import atomic_write
from embedcache.files.untrusted import read_json
from embedcache.manifest import Clip
from embedcache.progress import Progress, silent
from embedcache.text import count

from ..evaluation.leaderboard import Row, Table, latest, tables
from ..evaluation.metrics import ECE_BINS
from ..evaluation.predictions import MOST_BYTES, Predictions, load_predictions
from ..evaluation.protocols import knows_speakers
from ..evaluation.row_names import vectors
from ..evaluation.run_folder import find_runs
from ..evaluation.statistics import PERMUTATIONS, RESAMPLES
from . import charts as charts
from .charts import Score
from .hardest_clips import COMPONENTS, MOST_POINTS, SEED, ClipAudio, ClipFacts, VectorMap, known_clips, map_of, sounds
from .sections import Figure, Grid, HeadSection, head_section, json_text
from .terminal_tables import ALPHA, interval, statement, told_apart

PAGE = "report.html"
WIDE = 680.0  # units of a figure that has the page's width
MOST_NAMES = 40  # of a legend, and of a list of skipped clips
APART = "Speakers are kept apart: no test speaker was heard in training."
SHARED = "Speakers leak: these scores do not hold on new speakers."
METHODS = (
    ("UAR", "the mean of the labels' recalls over all test clips together; chance is 1 over the number of labels"),
    ("95 %", f"percentile interval of the UAR when speakers are drawn anew, {RESAMPLES} times; none below 3 speakers"),
    (
        "p against the best",
        f"permutation test that swaps two heads' answers speaker by speaker (all swaps, or {PERMUTATIONS} of them), "
        f"corrected by Holm for the number of heads; below {ALPHA:g} the best is better",
    ),
    ("WAR, F1", "the share of clips that is right; the mean of the labels' F1"),
    ("ECE", f"how far certainty lies from accuracy, weighted by clips, over {ECE_BINS} bins of equal width"),
    ("Brier score", "the mean squared distance of the probabilities from the truth, 0 to 2; 0 is best"),
    (
        "Risk and coverage",
        "the share that is wrong among the clips whose certainty reaches a threshold, for each threshold",
    ),
    ("Flattery", "UAR with speakers shared less UAR with speakers apart, in points of 0.01"),
    ("Hardest clips", "those to whose label the head gave the lowest probability, mean over seeds"),
    (
        "Maps",
        f"standardised vectors of the last layer of at most {MOST_POINTS} clips; PCA, and t-SNE of its first "
        f"{COMPONENTS} components (seed {SEED}); t-SNE keeps neighbours, not distances",
    ),
)


@dataclass(frozen=True)
class LeaderboardSection:
    """A table of the leaderboard, and its figure at two widths."""

    title: str
    rows: tuple[tuple[Row, str], ...]  # with their intervals
    leak: str
    leaky: bool
    apart: str
    figures: tuple[Markup, Markup]


@dataclass(frozen=True)
class FlatterySection:
    """The same heads with speakers apart and shared."""

    title: str
    grid: Grid
    figures: tuple[Markup, Markup]


@dataclass(frozen=True)
class MapFigure:
    """A map in the colours of one column, and its legend: marks and names."""

    figure: Figure
    legend: tuple[tuple[Markup, str], ...]
    more: int  # names that the legend leaves out


@dataclass(frozen=True)
class RunFacts:
    """What a run was asked, and what it says of itself."""

    name: str
    facts: tuple[tuple[str, str], ...]


def write_report(
    artifacts: Artifacts,
    runs: Sequence[str] = (),
    out: Path | None = None,
    audio: bool = True,
    progress: Progress = silent,
) -> Path:
    """Write the page of some runs, or of the latest; `<first run>/report.html` where `out` is None. Gives its path.

    Raises UnknownName or DataError for what is no run, SerError where the page cannot be written.
    """
    folders = find_runs(artifacts, runs) if runs else find_runs(artifacts)[-1:]
    path = out or folders[0] / PAGE
    if path.is_dir():
        raise SerError(f"{path}: is a folder; wanted the name of a file. Use --out {path / PAGE}.")
    if path.exists() and not path.is_file():
        raise SerError(f"{path}: is a pipe or a device; wanted the name of a file. Use another --out.")
    page = render(artifacts, list(dict.fromkeys(folders)), audio, progress)
    with atomic_write(path, "wb", advice="Make room, or choose another --out.") as file:
        file.write(page.encode("utf-8", errors="replace"))  # JSON can hold halves of characters
    return path


def render(artifacts: Artifacts, folders: Sequence[Path], audio: bool = True, progress: Progress = silent) -> str:
    """The page of some run folders, as text."""
    if len({folder.name for folder in folders}) < len(folders):
        raise DataError(f"two runs are called {folders[0].name}; wanted runs of different names. Rename one.")
    predictions = [p for folder in folders for p in load_predictions(folder)]
    predictions = latest(predictions) if len(folders) > 1 else predictions
    made = tables(predictions)
    ordered = list(_in_order(made, predictions))
    known = {p.dataset: known_clips(artifacts, p.dataset) for p in ordered}
    mapped = {(p.dataset, p.encoder, p.fingerprint, p.label_view): p for p in ordered}
    with progress("drawing", total=len(ordered) + len(mapped) + 1, unit="parts") as advance:
        parts = []
        for p in ordered:
            parts.append((head_section(p, known[p.dataset]), p.dataset))
            advance(1)
        heard = sounds(_listed(parts, known)) if audio else {}
        advance(1)
        maps = []
        for p in mapped.values():
            maps.append(map_of(p, known[p.dataset], artifacts))
            advance(1)
    page: str = _template().render(
        title=_title(made),
        boards=[_board(table) for table in made],
        flattered=_flattered(made),
        parts=[(part, _players(part, known[dataset], heard, audio)) for part, dataset in parts],
        maps=[(drawn, _map_figures(drawn)) for drawn in maps],
        ran=[_ran(folder, [p for p in predictions if p.run == folder.name]) for folder in folders],
    )
    return page


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    css = Markup((Path(__file__).parent / "report.css").read_text(encoding="utf-8"))  # ours, so that it needs no escape
    made.globals.update(css=css, methods=METHODS, marks=range(MOST_NAMES), sentences={"apart": APART, "shared": SHARED})
    made.filters["knows_speakers"] = knows_speakers
    return made.get_template(PAGE)


def _in_order(made: Sequence[Table], predictions: Sequence[Predictions]) -> Iterator[Predictions]:
    """The predictions as the tables rank them."""
    whose = {(p.run, p.dataset, p.encoder, p.head): p for p in predictions}
    return (whose[row.run, row.dataset, row.encoder, row.head] for table in made for row in table.rows)


def _title(made: Sequence[Table]) -> str:
    rows = [row for table in made for row in table.rows]
    heads, encoders, datasets = (sorted({getattr(row, n) for row in rows}) for n in ("head", "encoder", "dataset"))
    on = encoders[0] if len(encoders) == 1 else f"{len(encoders)} encoders"
    what = heads[0] if len(heads) == 1 else f"{len(heads)} heads"
    return json_text(f"{what} on {on}, {', '.join(datasets)}")


def _board(table: Table) -> LeaderboardSection:
    rows, first = table.rows, table.rows[0]
    seeds = f" × {first.seeds} seeds" if first.seeds > 1 else ""
    title = (
        f"{first.dataset}, protocol {first.protocol}: {count(first.folds, 'fold')}{seeds}, {first.n_clips} clips, "
        f"{count(first.n_speakers, 'speaker')}, {first.classes} labels"
    )
    scores = [_score(row) for row in rows]
    return LeaderboardSection(
        title=title,
        rows=tuple((row, interval(row)) for row in rows),
        leak=" ".join(sorted({statement(row.leaks) for row in rows})),
        leaky=knows_speakers(first.leaks),
        apart=told_apart(rows) if len(rows) > 1 or first.uar_low != first.uar_low else "",
        figures=(charts.whiskers(scores, 1 / first.classes, WIDE), charts.whiskers(scores, 1 / first.classes)),
    )


def _score(row: Row) -> Score:
    copies = f", {row.copies} copies" if row.copies else ""
    on = vectors(row.head, row.encoder, row.view)
    return Score(f"{row.head} on {on}{copies}", row.uar, row.uar_low, row.uar_high, knows_speakers(row.leaks))


def _flattered(made: Sequence[Table]) -> list[FlatterySection]:
    """Each table with speakers apart, beside each with speakers shared that has heads of the same kind."""
    return [
        found
        for apart in made
        for shared in made
        if not knows_speakers(apart.rows[0].leaks) and knows_speakers(shared.rows[0].leaks)
        for found in _pair(apart, shared)
    ]


def _pair(apart: Table, shared: Table) -> Iterator[FlatterySection]:
    names = ("head", "encoder", "fingerprint", "view", "dataset", "labels", "copies")
    same = {tuple(getattr(row, n) for n in names): row for row in shared.rows}
    keys = ((row, same.get(tuple(getattr(row, n) for n in names))) for row in apart.rows)
    pairs = [(row, other) for row, other in keys if other]
    if not pairs:
        return
    scores = [(_score(row), _score(other)) for row, other in pairs]
    first, other = pairs[0]
    lines = tuple((a.name, a.figures, b.figures, charts.flattery(a, b)) for a, b in scores)
    header = ("head", f"{first.protocol}: speakers apart", f"{other.protocol}: speakers shared", "flattery")
    title = f"{first.dataset}: {first.protocol} against {other.protocol}"
    yield FlatterySection(title, Grid(title, header, lines), (charts.dumbbells(scores, WIDE), charts.dumbbells(scores)))


def _listed(parts: Sequence[tuple[HeadSection, str]], known: Mapping[str, ClipFacts]) -> list[Clip]:
    """The clips that are to be heard, in the order of the page."""
    found = (known[dataset].clips.get(hard.clip_id) for part, dataset in parts for hard in part.hard)
    return [clip for clip in found if clip]


def _players(part: HeadSection, known: ClipFacts, heard: Mapping[str, ClipAudio], audio: bool) -> list[ClipAudio]:
    """A sound for each of the hardest clips, or why there is none."""
    if not audio:
        return [ClipAudio(why="Left out: the page was asked for without sound.")] * len(part.hard)
    clips = [known.clips.get(hard.clip_id) for hard in part.hard]
    lost = ClipAudio(why=known.why or "The manifest does not list this clip.")
    return [heard[clip.key] if clip else lost for clip in clips]


def _map_figures(drawn: VectorMap) -> list[MapFigure]:
    figures = []
    for method, places in drawn.places.items():
        for name, column in (("label", drawn.labels), ("speaker", drawn.speakers)):
            names = sorted(set(column))
            legend = tuple((charts.legend_mark(place), text) for place, text in enumerate(names[:MOST_NAMES]))
            svg = charts.scatter(places, column, f"{method} by {name}")
            figures.append(MapFigure(Figure(f"{method} by {name}", svg), legend, len(names) - len(legend)))
    return figures


def _ran(folder: Path, mine: Sequence[Predictions]) -> RunFacts:
    advice = f"{folder} is no run that can be read. Remove it, or run again."
    run = read_json(folder / "run.json", MOST_BYTES, DataError, advice)
    skipped = sorted({clip for p in mine for clip in p.skipped})
    listed = f": {', '.join(skipped[:MOST_NAMES])}" if skipped else ""
    more = ", …" if len(skipped) > MOST_NAMES else ""
    facts = [
        ("asked", json_text(run.get("asked", {}))),
        ("made", f"{json_text(run.get('created', ''))} by version {json_text(run.get('version', ''))}"),
        ("clips skipped", f"{len(skipped)}{listed}{more}"),
        ("folds' hash", ", ".join(sorted({p.fold_hash for p in mine}))),
        *sorted({(f"fingerprint of {p.encoder}", p.fingerprint) for p in mine}),
        *sorted({("labels", p.label_view) for p in mine}),
        *sorted({("copies in training", f"{p.copies} of each clip: {p.augment}") for p in mine if p.copies}),
    ]
    return RunFacts(folder.name, tuple(facts))
