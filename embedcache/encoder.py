"""What an encoder is, and what identifies it. The encoders lie in `encoders/`.

An encoder is frozen: it turns waveforms into vectors and learns nothing. Its fingerprint names everything that decides
the numbers, so that vectors of one fingerprint may stand side by side and vectors of two may not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .audio.decode import Waveform
from .errors import AudioError, EncoderError

Vectors = NDArray[np.float32]
Log = Callable[[str], None]  # hears a line for people

VIEWS = ("pooled", "layers")  # what is kept unless more is asked for
FRAMES = "frames"  # `frames:N` is the view of layer N's frames
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Frames:
    """Rows of different lengths: the frames of some clips, end to end."""

    values: NDArray[np.float16]  # (sum of T, dim)
    offsets: NDArray[np.int64]  # (n + 1,): clip i is values[offsets[i] : offsets[i + 1]]

    @classmethod
    def of(cls, values: NDArray[np.float16], lengths: Sequence[int]) -> Frames:
        """From the number of frames of each clip."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))

    @classmethod
    def join(cls, parts: Sequence[Frames]) -> Frames:
        """The clips of several, in order."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls.of(np.concatenate([part.values for part in parts]), lengths.tolist())

    def take(self, order: Sequence[int] | NDArray[np.int64]) -> Frames:
        """The clips with these numbers, in this order."""
        chosen = [self[int(number)] for number in order]
        values = np.concatenate(chosen) if chosen else self.values[:0]
        return Frames.of(values, [len(frames) for frames in chosen])

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.values.nbytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> NDArray[np.float16]:  # (T, dim) of one clip
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        return (self[number] for number in range(len(self)))


Rows = Vectors | Frames  # of one view, one row a waveform
Batch = Mapping[str, Rows]  # view -> rows


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
    trained_on: str = ""  # SHA-256 of what it was fine-tuned on, see `lineage`; "" where nothing here fine-tuned it

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the numbers, 64 hexadecimal digits; what an encoder is called does not.

        Nor what it was trained on, beside the weights' own digest, which covers the config that names it.
        """
        decisive = {k: v for k, v in asdict(self).items() if k not in ("name", "checkpoint", "trained_on")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """One line of JSON; of an encoder that was not fine-tuned, as earlier versions wrote it."""
        said = {k: v for k, v in asdict(self).items() if k != "trained_on" or v}
        return json.dumps(said, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderInfo:
        """The inverse of `to_json`. Raises ValueError or TypeError for anything else."""
        info = cls(**json.loads(text))
        kinds = {"str": str, "int": int}
        if wrong := [f.name for f in fields(cls) if type(getattr(info, f.name)) is not kinds[str(f.type)]]:
            raise ValueError(f"{', '.join(wrong)} of another type than an encoder's")
        return info


class Encoder(Protocol):
    """A frozen network, or a recipe without weights. `check_encoder` holds implementations to this."""

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def views(self) -> tuple[str, ...]:
        """What it can give, of `pooled`, `layers`, `std` and `frames`."""

    @property
    def shortest(self) -> float:
        """Seconds of the shortest clip that gives one frame."""

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that fits into a sensible amount of memory."""

    @property
    def pack(self) -> float:
        """Seconds of audio that one call of `encode` should get: enough to be fast, few enough for its memory."""

    @property
    def lanes(self) -> int:
        """Calls of `encode` that run side by side, in threads, to keep the machine busy."""

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """The views of each waveform: `pooled` (n, dim), `layers` and `std` (n, n_layers, dim) float32; `frames:N`.

        A row never depends on the other waveforms of the batch.
        """


@dataclass(frozen=True)
class EncoderSpec:
    """A built-in encoder: the facts a person needs to choose, and how to load it."""

    name: str
    about: str
    load: Callable[[str, str, Log], Encoder]  # device, precision, say -> encoder
    checkpoint: str = ""
    licence: str = ""


def no_log(line: str) -> None:
    """Hear nothing."""


def is_ragged(view: str) -> bool:
    """Whether a view has rows of different lengths."""
    return view.partition(":")[0] == FRAMES


def frame_layers(views: Sequence[str]) -> dict[str, int]:
    """The `frames:N` among views, with their N."""
    return {view: int(view.partition(":")[2]) for view in views if is_ragged(view)}


def resolve_views(asked: Sequence[str], encoder: Encoder) -> tuple[str, ...]:
    """Views as they are stored: `frames` is the last layer's, `frames:all` those of every layer.

    Raises EncoderError for what this encoder does not give.
    """
    layers = range(encoder.info.n_layers)
    every = [f"{FRAMES}:{layer}" for layer in layers]
    names = {**{view: [view] for view in (*encoder.views, *every)}, FRAMES: every[-1:], f"{FRAMES}:all": every}
    offered = [*encoder.views, *([f"{FRAMES}:0 … {every[-1]}", f"{FRAMES}:all"] if len(every) > 1 else [])]
    if FRAMES not in encoder.views:
        names, offered = {view: [view] for view in encoder.views}, list(encoder.views)
    if unknown := [view for view in asked if view not in names]:
        raise EncoderError(f"{encoder.info.name}: gives no view '{unknown[0]}'; have {', '.join(offered)}.")
    return tuple(dict.fromkeys(view for name in asked for view in names[name]))


def refuse_short(encoder: Encoder, waveforms: Sequence[Waveform]) -> None:
    """Raise AudioError for a waveform that is too short for a frame."""
    needed = round(encoder.shortest * encoder.info.sample_rate)
    for wave in waveforms:
        if len(wave) < needed:
            raise AudioError(f"a waveform of {len(wave)} samples, {encoder.info.name} needs {needed} for one frame.")


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several batches, in order."""
    ragged = [part for part in parts if isinstance(part, Frames)]
    return Frames.join(ragged) if ragged else np.concatenate([np.asarray(part) for part in parts])


def check_device(device: str) -> None:
    """Raise EncoderError for what is no name of a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise EncoderError(f"no device '{device}'; have auto, cpu, cuda, cuda:N.")


def pick_device(device: str) -> Any:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`. Raises EncoderError where it is not there.

    On a GPU it also makes float32 convolutions real ones for this process: cuDNN would round their inputs to 10 bits.
    """
    import torch

    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    picked = torch.device(device)
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise EncoderError(
            f"--device {device}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices. "
            "Use --device cpu, or install a CUDA build of torch and a driver."
        )
    if picked.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return picked
