"""A report of runs as one HTML page, without scripts or network access. The same runs give the same page.

A run folder may come from an untrusted source. The template escapes every text, and the Content-Security-Policy of the
page forbids all scripts and requests, so a label with HTML in it is shown and not executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from embedcache import Artifacts, DataError, SerError
from embedcache.encoder import Log, no_log
from embedcache.files.atomic import atomic_write
from embedcache.files.existing import check_replaceable, ends_with
from embedcache.progress import Progress, silent
from embedcache.text import count

from ..data.csv_text import number_text
from ..evaluation.leaderboard import Row, Table, latest, tables
from ..evaluation.metrics import ECE_BINS
from ..evaluation.predictions import Predictions
from ..evaluation.row_texts import vectors_name
from ..evaluation.run_folder import find_runs, load_predictions
from ..evaluation.statistics import ALPHA, MIN_SPEAKERS, PERMUTATIONS
from ..parallel import in_background
from ..protocols.catalogue import protocol_of
from ..protocols.leaks import trained_on_test_speakers
from . import charts as charts
from .adaptation_curves import adaptation_sections
from .charts import Panel, Score
from .hardest_clips import (
    COMPONENTS,
    MAX_POINTS,
    SEED,
    ClipAudio,
    ClipFacts,
    VectorMap,
    clip_audio,
    clip_facts,
    vector_map,
)
from .palette import css_variables
from .run_settings import run_settings
from .sections import Grid, HeadSection, head_section, json_text
from .sound_baselines import baselines_text, measured_levels
from .summary import summaries
from .terminal_tables import interval_text

WRITTEN_BY = b"<!-- written by ser report -->\n"  # end of a report, by which it is known as one
MOST_LARGE = 12  # panels that are drawn large
T = TypeVar("T")
PAGE = "report.html"  # the template, and the default name of the report
GAIN, ADAPTATION = "Gain from shared speakers", "Adaptation"  # methods that not every page has
METHODS = (
    ("UAR", "the mean recall over the labels, computed once over all test clips; random guessing gives 1 / labels"),
    (
        "95 %",
        "interval of the UAR over speakers, by a jackknife, Student's t and Wilson's bounds; extended for the best "
        f"row, because it was selected; none for fewer than {MIN_SPEAKERS} speakers",
    ),
    (
        "p against the best",
        "permutation test that swaps the predictions of two heads speaker by speaker (all swaps, or "
        f"{PERMUTATIONS} random ones), adjusted for all pairs of heads by step-down max-T; at most {ALPHA:g}, the "
        "difference is significant",
    ),
    ("WAR, F1", "the share of clips whose label is predicted correctly; macro-F1, the mean F1 over the labels"),
    ("Confidence", "the probability of the predicted label"),
    (
        "ECE",
        f"the mean difference between confidence and accuracy in {ECE_BINS} bins of equal width, weighted by clips",
    ),
    (
        "Brier score",
        "the mean squared distance between the probabilities and the true label, between 0 and 2; 0 is best",
    ),
    ("fit s, ms/clip", "seconds to fit a fold, milliseconds to predict a clip; both without the time of the encoder"),
    (
        "Risk and coverage",
        "for each threshold of confidence, the error rate on the clips that reach the threshold, and their share",
    ),
    (
        GAIN,
        "the UAR of a speaker-dependent protocol minus the UAR of a speaker-independent protocol, in percentage points",
    ),
    (
        ADAPTATION,
        "the vectors of each speaker, standardised by the mean and deviation of some of its clips without labels, "
        "shrunk towards those of the training speakers; scores are over all draws of clips",
    ),
    ("Hardest clips", "the clips to whose true label the head gave the lowest probability, as a mean over seeds"),
    (
        "Maps",
        f"t-SNE of the first {COMPONENTS} principal components of standardised embeddings of the last layer, of at "
        f"most {MAX_POINTS} clips (seed {SEED}); it preserves neighbours, but not distances",
    ),
)


@dataclass(frozen=True)
class LeaderboardSection:
    """A table of the leaderboard, and its figure in two widths."""

    title: str
    rows: tuple[tuple[Row, str], ...]  # each with the interval of its UAR
    encoder: str  # if it is the same in all rows; otherwise ""
    has_intervals: bool
    speaker_dependent: bool  # whether heads or encoders were trained on test speakers
    figures: tuple[Markup, Markup]  # for wide and for narrow screens


@dataclass(frozen=True)
class FlatterySection:
    """The same heads with a speaker-independent and with a speaker-dependent protocol."""

    title: str
    grid: Grid
    figures: tuple[Markup, Markup]  # for wide and for narrow screens


@dataclass(frozen=True)
class MapSection:
    """The map of the embeddings of an encoder, as small panels: one for each label, and one for each speaker."""

    vectors: VectorMap
    sets: tuple[PanelSet, ...]  # () if there is no map


@dataclass(frozen=True)
class PanelSet:
    """The panels of one map."""

    title: str
    hidden: Markup  # all clips, to which the panels refer
    panels: tuple[Panel, ...]
    left_out: int  # number of groups without a panel

    @property
    def columns(self) -> int:
        """The number of columns, 4 to 8, that leaves the fewest empty places in the last row."""
        n = len(self.panels)
        choices = (6, 5, 4) if n <= MOST_LARGE else (8, 7, 6)
        return max(choices, key=lambda columns: (n - 1) % columns + 1 - columns)


@dataclass(frozen=True)
class Drawings:
    """The parts of a report that take time: heads with the recordings of their hardest clips, and maps."""

    heads: list[tuple[HeadSection, list[ClipAudio]]]
    maps: list[MapSection]


def write_report(
    artifacts: Artifacts,
    runs: Sequence[str] = (),
    out: Path | None = None,
    audio: bool = True,
    progress: Progress = silent,
    log: Log = no_log,
) -> Path:
    """Write the report of runs, and return its path. An earlier report is replaced, of which `log` receives a line.

    Raises UnknownName or DataError if a run cannot be read, SerError if the page cannot be written.

    Parameters
    ----------
    artifacts : the output folder.
    runs : runs by name or path; the latest run by default.
    out : HTML file; by default `report.html` in the folder of the first run.
    audio : whether the page includes the recordings of the hardest clips.
    progress : reports the progress, see `embedcache.progress`.
    """
    folders = _folders(artifacts, runs)
    path = out or folders[0] / PAGE
    if path.is_dir():
        raise SerError(f"{path}: is a folder; wanted the name of a file. Use --out {path / PAGE}.")
    if path.exists() and not path.is_file():
        raise SerError(f"{path}: is a pipe or a device; wanted the name of a file. Use another --out.")
    check_replaceable(path, ends_with(WRITTEN_BY) if out else Path.is_file, log, SerError, "--out")
    page = render(artifacts, folders, audio, progress)
    with atomic_write(path, "wb", advice="Make room, or choose another --out.") as file:
        file.write(page.encode("utf-8", errors="replace") + WRITTEN_BY)  # texts of run.json may have lone surrogates
    return path


def write_figures(artifacts: Artifacts, runs: Sequence[str], folder: Path, progress: Progress = silent) -> list[Path]:
    """Write the figures of runs for papers, as PNG, SVG and PDF, into a folder, and return their paths.

    Raises UnknownName or DataError if a run cannot be read, SerError if the folder cannot be written. `runs` are names
    or paths of runs; for none, the latest run.
    """
    from .paper_figures.files import save_paper_figures

    return save_paper_figures(folder, _load_runs(_folders(artifacts, runs)), progress)


def _folders(artifacts: Artifacts, runs: Sequence[str]) -> list[Path]:
    found = find_runs(artifacts, runs) if runs else find_runs(artifacts)[-1:]
    return list(dict.fromkeys(found))


def render(artifacts: Artifacts, folders: Sequence[Path], audio: bool = True, progress: Progress = silent) -> str:
    """Return the report of run folders as HTML."""
    predictions = _load_runs(folders)
    boards = tables(predictions)
    ranked = [pair for board in boards for pair in zip(board.rows, board.predictions, strict=True)]
    facts = {name: clip_facts(artifacts, name) for name in dict.fromkeys(row.dataset for row, _ in ranked)}
    mapped = {(p.dataset, p.encoder, p.fingerprint, p.label_view): p for _, p in ranked}.values()
    # t-SNE takes as long as all the rest, and lets other threads work meanwhile.
    maps = in_background(lambda: [vector_map(p, facts[p.dataset], artifacts) for p in mapped])
    levels = {name: measured_levels(found, progress) for name, found in facts.items()} if audio else {}
    drawings = _draw(ranked, facts, maps, audio, progress)
    baselines = [_baselines_text(board, facts, levels) for board in boards]
    flattery = _flattery_sections(boards)
    adaptation = adaptation_sections(row for board in boards for row in board.rows)
    shown = {GAIN: bool(flattery), ADAPTATION: bool(adaptation)}
    highest = max(charts.highest_value(_uar_scores(board.rows)) for board in boards)
    page: str = _template().render(
        title=_title(boards),
        summaries=summaries(boards, baselines),
        leaderboards=[_leaderboard_section(board, highest) for board in boards],
        flattery=flattery,
        adaptation=adaptation,
        heads=_by_board(boards, drawings.heads),
        maps=drawings.maps,
        runs=[run_settings(folder, predictions) for folder in folders],
        methods=[(name, text) for name, text in METHODS if shown.get(name, True)],
    )
    return page


def _by_board(boards: Sequence[Table], heads: Sequence[T]) -> list[tuple[str, list[T]]]:
    """Return the heads of each table, with its dataset and protocol."""
    following, firsts = iter(heads), [board.rows[0] for board in boards]
    return [
        (f"{first.dataset}, protocol {first.protocol}", list(islice(following, len(board.rows))))
        for board, first in zip(boards, firsts, strict=True)
    ]


def _load_runs(folders: Sequence[Path]) -> list[Predictions]:
    """Return the predictions of runs; of several runs, without those that a later run repeats."""
    if len({folder.name for folder in folders}) < len(folders):
        raise DataError(f"two runs are called {folders[0].name}; wanted runs of different names. Rename one.")
    predictions = [p for folder in folders for p in load_predictions(folder)]
    return latest(predictions) if len(folders) > 1 else predictions


def _draw(
    ranked: Sequence[tuple[Row, Predictions]],
    facts: Mapping[str, ClipFacts],
    maps: Future[list[VectorMap]],
    audio: bool,
    progress: Progress,
) -> Drawings:
    """Draw a section for each head, and the figures of each map."""
    with progress("drawing", total=len(ranked) + 2, unit="parts") as advance:
        heads: list[HeadSection] = []
        for row, p in ranked:
            heads.append(head_section(row, p, facts[p.dataset]))
            advance(1)
        recordings = _load_recordings(heads, facts) if audio else None
        advance(1)
        figures = [_map_section(vectors, number) for number, vectors in enumerate(maps.result())]
        advance(1)
    return Drawings([(head, _audio_of(head, facts[head.row.dataset], recordings)) for head in heads], figures)


def _load_recordings(heads: Sequence[HeadSection], facts: Mapping[str, ClipFacts]) -> dict[str, ClipAudio]:
    """Return the recordings of the hardest clips by key. If not all fit into the page, the first of the page do."""
    clips = (facts[head.row.dataset].clips.get(hard.clip_id) for head in heads for hard in head.hardest)
    return clip_audio([clip for clip in clips if clip])


def _audio_of(head: HeadSection, facts: ClipFacts, recordings: Mapping[str, ClipAudio] | None) -> list[ClipAudio]:
    """Return the recording of each of the hardest clips of a head. `recordings` is None for a page without audio."""
    if recordings is None:
        return [ClipAudio(reason="Left out: the report was made without audio.")] * len(head.hardest)
    clips = [facts.clips.get(hard.clip_id) for hard in head.hardest]
    missing = ClipAudio(reason=facts.reason or "The manifest does not list this clip.")
    return [recordings[clip.key] if clip else missing for clip in clips]


def _map_section(vectors: VectorMap, number: int) -> MapSection:
    if vectors.reason:
        return MapSection(vectors, ())
    kinds = (("label", vectors.labels), ("speaker", vectors.speakers))
    points = vectors.points
    return MapSection(
        vectors, tuple(_panel_set(points, groups, name, f"map-{number}-{name}") for name, groups in kinds)
    )


def _panel_set(points: Any, groups: Sequence[str], name: str, key: str) -> PanelSet:
    title = f"t-SNE by {name}"
    hidden, panels = charts.panels(points, groups, title, key)
    return PanelSet(title, hidden, tuple(panels), len(set(groups)) - len(panels))


def _title(boards: Sequence[Table]) -> str:
    """Return the title of the page, such as `3 heads on mfcc, ravdess`."""
    rows = [row for board in boards for row in board.rows]
    heads, encoders, datasets = (sorted({getattr(row, n) for row in rows}) for n in ("head", "encoder", "dataset"))
    on = encoders[0] if len(encoders) == 1 else f"{len(encoders)} encoders"
    subject = heads[0] if len(heads) == 1 else f"{len(heads)} heads"
    return json_text(f"{subject} on {on}, {', '.join(datasets)}")


def _baselines_text(board: Table, facts: Mapping[str, ClipFacts], levels: Mapping[str, Mapping[str, float]]) -> str:
    dataset = board.rows[0].dataset
    return baselines_text(board.predictions[0], facts[dataset], levels.get(dataset))


def _leaderboard_section(board: Table, highest: float) -> LeaderboardSection:
    """Return the section of a table. `highest` is the highest UAR of the page: all figures have the same axis."""
    rows, first = board.rows, board.rows[0]
    seeds = f" × {first.seeds} seeds" if first.seeds > 1 else ""
    title = (
        f"{first.dataset}, protocol {first.protocol}: {count(first.folds, 'fold')}{seeds}, {first.n_clips} clips, "
        f"{count(first.n_speakers, 'speaker')}, {first.classes} labels"
    )
    scores, chance, encoders = _uar_scores(rows), 1 / first.classes, {row.encoder for row in rows}
    return LeaderboardSection(
        title=title,
        rows=tuple((row, interval_text(row)) for row in rows),
        encoder=first.encoder if len(encoders) == 1 else "",
        has_intervals=any(score.has_interval for score in scores),
        speaker_dependent=trained_on_test_speakers(first.leaks),
        figures=(
            charts.whiskers(scores, chance, charts.WIDE, highest),
            charts.whiskers(scores, chance, highest=highest),
        ),
    )


def _uar_scores(rows: Sequence[Row]) -> list[Score]:
    """Return the UAR of rows. Names are those of heads, with what they read only if that differs between the rows."""
    names = [(row.head, f"on {vectors_name(row.head, row.encoder, row.view)}{_copies_text(row)}") for row in rows]
    same = len({vectors for _, vectors in names}) == 1
    return [
        _uar_score(row, head if same else f"{head} {vectors}") for row, (head, vectors) in zip(rows, names, strict=True)
    ]


def _copies_text(row: Row) -> str:
    return f", {row.copies} copies" if row.copies else ""


def _uar_score(row: Row, name: str) -> Score:
    return Score(name, row.uar, row.uar_low, row.uar_high, trained_on_test_speakers(row.leaks))


def _flattery_sections(boards: Sequence[Table]) -> list[FlatterySection]:
    """Return a section for each pair of a speaker-independent and a speaker-dependent table that share heads.

    Tables of test partitions and of adapted heads are left out: they test other clips, or use other clips of the test
    speakers, so a difference is not the gain from shared speakers.
    """
    boards = [board for board in boards if not (_is_of_partition(board.rows[0]) or board.rows[0].adapted)]
    dependent = [board for board in boards if trained_on_test_speakers(board.rows[0].leaks)]
    independent = [board for board in boards if not trained_on_test_speakers(board.rows[0].leaks)]
    pairs = [_paired_rows(a.rows, b.rows) for a in independent for b in dependent]
    return [_flattery_section(rows) for rows in pairs if rows]


def _is_of_partition(row: Row) -> bool:
    protocol = protocol_of(row.protocol, row.dataset)
    return protocol is not None and protocol.row_per_fold


def _paired_rows(independent: Sequence[Row], dependent: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return the rows of two tables that have the same head on the same embeddings of the same labelled clips."""

    def key(row: Row) -> tuple[Any, ...]:
        return row.head, row.encoder, row.fingerprint, row.view, row.dataset, row.labels, row.copies

    by_key = {key(row): row for row in dependent}
    return [(row, by_key[key(row)]) for row in independent if key(row) in by_key]


def _flattery_section(pairs: Sequence[tuple[Row, Row]]) -> FlatterySection:
    scores = list(zip(*(_uar_scores(rows) for rows in zip(*pairs, strict=True)), strict=True))
    first, second = pairs[0]
    lines = tuple((a.name, a.numbers, b.numbers, charts.flattery(a, b)) for a, b in scores)
    protocols = (f"{first.protocol}: speaker-independent", f"{second.protocol}: speaker-dependent")
    title = f"{first.dataset}: protocol {first.protocol} compared with {second.protocol}"
    grid = Grid(title, ("head", *protocols, "gain"), lines)
    return FlatterySection(title, grid, (charts.dumbbells(scores, charts.WIDE), charts.dumbbells(scores)))


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = css_variables() + "\n" + (folder / "report.css").read_text(encoding="utf-8")
    environment.globals.update(css=Markup(css))  # not escaped: it is a file of this package
    environment.filters.update(number=number_text, trained_on_test_speakers=trained_on_test_speakers)
    return environment.get_template(PAGE)
