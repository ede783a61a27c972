"""Encoders that are loaded only when they encode: a run whose vectors are all stored needs no weights.

`load_lazily` keeps the facts about an encoder (its `EncoderInfo`, views, shortest and longest clip) in a JSON file, the
*memory*, under the encoder's name and precision. Each entry also holds the encoder's identity, which is everything that
decides the facts: the names, sizes, and modification and change times (in nanoseconds) of its files, and the versions
of the libraries that read them. The facts are used only while the identity is the same. Files that changed within the
last two seconds are not trusted, as in `cache.content_keys`.

A lost or manipulated memory costs time, never correctness: an encoder that is loaded later must have the fingerprint in
the memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from .checkpoint import RECIPE
from .hub import UNTRAINED, local_files

LIBRARIES = ("torch", "transformers")
FACTS = ("views", "shortest", "longest")  # attributes of an encoder that are stored, `info` aside
MAX_MEMORY_BYTES = 1 << 24  # size of the memory; an encoder takes about 2 kB
MAX_LAYERS = 10_000


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder that is loaded when it is first needed."""

    info: EncoderInfo
    views: tuple[str, ...]
    shortest: float  # shortest clip that gives a frame, in seconds
    longest: float  # longest clip the encoder accepts, in seconds
    load: Callable[[], Encoder]

    @property
    def pack(self) -> float:
        """Seconds of audio that one call of `encode` should get."""
        return self.loaded.pack

    @property
    def lanes(self) -> int:
        """Number of calls of `encode` to run side by side."""
        return self.loaded.lanes

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform."""
        return self.loaded.encode(waveforms, views)

    @cached_property
    def loaded(self) -> Encoder:
        """The loaded encoder. Raises EncoderError if its fingerprint is not the one in the memory."""
        encoder = self.load()
        if encoder.info.fingerprint != self.info.fingerprint:
            raise EncoderError(f"{self.info.name}: the checkpoint changed during the run. Run the command again.")
        return encoder


def load_lazily(memory: Path, name: str, checkpoint: str, precision: str, load: Callable[[], Encoder]) -> Encoder:
    """Return a `LazyEncoder` if the memory holds the encoder's facts; otherwise load the encoder and store its facts.

    Facts are stored only if the checkpoint's files were on this machine, and old enough, before the encoder was loaded.
    """
    stored, entry_name, identity = _read(memory), f"{name} {precision}", _identity(checkpoint)

    def load_and_store() -> Encoder:
        encoder = load()
        if identity:
            facts = {fact: getattr(encoder, fact) for fact in FACTS}
            _write(memory, {**stored, entry_name: {"identity": identity, "info": encoder.info.to_json(), **facts}})
        return encoder

    entry = stored.get(entry_name)
    if identity and entry and entry["identity"] == identity:
        return LazyEncoder(**_facts(entry), load=load_and_store)
    return load_and_store()


def _identity(checkpoint: str) -> str:
    """Return everything that decides an encoder's facts, as JSON; empty if it is unknown or its files are too new."""
    stamps = {} if checkpoint == UNTRAINED else {path.name: stamp(str(path)) for path in local_files(checkpoint)}
    if not all(map(is_settled, stamps.values())) or (not stamps and checkpoint != UNTRAINED):
        return ""
    place = str(Path(checkpoint).resolve()) if Path(checkpoint).is_dir() else checkpoint
    libraries = {library: version(library) for library in LIBRARIES}
    return json.dumps([place, __version__, RECIPE, pipeline(), libraries, stamps])


def _write(memory: Path, entries: dict[str, Any]) -> None:
    with atomic_write(memory) as file:
        json.dump(entries, file, indent=1)


def _read(memory: Path) -> dict[str, Any]:
    """Return the valid entries of a memory; none if it cannot be read."""
    try:
        entries = read_json(memory, MAX_MEMORY_BYTES, EncoderError)
    except EncoderError:
        return {}
    return {name: entry for name, entry in entries.items() if _facts(entry)} if isinstance(entries, dict) else {}


def _facts(entry: Any) -> dict[str, Any]:
    """Return the facts of an entry, or an empty dict if the entry is not valid."""
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
    """Whether the name, which names the folder of a store, is not a path, and the number of layers is sensible."""
    return Path(info.name).name == info.name != ".." and 0 < info.n_layers <= MAX_LAYERS
