"""Everything that `ser` raises on purpose: what was got, what was wanted, what to do.

    SerError
    ├── UnknownName      nothing is called that: a dataset, an encoder, a head, a protocol, a run
    ├── DataError        a folder, a manifest or a label set that cannot be used
    ├── AudioError       a clip that cannot be read, or that an encoder cannot take
    ├── EncoderError     a checkpoint that cannot be loaded, a device that is not there
    ├── StoreError       a shard or a store that cannot be trusted or written
    ├── ProtocolError    folds that cannot be made as promised
    └── ModelError       a saved head that cannot be loaded or does not fit its encoder

The command line prints the message alone and exits with 1; from Python they are ordinary exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SerError(Exception):
    """Base of all errors that a user can mend."""


class UnknownName(SerError):
    """Nothing answers to a name; the message lists what does and suggests the nearest."""

    def __init__(self, kind: str, name: str, have: Iterable[str], hint: str = "") -> None:
        known = sorted(have)
        message = f"no {kind} '{name}'; have {', '.join(known) or 'none'}"
        if near := difflib.get_close_matches(name, known, n=1):
            message += f" (did you mean '{near[0]}'?)"
        super().__init__(f"{message}. {hint}".rstrip(". ") + ".")

    def __reduce__(self) -> tuple[type[SerError], tuple[str]]:
        """Between processes it travels as its message."""
        return SerError, (str(self),)


class DataError(SerError):
    """A folder, a manifest or a label set that cannot be used."""


class AudioError(SerError):
    """A clip that cannot be read, or that an encoder cannot take."""


class EncoderError(SerError):
    """A checkpoint that cannot be loaded, or a device that is not there."""


class StoreError(SerError):
    """A shard or a store that cannot be trusted or written."""


class ProtocolError(SerError):
    """Folds that cannot be made as the protocol promises."""


class ModelError(SerError):
    """A saved head that cannot be loaded, or that does not fit its encoder."""


def first_line(error: BaseException) -> str:
    """What an error says, in a line; its type's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def complain(what: str, complaints: list[str], advice: str, show: int = 5) -> str:
    """One message out of many complaints: the count, the first few, the way out."""
    lines = [f"  {line}" for line in complaints[:show]]
    if len(complaints) > show:
        lines.append(f"  … and {len(complaints) - show} more")
    return "\n".join([f"{what}:", *lines, advice])
