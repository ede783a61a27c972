"""An audit for people: what there is, what was found, what to do. Fits any width; JSON has what is cut short here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..text import count
from .checks import FAULT
from .run import Audit, Finding

EXAMPLES = 5  # lines of a finding
FEW = 8  # texts that are listed by name
COLOURS = {FAULT: "bold red"}


def show_audit(found: Audit, console: Console) -> None:
    """Print counts, then findings, faults first."""
    whole = f" of {found.published}" if found.published else ""
    speakers = count(len(found.speakers), "speaker")
    title = f"{found.title}: {found.clips}{whole} clips, {speakers}, {_length(found.hours)}"
    console.print(Text(title, style="bold cyan"), Text(found.root, style="dim"), sep="\n")
    console.print(_labels(found), *map(Text, _spread(found)), sep="\n")
    if found.findings:
        console.print("", _findings(found.findings), sep="\n")
    console.print(Text(verdict(found), style="bold"))


def verdict(found: Audit) -> str:
    """`2 faults, 3 notes`, or that nothing is wrong."""
    faults = len(found.faults)
    notes = count(len(found.findings) - faults, "note")
    return f"{count(faults, 'fault')}, {notes}." if faults else f"Nothing wrong was found; {notes}."


def _labels(found: Audit) -> Table:
    genders = [gender for gender in found.genders if gender]
    table = _grid()
    table.add_column("label", overflow="fold")
    for name in (*genders, "clips"):
        table.add_column(name, justify="right")
    for label, counts in found.labels.items():
        cells = [str(counts.get(gender, 0)) for gender in genders]
        table.add_row(Text(label), *cells, str(sum(counts.values())))
    return table


def _spread(found: Audit) -> Iterator[str]:
    if found.left_out:
        yield f"{count(found.left_out, 'clip')} left out, for known faults"
    yield f"{count(len(found.speakers), 'speaker')}, {_between(found.speakers)} clips each"
    if 0 < len(found.texts) <= FEW:
        yield f"texts: {', '.join(f'{text} {n}' for text, n in found.texts.items())}"
    elif found.texts:
        yield f"{len(found.texts)} texts, {_between(found.texts)} clips each"


def _length(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{hours * 3600:.0f} s"


def _between(counts: Mapping[str, int]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} to {most}"


def _findings(findings: tuple[Finding, ...]) -> Table:
    table = _grid()
    table.add_column("", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("which", overflow="fold")
    for one in findings:
        style = COLOURS.get(one.severity, "")
        # a line that stands for clips without naming them has the number in itself
        number = str(len(one.clips) or len(one.lines)) if one.clips or len(one.lines) > 1 else ""
        table.add_row(Text(one.severity, style=style), Text(one.kind, style=style), number, _which(one))
    return table


def _which(one: Finding) -> Group:
    lines = list(one.lines[:EXAMPLES])
    if len(one.lines) > EXAMPLES:
        lines.append(f"… and {len(one.lines) - EXAMPLES} more")
    said = f"{one.said} Source: {one.source}." if one.source else one.said
    return Group(*map(Text, lines), Text(said, style="dim"))


def _grid() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
