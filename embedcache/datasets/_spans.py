"""Times as the cells of tables write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..files.tables import column_form
from ..manifest import END, START

CLOCK = re.compile(r"(?:(\d+) days? )?(?:(\d+):)?(\d+):(\d+(?:[.,]\d*)?)")  # 01:02.5, 0 days 00:01:02.500000
NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?) *(?:s|sec|seconds?)?", re.IGNORECASE)
# Forms of names of a column of durations in seconds.
DURATIONS = ("duration", "dur", "durations", "durs", "durationsec", "dursec", "durationseconds", "durationinseconds")
NO_START = (
    "an end without a start. Write 0 for the begin of the recording, or rename the column if it means something else"
)


def span_of(cells: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the extra columns of the span of a row, in seconds, and what is wrong with the row; "" if nothing is.

    There are no columns if the row stands for a whole recording. Without an end, a column of durations gives it.
    """
    start, end = cells.get(START, ""), cells.get(END, "")
    duration = next((cell for name, cell in cells.items() if is_duration(name)), "")
    if not start:
        return {}, NO_START if end else ""
    times = {"start": seconds(start), "end": seconds(end), "duration": seconds(duration)}
    used = {START: start} | ({END: end} if end else {"duration": duration} if duration else {})
    if unread := [f"{name} is '{cell}'" for name, cell in used.items() if times[name] is None]:
        wanted = "seconds, such as 12.5, or hours, minutes and seconds: 00:00:12.5"
        return {}, f"{' and '.join(unread)}; wanted {wanted}. If the column means something else, rename it"
    begin = times["start"] or 0.0
    if "duration" in used:
        return {START: _text(begin), END: _text(begin + (times["duration"] or 0.0))}, ""
    return {START: _text(begin)} | ({END: _text(times["end"] or 0.0)} if end else {}), ""


def is_duration(column: str) -> bool:
    """Whether a column has the name of durations in seconds."""
    return column_form(column) in DURATIONS


def seconds(cell: str) -> float | None:
    """Return the seconds that a cell states, as a number or as a clock does; None for another text.

    None also for a number above the largest float, and for a clock with 60 seconds or more, such as `0:01:500` with
    milliseconds behind the last colon, or with 60 minutes or more beside hours.
    """
    if number := NUMBER.fullmatch(cell):
        value = float(number[1].replace(",", "."))
        return value if math.isfinite(value) else None
    if clock := CLOCK.fullmatch(cell):
        days, hours, minutes, rest = (float((part or "0").replace(",", ".")) for part in clock.groups())
        is_clock = rest < 60 and (minutes < 60 or clock[2] is None)
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest if is_clock else None
    return None


def span_name(columns: Mapping[str, str]) -> str:
    """Return the end of the id of a clip that is a span: `@12.5-15`, or `@12.5-` for the rest of the recording."""
    return f"@{columns[START]}-{columns.get(END, '')}" if START in columns else ""


def _text(time: float) -> str:
    """Return seconds as text, to the nanosecond: 12.5, 0."""
    return f"{time:.9f}".rstrip("0").rstrip(".")
