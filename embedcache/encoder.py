"""What an encoder is, and what identifies it. The encoders lie in `encoders/`.

An encoder is frozen: it turns waveforms into vectors and learns nothing. Its fingerprint names everything that decides
the numbers, so that vectors of one fingerprint may stand side by side and vectors of two may not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .audio import Waveform
from .errors import EncoderError

Vectors = NDArray[np.float32]
Batch = Mapping[str, Vectors]  # view -> (n, …), one row a waveform

VIEWS = ("pooled", "layers")


@dataclass(frozen=True)
class EncoderInfo:
    """What made the vectors."""

    name: str
    checkpoint: str  # hub id or folder; "" where there is none
    weights_sha256: str  # over config and tensors; "" where there are none
    sample_rate: int  # Hz
    n_layers: int  # hidden states, the input of the first transformer block included
    dim: int
    precision: str
    preprocessing: str  # from bytes to the encoder's input, with the versions that matter
    recipe_version: int  # counts changes of our own code that change numbers

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the numbers, 64 hexadecimal digits; what an encoder is called does not."""
        decisive = {k: v for k, v in asdict(self).items() if k not in ("name", "checkpoint")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderInfo:
        """The inverse of `to_json`. Raises ValueError or TypeError for anything else."""
        return cls(**json.loads(text))


class Encoder(Protocol):
    """A frozen network, or a recipe without weights. `check_encoder` holds implementations to this."""

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def shortest(self) -> float:
        """Seconds of the shortest clip that gives one frame."""

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that fits into a sensible amount of memory."""

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """The views of each waveform, float32: `pooled` (n, dim), `layers` (n, n_layers, dim).

        A row never depends on the other waveforms of the batch.
        """


@dataclass(frozen=True)
class EncoderSpec:
    """A built-in encoder: the facts a person needs to choose, and how to load it onto a device."""

    name: str
    about: str
    load: Callable[[str], Encoder]  # device -> encoder
    checkpoint: str = ""
    licence: str = ""


def pick_device(device: str) -> Any:
    """The torch device that was asked for. Raises EncoderError where it is not there."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"no device '{device}'; have auto, cpu, cuda, cuda:N.") from error
    if picked.type not in ("cpu", "cuda"):
        raise EncoderError(f"device '{device}' is not supported; have auto, cpu, cuda, cuda:N.")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise EncoderError(
            f"--device {device}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices. "
            "Use --device cpu, or install a CUDA build of torch and a driver."
        )
    return picked
