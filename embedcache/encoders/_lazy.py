"""What is known of an encoder without loading it: a run that finds every vector stored needs no network.

An encoder's facts are remembered under its name and precision, with all that decides them: its files (name, size,
modification and change time, in nanoseconds) and the versions of what reads them. A file touched within the last two
seconds is not trusted, as in `keys`. A lost or foreign memory costs time, never correctness: what is loaded later must
be what was remembered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .._version import __version__
from ..audio.decode import Waveform, pipeline
from ..encoder import Batch, Encoder, EncoderInfo
from ..errors import EncoderError
from ..files.atomic import atomic_write
from ..files.stamps import is_settled, stamp
from ..files.untrusted import read_json
from ._checkpoint import RECIPE, UNTRAINED, files_here

LIBRARIES = ("torch", "transformers")
FACTS = ("views", "shortest", "longest")  # besides `info`
MOST_BYTES = 1 << 24  # of the memory: some 2 kB an encoder
MOST_LAYERS = 10_000


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder that is loaded when it is first asked to encode."""

    info: EncoderInfo
    views: tuple[str, ...]
    shortest: float
    longest: float
    load: Callable[[], Encoder]

    @property
    def pack(self) -> float:
        """Seconds of audio for one call."""
        return self.loaded.pack

    @property
    def lanes(self) -> int:
        """Calls of `encode` that run side by side."""
        return self.loaded.lanes

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """The views of each waveform."""
        return self.loaded.encode(waveforms, views)

    @cached_property
    def loaded(self) -> Encoder:
        """The encoder itself. Raises EncoderError where it is not the one that was remembered."""
        encoder = self.load()
        if encoder.info.fingerprint != self.info.fingerprint:
            raise EncoderError(f"{self.info.name}: its checkpoint changed while it was used. Run again.")
        return encoder


def load_lazily(memory: Path, name: str, checkpoint: str, precision: str, load: Callable[[], Encoder]) -> Encoder:
    """The encoder called `name`, loaded only where nothing is remembered of it.

    What it turns out to be is remembered where its files were there, and old enough, before they were read.
    """
    known, entry, identity = _read(memory), f"{name} {precision}", _identity(checkpoint)

    def fresh() -> Encoder:
        encoder = load()
        if identity:
            facts = {fact: getattr(encoder, fact) for fact in FACTS}
            _write(memory, {**known, entry: {"identity": identity, "info": encoder.info.to_json(), **facts}})
        return encoder

    remembered = known.get(entry)
    if identity and remembered and remembered["identity"] == identity:
        return LazyEncoder(**_facts(remembered), load=fresh)
    return fresh()


def _identity(checkpoint: str) -> str:
    """All that decides what loading a checkpoint gives; empty where that cannot be told, or not yet."""
    stamps = {} if checkpoint == UNTRAINED else {path.name: stamp(str(path)) for path in files_here(checkpoint)}
    if not all(map(is_settled, stamps.values())) or (not stamps and checkpoint != UNTRAINED):
        return ""
    place = str(Path(checkpoint).resolve()) if Path(checkpoint).is_dir() else checkpoint
    libraries = {library: version(library) for library in LIBRARIES}
    return json.dumps([place, __version__, RECIPE, pipeline(), libraries, stamps])


def _write(memory: Path, known: dict[str, Any]) -> None:
    with atomic_write(memory) as file:
        json.dump(known, file, indent=1)


def _read(memory: Path) -> dict[str, Any]:
    try:
        known = read_json(memory, MOST_BYTES, EncoderError)
    except EncoderError:
        return {}
    return {name: entry for name, entry in known.items() if _facts(entry)} if isinstance(known, dict) else {}


def _facts(entry: Any) -> dict[str, Any]:
    """The remembered facts, or nothing where they are not what this version writes."""
    try:
        info, longest = EncoderInfo.from_json(entry["info"]), float(entry["longest"])
        facts: dict[str, Any] = {
            "info": info,
            "views": tuple(map(str, entry["views"])),
            "shortest": float(entry["shortest"]),
            "longest": longest,
        }
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return facts if _is_plausible(info) and 0 <= facts["shortest"] <= longest < math.inf else {}


def _is_plausible(info: EncoderInfo) -> bool:
    """Whether an encoder's facts have their types, and a name that is no path: its store's folder is called by it."""
    kinds = {"str": str, "int": int}
    typed = all(isinstance(getattr(info, f.name), kinds[str(f.type)]) for f in fields(info))
    return typed and Path(info.name).name == info.name != ".." and 0 < info.n_layers <= MOST_LAYERS
