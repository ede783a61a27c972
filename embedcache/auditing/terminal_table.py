"""Print an audit for people: counts, findings and what to do.

The output fits a terminal of any width. Long lists are shortened here; `ser audit --json` prints them in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..text import count, one_line
from .checks import FAULT
from .run import Audit, Finding

MOST_LINES = 5  # number of lines shown of one finding
MOST_TEXTS = 8  # number of texts up to which each text is listed with its count
COLOURS = {FAULT: "bold red"}


def show_audit(result: Audit, console: Console) -> None:
    """Print the counts, then the findings with faults first, then the verdict."""
    published = f" of {result.published}" if result.published else ""
    speakers = count(len(result.speakers), "speaker")
    title = f"{result.title}: {result.clips}{published} clips, {speakers}, {_format_duration(result.hours)}"
    console.print(Text(title, style="bold cyan"), Text(one_line(result.root), style="dim"), sep="\n")
    console.print(_label_table(result), *map(Text, _summary_lines(result)), sep="\n")
    if result.findings:
        console.print("", _finding_table(result.findings), sep="\n")
    console.print(Text(verdict(result), style="bold"))


def verdict(result: Audit) -> str:
    """Return the number of faults and notes as a sentence, such as `2 faults, 3 notes.`"""
    faults = len(result.faults)
    notes = count(len(result.findings) - faults, "note")
    return f"{count(faults, 'fault')}, {notes}." if faults else f"No faults were found; {notes}."


def _label_table(result: Audit) -> Table:
    genders = [gender for gender in result.genders if gender]
    table = _plain_table()
    table.add_column("label", overflow="fold")
    for name in (*genders, "clips"):
        table.add_column(name, justify="right")
    for label, counts in result.labels.items():
        cells = [str(counts.get(gender, 0)) for gender in genders]
        table.add_row(Text(one_line(label)), *cells, str(sum(counts.values())))
    return table


def _summary_lines(result: Audit) -> Iterator[str]:
    if result.left_out:
        yield f"{count(result.left_out, 'clip')} left out because of known faults"
    yield f"{count(len(result.speakers), 'speaker')}, {_format_range(result.speakers)} clips each"
    if 0 < len(result.texts) <= MOST_TEXTS:
        yield f"texts: {', '.join(f'{one_line(text)} {n}' for text, n in result.texts.items())}"
    elif result.texts:
        yield f"{len(result.texts)} texts, {_format_range(result.texts)} clips each"


def _format_duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 0.1 else f"{hours * 3600:.0f} s"


def _format_range(counts: Mapping[str, int]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} to {most}"


def _finding_table(findings: tuple[Finding, ...]) -> Table:
    table = _plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("details", overflow="fold")
    for finding in findings:
        style = COLOURS.get(finding.severity, "")
        cells = Text(finding.severity, style=style), Text(finding.kind, style=style), _format_count(finding)
        table.add_row(*cells, _finding_details(finding))
    return table


def _format_count(finding: Finding) -> str:
    """Return the number of clips, or of lines if no clips are named.

    A single line that names no clips states its number itself ("7 of 24 clips are missing"), so the cell stays empty.
    """
    if finding.clips:
        return str(len(finding.clips))
    return str(len(finding.lines)) if len(finding.lines) > 1 else ""


def _finding_details(finding: Finding) -> Group:
    lines = [one_line(line) for line in finding.lines[:MOST_LINES]]
    if len(finding.lines) > MOST_LINES:
        lines.append(f"… and {len(finding.lines) - MOST_LINES} more; --json lists all")
    explanation = f"{finding.said} Source: {finding.source}." if finding.source else finding.said
    return Group(*map(Text, lines), Text(explanation, style="dim"))


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
