"""Print a check of an encoder for people; through a pipe, as tab-separated values."""

from __future__ import annotations

from collections.abc import Iterator

from ..terminal import print_table
from .result import CheckLine, EncoderCheck

RESULTS = {True: "ok", False: "BROKEN", None: ""}


def show_check(result: EncoderCheck) -> None:
    """Print the facts, then a line for each check."""
    print_table(("fact", "value"), _facts(result))
    print_table(("check", "measured", "bound", "result", "about"), map(_line, result.checks))


def _facts(result: EncoderCheck) -> Iterator[tuple[str, str]]:
    machine = result.machine
    yield "encoder", f"{result.encoder}{f' ({result.checkpoint})' if result.checkpoint else ''}"
    yield "engine", result.engine
    yield "fingerprint", result.fingerprint
    yield "device", f"{result.device}, {result.precision}"
    cores = f"{machine['cores']} cores, {machine['threads']} threads, {machine['memory_gb']} GB"
    yield "processor", ", ".join([machine["cpu"], cores, " ".join(machine["instructions"])])
    if machine["cuda"]:
        yield "gpu", machine["cuda"]
    versions = [f"{name} {machine[name]}" for name in ("torch", "transformers", "numpy", "python")]
    yield "software", ", ".join([f"ser {result.ser}", *versions, machine["os"]])


def _line(check: CheckLine) -> tuple[str, ...]:
    return (
        check.name,
        _number(check.measured),
        _number(check.bound),
        RESULTS[check.ok],
        "; ".join(filter(None, (check.unit, check.note))),
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
