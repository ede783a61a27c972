"""`egemaps` and `compare`: the feature sets of openSMILE, through the package `opensmile` (extra [opensmile]).

    egemaps    88 functionals of eGeMAPSv02 (Eyben et al. 2016): pitch, formants, loudness, spectrum, jitter, shimmer
    compare    6,373 functionals of ComParE_2016 (Schuller et al. 2016): statistics of 65 contours and their differences

openSMILE (Eyben et al. 2010) is licensed for research only, and its licence extends to the features and to the models
that are fitted on them. `TERMS` says so wherever these encoders are used.

The rows are those of `opensmile.Smile`, for clips at 16 kHz. openSMILE reads 16-bit samples: the vectors depend on the
level of a recording, and samples beyond full scale are clipped. There are no frames, because some contours of
ComParE_2016 exceed float16.

`recipe_version` must be raised with any change that changes these numbers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ..audio.decode import Waveform, pipeline
from ..encoder import Batch, EncoderInfo, EncoderSpec, Log, Vectors, check_waveforms, no_log, one_layer
from ..errors import EncoderError, first_line
from ..text import install_hint

RATE = 16_000
WINDOW = 960  # samples: 60 ms, the window in which openSMILE searches the pitch; a shorter clip has no frame
FULL_SCALE = 32_767 / 32_768  # largest 16-bit sample; openSMILE would turn a larger one into a large negative one

LICENCE = "research only (audEERING), features and models included"
TERMS = (
    "openSMILE's audEERING research licence forbids commercial use, and use in products, free or paid, of the "
    "software, of these features and of models fitted on them."
)


@dataclass(frozen=True)
class OpenSmile:
    """The functionals of one feature set of openSMILE as an encoder of one layer."""

    info: EncoderInfo
    smile: Any  # an `opensmile.Smile`; each call of it runs an engine of its own
    shortest: float = WINDOW / RATE  # shortest clip that gives a frame, in seconds
    longest: float = 600.0  # longest clip the encoder accepts, in seconds: openSMILE takes about 0.5 MB for a second
    views: tuple[str, ...] = ("pooled", "layers")
    pack: float = 30.0  # seconds of audio that one call of `encode` should get
    # Number of calls of `encode` to run side by side: openSMILE is thread-safe from 3.0.1 on, and releases the
    # interpreter lock.
    lanes: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns, as openSMILE has them."""
        return tuple(self.smile.feature_names)

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Return the views of each waveform. Raises AudioError if a waveform is shorter than 60 ms.

        `pooled` is (n, dim) and `layers` (n, 1, dim), both float32.
        """
        check_waveforms(self, waveforms)
        return one_layer([self._functionals(wave) for wave in waveforms], (), self.info.dim, 0, views)

    def _functionals(self, wave: Waveform) -> Vectors:
        """Return the functionals (dim,) of one waveform."""
        samples = np.clip(wave, -1, FULL_SCALE).astype(np.float32)
        return np.asarray(self.smile(samples, RATE), dtype=np.float32).reshape(self.info.dim)


def load(name: str, feature_set: str, device: str = "auto", precision: str = "fp32", log: Log = no_log) -> OpenSmile:
    """Return the encoder of a feature set, by its name in `opensmile.FeatureSet`.

    Raises EncoderError for a device other than the CPU, for a precision other than fp32, and if the package is missing
    or does not run on this machine.
    """
    if precision != "fp32":
        raise EncoderError(f"--precision {precision}: {name} is computed in fp32 only. Leave --precision out.")
    if device not in ("auto", "cpu"):
        raise EncoderError(f"--device {device}: {name} has no weights and runs on the CPU only. Leave --device out.")
    installed = _installed(name)
    smile = _smile(name, feature_set, installed)
    preprocessing = f"{pipeline()}; 16 bits; opensmile {installed}, functionals of {feature_set}"
    info = EncoderInfo(name, "", "", RATE, 1, smile.num_features, "fp32", preprocessing, recipe_version=1)
    return OpenSmile(info, smile)


def _installed(name: str) -> str:
    """Return the version of the package. Raises EncoderError if it is missing."""
    try:
        return version("opensmile")
    except PackageNotFoundError:
        raise EncoderError(
            f"{name}: needs the package opensmile, whose licence allows research only. Install it with "
            f"`{install_hint('opensmile')}`, or use --encoder functionals."
        ) from None


def _smile(name: str, feature_set: str, installed: str) -> Any:
    """Return the `opensmile.Smile` that computes the functionals of a feature set."""
    try:
        import opensmile

        return opensmile.Smile(getattr(opensmile.FeatureSet, feature_set), opensmile.FeatureLevel.Functionals)
    except Exception as error:  # a library of another machine, a package that is not whole: errors of any type
        raise EncoderError(
            f"{name}: opensmile {installed} cannot be used here ({first_line(error).rstrip('.')}). It runs on Linux "
            f"with glibc, macOS and Windows, 64 bits. Install it again with `{install_hint('opensmile')}`, or use "
            "--encoder functionals."
        ) from error


encoder = tuple(
    EncoderSpec(name, about, functools.partial(load, name, feature_set), licence=LICENCE, terms=TERMS)
    for name, feature_set, about in (
        ("egemaps", "eGeMAPSv02", "88 functionals of openSMILE's eGeMAPSv02; no trained weights; extra [opensmile]"),
        (
            "compare",
            "ComParE_2016",
            "6,373 functionals of openSMILE's ComParE_2016; no trained weights; extra [opensmile]",
        ),
    )
)
