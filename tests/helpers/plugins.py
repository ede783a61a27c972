"""Encoders of another package: one that keeps the contract, and some that break it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from embedcache import EncoderInfo, EncoderSpec

INFO = EncoderInfo("levels", "", "", 16_000, 1, 4, "fp32", "numpy", recipe_version=1)


@dataclass(frozen=True)
class Levels:
    """Four numbers of each waveform: mean, deviation, smallest and largest sample, times `scale`."""

    info: EncoderInfo = INFO
    views: tuple[str, ...] = ("pooled", "layers")
    shortest: float = 0.025
    longest: float = 60.0
    pack: float = 10.0
    lanes: int = 2
    scale: float = 1.0

    def encode(self, waveforms, views):
        rows = [self.scale * np.array([w.mean(), w.std(), w.min(), w.max()], np.float32) for w in self.heard(waveforms)]
        pooled = np.stack(rows)
        return {view: {"pooled": pooled, "layers": pooled[:, None]}[view] for view in views}

    def heard(self, waveforms):
        return waveforms


class Padded(Levels):
    """The usual mistake: each waveform is padded to the longest of its batch."""

    def heard(self, waveforms):
        longest = max(map(len, waveforms))
        return [np.pad(wave, (0, longest - len(wave))) for wave in waveforms]


class Silent(Levels):
    """It divides by the level, which is 0 in silence."""

    def heard(self, waveforms):
        with np.errstate(invalid="ignore"):
            return [wave / wave.std() for wave in waveforms]


class Failing(Levels):
    """It raises an error of its own."""

    def heard(self, waveforms):
        raise ZeroDivisionError("of its own")


padded = EncoderSpec("padded", "of a test", lambda device, precision, log: Padded())
levels = EncoderSpec("levels", "of a test", lambda device, precision, log: Levels())
silent = EncoderSpec("silent", "of a test", lambda device, precision, log: Silent())
failing = EncoderSpec("failing", "of a test", lambda device, precision, log: Failing())


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `ser` find these encoders, in this process."""
    group = "ser.encoders"
    points = [EntryPoint(name, f"{__name__}:{name}", group) for name in ("padded", "levels", "silent", "failing")]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: points if group == "ser.encoders" else [])
