"""What is known of an encoder without loading it: a run that finds every vector stored needs no network.

An encoder's identity is remembered under its files (name, size, modification and change time, in nanoseconds) and the
versions of what reads them. A file touched within the last two seconds is not trusted, as in `keys`. A lost or foreign
memory costs time, never correctness: what is loaded later must be what was remembered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..audio import Waveform, pipeline
from ..encoder import Batch, Encoder, EncoderInfo
from ..errors import EncoderError
from ..keys import GRAIN_NS, stamp
from ..layout import atomic_write
from ._checkpoint import RECIPE, UNTRAINED, files_here

LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class Remembered:
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
        if encoder.info != self.info:
            raise EncoderError(f"{self.info.name}: its checkpoint changed while it was used. Run again.")
        return encoder


def recall(memory: Path, name: str, precision: str, load: Callable[[], Encoder]) -> Encoder:
    """The encoder called `name`, loaded only where nothing is remembered of it."""
    identity = _identity(name, precision)
    known = _read(memory)
    if identity and identity in known:
        return Remembered(**_facts(known[identity]), load=load)
    encoder = load()
    identity = identity or _identity(name, precision)  # a checkpoint that was just downloaded has files now
    if identity:
        facts = {"info": encoder.info.to_json(), "views": encoder.views}
        seconds = {"shortest": encoder.shortest, "longest": encoder.longest}
        with atomic_write(memory) as file:
            json.dump({**known, identity: {**facts, **seconds}}, file, indent=1)
    return encoder


def _identity(name: str, precision: str) -> str:
    """All that decides what loading `name` gives; empty where that cannot be told, or not yet."""
    stamps = {} if name == UNTRAINED else {path.name: stamp(str(path)) for path in files_here(name)}
    young = any(time.time_ns() - max(times) < GRAIN_NS for _, *times in stamps.values())
    if young or (not stamps and name != UNTRAINED):
        return ""
    place = str(Path(name).resolve()) if Path(name).is_dir() else name
    libraries = {library: version(library) for library in LIBRARIES}
    return json.dumps([place, precision, RECIPE, pipeline(), libraries, stamps])


def _read(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in known.items() if _facts(value)} if isinstance(known, dict) else {}


def _facts(value: Any) -> dict[str, Any]:
    """The remembered facts, or nothing where they are not what this version writes."""
    try:
        info = EncoderInfo.from_json(value["info"])
        return {
            "info": info,
            "views": tuple(map(str, value["views"])),
            "shortest": float(value["shortest"]),
            "longest": float(value["longest"]),
        }
    except (KeyError, TypeError, ValueError):
        return {}
