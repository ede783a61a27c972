"""`functionals`: 1,566 functionals of speech, without weights and without a download.

`acoustics/contours` has the contours of pitch, energy, voice quality and spectrum, and `acoustics/functionals` what is
computed of each. `ser encoders functionals` lists all names. The vectors do not depend on the level of a recording, on
an offset, or on digital silence before and after the speech. The view `frames:0` holds 38 contours, 24 MFCCs and 14 of
the voice, of the frames that count as speech.

`recipe_version` must be raised with any change that changes these numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.decode import Waveform, pipeline
from ..encoder import FRAMES, Batch, EncoderInfo, EncoderSpec, Log, Vectors, check_waveforms, no_log, one_layer
from ..errors import EncoderError

NAME = "functionals"
RATE, DIM = 16_000, 1566
FRAME_DIM = 38
SHORTEST = 0.025  # seconds: one window


@dataclass(frozen=True)
class Functionals:
    """The 1,566 functionals as an encoder of one layer."""

    info: EncoderInfo
    shortest: float = SHORTEST
    longest: float = 600.0  # longest clip the encoder accepts, in seconds: about 2 GB
    views: tuple[str, ...] = ("pooled", "layers", FRAMES)
    pack: float = 30.0  # seconds of audio that one call of `encode` should get
    # Number of calls of `encode` to run side by side: torch releases the interpreter lock.
    lanes: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the 1,566 numbers of a vector, in order, such as `pitch.p95`."""
        from .acoustics.functionals import names

        return names()

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform. Raises AudioError if a waveform is shorter than 25 ms.

        `pooled` is (n, 1566) and `layers` (n, 1, 1566), both float32. `frames:0` is (T, 38) float16 for each waveform:
        one row for each frame of 10 ms, from the first to the last within 40 dB of the loudest.
        """
        check_waveforms(self, waveforms)
        described = [_describe(wave) for wave in waveforms]
        rows, frames = [row for row, _ in described], [contours for _, contours in described]
        return one_layer(rows, frames, DIM, FRAME_DIM, views)


def load(device: str = "auto", precision: str = "fp32", log: Log = no_log) -> Functionals:
    """Return the encoder. Raises EncoderError for a device other than the CPU or a precision other than fp32."""
    if precision != "fp32":
        raise EncoderError(f"--precision {precision}: {NAME} gives fp32 only. Leave --precision out.")
    if device not in ("auto", "cpu"):
        raise EncoderError(f"--device {device}: {NAME} has no weights and runs on the CPU only. Leave --device out.")
    versions = ", ".join(f"{package} {version(package)}" for package in ("librosa", "scipy"))
    return Functionals(EncoderInfo(NAME, "", "", RATE, 1, DIM, "fp32", f"{pipeline()}; {versions}", recipe_version=1))


def _describe(wave: Waveform) -> tuple[Vectors, NDArray[np.float16]]:
    """Return the functionals (1566,) and the frames (T, 38) of a waveform."""
    import torch

    from .acoustics.contours import contours_of
    from .acoustics.functionals import functionals_of

    with torch.inference_mode():
        contours = contours_of(torch.from_numpy(np.ascontiguousarray(wave)))
        kept = torch.cat([contours.cepstra, contours.voice], 1)[contours.inside[:, 0] > 0]
        return functionals_of(contours).float().numpy(), kept.numpy().astype(np.float16)


def module() -> Any:
    """Return the functionals as a torch module: waveform (1, samples) -> (1, 1566), float32."""
    from .acoustics.functionals import Module

    return Module()


encoder = EncoderSpec(
    NAME,
    "1,566 functionals of pitch, energy, voice quality, spectrum and their modulation; no trained weights",
    load,
    module=module,
)
