"""What `ser check` found: a line for each check, and the facts without which a line says little."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import EncoderError, first_line
from ..text import count, examples


@dataclass(frozen=True)
class CheckLine:
    """One line of the table."""

    name: str
    measured: float | None  # None if nothing could be measured; the note says why
    bound: float | None  # largest value that is allowed; None for a measurement without a bound
    ok: bool | None  # whether the bound is kept; None if there is no bound
    unit: str  # what `measured` and `bound` are
    note: str = ""

    @classmethod
    def within(cls, name: str, measured: float, bound: float, unit: str) -> CheckLine:
        """Return a check whose measured value must be at most `bound`. NaN and infinity break it."""
        if not math.isfinite(measured):
            return cls(name, None, bound, False, unit, f"got {measured}")
        return cls(name, measured, bound, measured <= bound, unit)

    @classmethod
    def fact(cls, name: str, measured: float, unit: str, note: str = "") -> CheckLine:
        """Return a measurement without a bound."""
        return cls(name, measured, None, None, unit, note)

    @classmethod
    def skipped(cls, name: str, reason: str) -> CheckLine:
        """Return a check that cannot be made for this encoder, or on this machine."""
        return cls(name, None, None, None, "not applicable", reason)

    @classmethod
    def failed(cls, name: str, error: Exception) -> CheckLine:
        """Return a check that ended with an error."""
        return cls(name, None, None, False, type(error).__name__, first_line(error))


@dataclass(frozen=True)
class EncoderCheck:
    """All checks of one encoder on one machine."""

    encoder: str
    checkpoint: str  # folder or hub id; "" if there is none
    engine: str  # "packed", "transformers", or "its own" for an encoder without a checkpoint of transformers
    fingerprint: str
    device: str
    precision: str
    ser: str  # version of this package
    machine: dict[str, Any]
    notes: tuple[str, ...]  # lines of the encoder when it was loaded
    checks: tuple[CheckLine, ...]

    @property
    def broken(self) -> list[str]:
        """Names of the checks whose bound is broken."""
        return [check.name for check in self.checks if check.ok is False]

    def refuse_broken(self) -> None:
        """Raise EncoderError if a bound is broken; the message names the checks."""
        if self.broken:
            raise EncoderError(
                f"{self.encoder}: {count(len(self.broken), 'check')} of {len(self.checks)} failed: "
                f"{examples(self.broken, 5)}. Do not use its vectors. Report it with the output of "
                "`ser check --json`; if the encoder is your own, see `embedcache.checks.check_encoder`."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        return {**asdict(self), "broken": self.broken}
