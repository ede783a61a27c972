"""The interface of an encoder, and the fingerprint that identifies its vectors. The encoders are in `encoders/`.

An encoder is frozen: it turns waveforms into vectors and learns nothing. Its fingerprint covers everything that decides
the values of the vectors. Vectors with the same fingerprint can be used together, and vectors with different
fingerprints cannot.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .audio.decode import Waveform
from .audio.levels import MAX_AMPLITUDE, find_array_fault, find_sample_fault
from .errors import AudioError, EncoderError
from .files.untrusted import build

Vectors = NDArray[np.float32]
Log = Callable[[str], None]  # receives a line of text for people

VIEWS = ("pooled", "layers")  # views that are stored by default
FRAMES = "frames"  # first part of the name of a frames view: `frames:N` holds the frames of layer N
PRECISIONS = ("fp32", "bf16", "fp16")
ADDED = ("trained_on", "tensors_sha256")  # fields of `EncoderInfo` that were added after the first version
INDECISIVE = ("name", "checkpoint", *ADDED)  # fields of `EncoderInfo` that do not decide the vectors


@dataclass(frozen=True)
class Frames:
    """The frames of several clips, which may differ in number, concatenated in one array.

    Two clips of 3 and 2 frames have `values` of shape (5, dim) and the offsets [0, 3, 5].
    """

    values: NDArray[np.float16]  # (total number of frames, dim)
    offsets: NDArray[np.int64]  # (n_clips + 1,): the frames of clip i are values[offsets[i] : offsets[i + 1]]

    @classmethod
    def of(cls, values: NDArray[np.float16], lengths: Sequence[int]) -> Frames:
        """Return the frames `values` of several clips, where `lengths` holds the number of frames of each clip."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))

    @classmethod
    def join(cls, parts: Sequence[Frames]) -> Frames:
        """Concatenate several objects, in order."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls.of(np.concatenate([part.values for part in parts]), lengths.tolist())

    def take(self, order: Sequence[int] | NDArray[np.int64]) -> Frames:
        """Return the frames of the clips with the indices `order`, in that order; an index may be repeated."""
        chosen = [self[int(index)] for index in order]
        values = np.concatenate(chosen) if chosen else self.values[:0]
        return Frames.of(values, [len(frames) for frames in chosen])

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes."""
        return self.values.nbytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.float16]:  # (T, dim), the frames of one clip
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        return (self[index] for index in range(len(self)))


Rows = Vectors | Frames  # the rows of one view, one row for each waveform
Batch = Mapping[str, Rows]  # view -> rows


@dataclass(frozen=True)
class EncoderInfo:
    """The identity of an encoder: the facts that decide its vectors, and its name."""

    name: str  # name on the command line
    checkpoint: str  # hub id, with the revision if one was named, or folder; "" for an encoder without a checkpoint
    weights_sha256: str  # SHA-256 over configuration and tensors; "" for an encoder without weights
    sample_rate: int  # sample rate of the waveforms that `encode` accepts, in Hz
    n_layers: int  # number of hidden states, including layer 0, the input of the first transformer block
    dim: int  # dimension of the vectors of `pooled`, `layers` and `std`
    precision: str  # "fp32", "bf16" or "fp16"
    preprocessing: str  # the steps from a file's bytes to the encoder's input, with the versions of the libraries
    recipe_version: int  # number that increases with every change to our own code that changes the vectors
    trained_on: str = ""  # SHA-256 of the training list, see `provenance`; "" if it was not fine-tuned by `ser`
    tensors_sha256: str = ""  # SHA-256 over the tensors alone; "" for an encoder without weights, and where unknown

    @property
    def is_imported(self) -> bool:
        """Whether another program computed the vectors: nothing is known about their audio."""
        return not self.sample_rate

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all fields that decide the vectors, as 64 hexadecimal digits.

        `name` and `checkpoint` are not part of it. Neither are `trained_on` and `tensors_sha256`, since
        `weights_sha256` covers the tensors and the configuration that contains the training list's SHA-256.
        """
        decisive = {name: value for name, value in asdict(self).items() if name not in INDECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return one line of JSON. Empty fields that older versions did not have are left out."""
        values = {name: value for name, value in asdict(self).items() if value or name not in ADDED}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderInfo:
        """Read the output of `to_json`. Raises ValueError if the text is not of that form."""
        return build(cls, json.loads(text))


def joined_fingerprint(infos: Sequence[EncoderInfo]) -> str:
    """Return the fingerprint of the vectors of several encoders side by side, in this order; of one, its own.

    That of several is the SHA-256 over their fingerprints, joined by `+`; that of none is "".
    """
    fingerprints = [info.fingerprint for info in infos]
    return hashlib.sha256("+".join(fingerprints).encode()).hexdigest() if len(infos) > 1 else "".join(fingerprints)


class Encoder(Protocol):
    """A frozen network, or a fixed computation without weights, that turns waveforms into vectors.

    Implementations need not inherit from this class. `embedcache.checks.check_encoder` tests them against it.
    """

    @property
    def info(self) -> EncoderInfo:
        """The identity of the encoder; its fingerprint decides whether stored vectors can be used again."""

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the encoder supports, of `pooled`, `layers`, `std` and `frames`; the first two are required.

        `frames` means that `frames:N` is supported for every layer N from 0 to `info.n_layers` - 1.
        """

    @property
    def shortest(self) -> float:
        """Duration of the shortest waveform that gives at least one frame, in seconds."""

    @property
    def longest(self) -> float:
        """Duration of the longest waveform that can be encoded with a reasonable amount of memory, in seconds."""

    @property
    def pack(self) -> float:
        """Total duration of the waveforms that one call of `encode` should get, in seconds.

        The value should be large enough for full speed and small enough for the memory of the device.
        """

    @property
    def lanes(self) -> int:
        """Number of calls of `encode` that should run at the same time, in threads, to use the whole machine."""

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """Compute views of waveforms.

        `waveforms` are n mono arrays of shape (samples,), float32, at `info.sample_rate`; they may differ in length and
        are not modified. `views` are names as `resolve_views` returns them. The result maps each view to its rows, one
        for each waveform, in order:

        - `pooled`: (n, dim) float32, equal to the last layer of `layers`.
        - `layers`: (n, n_layers, dim) float32, every layer pooled over time. Networks take the mean.
        - `std`: (n, n_layers, dim) float32, the standard deviation of every layer over time.
        - `frames:N`: `Frames` of the n waveforms, the T frames of layer N as (T, D) float16. D is dim for networks;
          encoders that pool several statistics into one vector have fewer values in a frame.

        A row must not depend on the other waveforms of the batch. Raises AudioError if a waveform is too short for one
        frame, or is none: integers, NaN, values far beyond full scale (see `check_waveforms`).
        """


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder that can be chosen by name: facts for people, and the function that loads it.

    `load` is called with a device (`auto`, `cpu`, `cuda` or `cuda:N`), a precision (`fp32`, `bf16` or `fp16`) and a
    log, and returns the encoder. It raises EncoderError if it does not support the device or the precision.
    """

    name: str  # name on the command line
    about: str  # one-line description
    load: Callable[[str, str, Log], Encoder]  # (device, precision, log) -> encoder
    checkpoint: str = ""  # hub id; "" for an encoder without a checkpoint
    licence: str = ""  # licence of the checkpoint or of the package that computes the vectors
    terms: str = ""  # sentence on what the licence forbids; printed at extraction, and in the cards of models
    # Returns a torch module, waveform (1, samples) -> `pooled` (1, dim), from which `ser export` writes an ONNX file.
    # None for an encoder with a checkpoint, which needs none, and for an encoder that cannot be exported.
    module: Callable[[], Any] | None = None
    family: str = ""  # family of the checkpoint's network, its `model_type` in config.json; decides the engine


def no_log(line: str) -> None:
    """Ignore a line: the log that is used by default from Python."""


def is_ragged(view: str) -> bool:
    """Whether the rows of a view differ in length, as those of `frames:N` do."""
    return view.partition(":")[0] == FRAMES


def frame_layers(views: Sequence[str]) -> dict[str, int]:
    """Return the `frames:N` views among `views`, each with its layer number N."""
    return {view: int(view.partition(":")[2]) for view in views if is_ragged(view)}


def one_layer(
    rows: Sequence[Vectors], frames: Sequence[NDArray[np.float16]], dim: int, frame_dim: int, views: Sequence[str]
) -> Batch:
    """Return the views of an encoder of one layer, from the vector (dim,) of each waveform.

    `frames` are the (T, frame_dim) frames of each waveform; they are read only if `views` has `frames:0`.
    """
    pooled = np.stack(rows) if rows else np.empty((0, dim), np.float32)
    batch: dict[str, Rows] = {"pooled": pooled, "layers": pooled[:, None]}
    if f"{FRAMES}:0" in views:
        joined = np.concatenate([np.empty((0, frame_dim), np.float16), *frames])
        batch[f"{FRAMES}:0"] = Frames.of(joined, [len(part) for part in frames])
    return {view: batch[view] for view in views}


def resolve_views(requested: Sequence[str], encoder: Encoder) -> tuple[str, ...]:
    """Return the names under which the requested views are stored, without duplicates.

    `frames` becomes `frames:N` with the last layer N, and `frames:all` becomes one view for each layer; other names
    do not change. For an encoder with 3 layers, `["pooled", "frames"]` becomes `("pooled", "frames:2")`. Raises
    EncoderError if the encoder does not support a view.
    """
    layers = range(encoder.info.n_layers)
    every = [f"{FRAMES}:{layer}" for layer in layers]
    names = {**{view: [view] for view in (*encoder.views, *every)}, FRAMES: every[-1:], f"{FRAMES}:all": every}
    offered = [*encoder.views, *([f"{FRAMES}:0 … {every[-1]}", f"{FRAMES}:all"] if len(every) > 1 else [])]
    if FRAMES not in encoder.views:
        names, offered = {view: [view] for view in encoder.views}, list(encoder.views)
    if unknown := [view for view in requested if view not in names]:
        raise EncoderError(f"{encoder.info.name}: has no view '{unknown[0]}'; have {', '.join(offered)}.")
    return tuple(dict.fromkeys(view for name in requested for view in names[name]))


def refuse_short(encoder: Encoder, waveforms: Sequence[Waveform]) -> None:
    """Raise AudioError if a waveform is shorter than `encoder.shortest` seconds, and so too short for one frame."""
    info = encoder.info
    needed = count_samples(encoder.shortest, info.sample_rate)
    for wave in waveforms:
        if len(wave) < needed:
            raise AudioError(
                f"got a waveform of {describe_length(len(wave), info.sample_rate)}; {info.name} needs at least "
                f"{needed}. Leave it out, or use a longer one."
            )


def check_waveforms(encoder: Encoder, waveforms: Sequence[Waveform]) -> None:
    """Raise AudioError if a waveform is no array of finite floats in the range of sound, or is too short.

    The range is twice that of files, which resampling may exceed a little.
    """
    for wave in waveforms:
        if got := find_array_fault(wave):
            raise AudioError(
                f"{encoder.info.name}: got {got}; wanted floats (samples,) in [-1, 1]. Divide 16-bit samples by 32768."
            )
        if fault := find_sample_fault(wave, 2 * MAX_AMPLITUDE):
            raise AudioError(
                f"{encoder.info.name}: got a waveform that cannot be used: {fault}. Pass floats in [-1, 1]."
            )
    refuse_short(encoder, waveforms)


def count_samples(seconds: float, rate: int) -> int:
    """Return the number of samples that a recording of this duration has at a sample rate, as soxr rounds it."""
    return math.floor(round(seconds * rate, 6) + 0.5)


def describe_length(samples: int, rate: int) -> str:
    """Return the length of a waveform as a text: `399 samples at 16,000 Hz (24.9 ms)`."""
    return f"{samples} samples at {rate:,} Hz ({1000 * samples / rate:.1f} ms)"


def join(parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of one view from several batches, in order."""
    ragged = [part for part in parts if isinstance(part, Frames)]
    return Frames.join(ragged) if ragged else np.concatenate([np.asarray(part) for part in parts])


def check_device(device: str) -> None:
    """Raise EncoderError if `device` is not one of `auto`, `cpu`, `cuda` and `cuda:N`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise EncoderError(f"got the device '{device}'; wanted auto, cpu, cuda or cuda:N.")


def pick_device(device: str) -> Any:
    """Return the torch device with the name `auto`, `cpu`, `cuda` or `cuda:N`.

    `auto` is the first GPU, or the CPU if there is no GPU. If the device is a GPU, TF32 is disabled in this process,
    see `_disable_tf32`. Raises EncoderError if the device does not exist.
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
        _disable_tf32()
    return picked


def _disable_tf32() -> None:
    """Compute products and convolutions of float32 in float32.

    In TF32, a GPU rounds their inputs to 10 bits of mantissa: convolutions by torch's default, products where another
    program or a variable of NVIDIA's containers (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE) asks for it. torch 2.9 and later
    have a second interface. It decides, and the first one raises errors wherever the two disagree: both are set.
    """
    import torch

    backends: Any = torch.backends
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = False
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        for operation in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            operation.fp32_precision = "ieee"
