"""Output of commands: tables that fit the terminal, tab-separated values in a pipe, and notes on standard error."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .manifest import SKIPPED
from .text import count, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from .cache.dataset_extraction import Extraction
    from .cache.maintenance import RepairResult
    from .dataset import Dataset
    from .download.dataset import Download
    from .exchange.import_vectors import ImportResult
    from .manifest import Clip

PIPE_WIDTH = 100  # width of the console in characters if standard output is not a terminal
GAP = 2  # number of spaces between columns
SKIPPED_LINES = 3  # number of skipped clips that are shown; a file lists all
MIN_TEXT_WIDTH = 24  # smallest width of the last column in characters, unless its texts are shorter


def console() -> Console:
    """Return a rich console on standard output, 100 characters wide if standard output is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def note(text: str) -> None:
    """Print a line for people to standard error, so that standard output contains the result only."""
    print(text, file=sys.stderr, flush=True)


def note_skipped(dataset: str, lines: Iterable[str], file: Path, noun: str = "clip") -> None:
    """Print the number of skipped clips of a dataset to standard error, and the first lines; nothing if there are none.

    `lines` has one line for each clip; `file` is the file that lists all of them.
    """
    lines = list(map(one_line, lines))
    if not lines:
        return
    title = f"{dataset}: {count(len(lines), noun)} skipped, without a vector; {one_line(str(file))} lists all:"
    more = [f"… and {len(lines) - SKIPPED_LINES} more"] if len(lines) > SKIPPED_LINES else []
    note("\n  ".join([title, *lines[:SKIPPED_LINES], *more]))


def skipped_lines(clips: Iterable[Clip]) -> list[str]:
    """Return one line for each skipped clip, with its id and the reason."""
    return [f"{clip.clip_id}: {clip.extra[SKIPPED]}" for clip in clips]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as tab-separated values in a pipe, and as a table on a terminal.

    On a terminal that is too narrow for a table, each row is printed as a record, with one line for each column. Only
    the last column, which may hold a sentence, is wrapped, and only between words: no name is cut.
    """
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in [list(header), *cells]))
        return
    width = console().width
    columns = list(zip(*([list(header), *cells]), strict=True))
    widths = [max(map(len, column)) for column in columns]
    indent = sum(widths[:-1]) + GAP * (len(widths) - 1)  # where the last column begins
    fits = indent + min(widths[-1], MIN_TEXT_WIDTH) <= width
    lines = _format_table(header, cells, widths, width - indent) if fits else _format_records(header, cells, width)
    print("\n".join(lines))


def _format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], text_width: int
) -> list[str]:
    """Return lines with aligned columns; the last column is wrapped to `text_width` characters."""
    lines = []
    for row in [header, *rows]:
        *names, text = row
        left = "".join(name.ljust(width + GAP) for name, width in zip(names, widths, strict=False))
        lines += _wrap(left, text, text_width)
    return lines


def _format_records(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return for each row its first cell and, indented below it, a line for each other column with name and cell."""
    indent = max(map(len, header[1:]), default=0) + 4
    lines = []
    for row in rows:
        lines.append(row[0])
        for name, text in zip(header[1:], row[1:], strict=True):
            lines += _wrap(f"  {name.ljust(indent - 2)}", text, width - indent)
    return lines


def _wrap(left: str, text: str, width: int) -> list[str]:
    """Return lines with `left`, followed by `text` wrapped between words to `width` characters in a hanging indent.

    `_wrap("note  ", "one two three", 8)` returns `["note  one two", "      three"]`.
    """
    wrapped = textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]
    return [(left + wrapped[0]).rstrip(), *(" " * len(left) + line for line in wrapped[1:])]


def print_datasets(datasets: Iterable[Dataset]) -> None:
    """Print the facts about datasets, a paragraph each."""
    for d in datasets:
        sizes = ", ".join(f"{n} {what}" for n, what in ((d.n_clips, "clips"), (d.n_speakers, "speakers")) if n)
        labels = f"{len(d.labels)} labels: {', '.join(d.labels)}"
        counts = f"{sizes or 'as many clips as the release'}, {labels}"
        print(f"{d.name}: {d.title}")
        print(f"  holds    {counts if d.labels else 'your own clips, speakers and labels'}")
        print(f"  licence  {d.licence}")
        print(f"  cite     {d.citation}")
        print(f"  get it   {f'ser download {d.name}; ' if d.remotes else ''}{d.how_to_apply or d.source}")
        print(f"  files    {d.layout}")
        if d.official_folds:
            print(f"  folds    {len(d.official_folds)} by speaker; {d.official_source}")
        if d.official_partitions:
            print("  folds    the published partitions")


def print_download(dataset: Dataset, result: Download) -> None:
    """Print the result of a download, the licence and the citation, and the next commands to standard error."""
    unpacked = f", {result.unpacked} unpacked from archives" if result.unpacked else ""
    print(f"{dataset.name}: {result.root} is complete")
    print(f"files downloaded now: {result.fetched}{unpacked}; already complete: {result.found}")
    print(f"licence: {dataset.licence}\ncite:    {dataset.citation}")
    then = one_line(f"--dataset {dataset.name} --root {shlex.quote(str(result.root))}")
    note(f"Next: ser audit {then}")
    note(f"      ser extract {then}")


def print_repair(store: Path, repaired: RepairResult, clips: Mapping[str, Sequence[str]]) -> None:
    """Print what was dropped from a store, and the clips of each dataset that are to be extracted again."""
    rest = f"shards set aside: {len(repaired.set_aside)}; files of killed writers removed: {repaired.removed_parts}"
    first = f"{store.name}: damaged rows dropped: {repaired.rows}; {rest}"
    print("\n  ".join([first, *map(str, repaired.set_aside)]))
    for dataset, ids in clips.items():
        print("\n  ".join([f"{dataset}: clips to extract again: {len(ids)}", *ids]))
        note(f"Next: ser extract --dataset {dataset}, with the encoder and views of {store.name}")


def print_import(file: Path, encoder: str, done: ImportResult) -> None:
    """Print what was imported from a file of vectors, and its notes to standard error."""
    for line in done.notes:
        note(f"note: {line}")
    name, clips = done.manifest.dataset, len(done.manifest.usable)
    size = f"{done.store.info.n_layers} x {done.store.info.dim} numbers"
    print(f"{name}: {done.clips} of {clips} clips have {encoder} vectors ({size}) from {file}")
    print(f"in the cache before: {done.cached}\ncache: {done.store.folder}")


def print_extraction(result: Extraction, augment: str, memory: float | None) -> None:
    """Print the result of an extraction and its peak memory in GB, and the skipped clips to standard error.

    `augment` is the value of the option --augment. If `memory` is None, the peak memory is not printed.
    """
    name, report = result.manifest.dataset, result.report
    for line in result.notes:
        note(f"note: {one_line(line)}")
    duplicates = report.clips - report.encoded - report.cached
    speed = f", {report.audio_seconds / report.wall_seconds:.1f} s of audio a second" if report.encoded else ""
    same = f"; duplicates of other clips: {duplicates}" if duplicates else ""
    print(f"{name}: {report.clips} clips have {result.encoder} vectors")
    print(f"encoded now: {report.encoded}{speed}; in the cache before: {report.cached}{same}")
    print(f"cache: {one_line(str(result.store))}")
    print(f"{report.wall_seconds:.1f} s{f', peak memory {memory:.2f} GB' if memory else ''}")
    note_skipped(name, skipped_lines(report.skipped), result.skipped)
    note(f"Next: {result.comparison}")
    if result.copies:
        manifest, report = result.copies
        print(f"{name}: {report.clips} copies ({augment}) have {result.encoder} vectors")
        print(f"encoded now: {report.encoded}; in the cache before: {report.cached}")
        note_skipped(name, skipped_lines(manifest.skipped), result.skipped, "augmented clip")
