"""Contract checks for encoders and dataset adapters, as functions that third parties call in their own tests.

    check_encoder(load_encoder("my-encoder"))
    check_dataset(datasets.get("my-corpus"), "/path/to/a/small/tree")

Each function returns None if the contract is kept. Otherwise it raises a SerError whose message says what was got and
what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .audio.decode import Waveform
from .dataset import Dataset
from .encoder import Batch, Encoder, EncoderInfo, resolve_views
from .errors import DataError, EncoderError
from .manifest import PARTITION

Row = NDArray[np.float32] | NDArray[np.float16]

TOLERANCE = 1e-5  # largest difference of a float32 value between two batches, relative to numbers above 1
RELATIVE_TOLERANCE = 0.014  # largest distance of less precise vectors, relative to their length: a cosine of 0.9999
MIN_LENGTH = 0.1  # per square root of the dimension; shorter vectors, as of silence, count as if they had this length
LONG_CLIP_SECONDS = 30.0  # duration of the long clip in the test batches, if the encoder accepts it


@dataclass(frozen=True)
class Moved:
    """How far a row of a batch is from the row of the same waveform alone."""

    batch: str  # what the batch is, such as "beside silence"
    order: tuple[int, ...]  # the batch, as numbers of the test waveforms
    view: str
    distance: float
    allowed: float  # TOLERANCE for a difference of numbers, RELATIVE_TOLERANCE for a distance of vectors

    @property
    def ok(self) -> bool:
        """Whether the contract allows the distance."""
        return self.distance <= self.allowed


def check_encoder(encoder: Encoder) -> None:
    """Check that an encoder keeps the contract of `Encoder`.

    The waveforms are float32 noise of 0.6 s to 1.7 s and of `encoder.shortest` seconds, 0.5 s of silence, and noise of
    30 s or `encoder.longest` seconds, whichever is shorter. Every view in `encoder.views` is computed; `pooled`
    and `layers` must be among them. Checked are:

    - Shapes and dtypes: `pooled` is (n, dim) float32, `layers` and `std` are (n, n_layers, dim) float32. `frames:N`
      has one (T, D) float16 array for each waveform, with D at most dim.
    - All values are finite, and `pooled` equals the last layer of `layers` within 1e-5.
    - The fingerprint does not depend on `info.name` or `info.checkpoint`.
    - A row does not depend on the other waveforms of its batch. Each waveform is encoded alone, and again in pairs,
      next to silence, next to the long clip, and in a shuffled batch that holds the long clip once and every other one
      three times. If the precision is fp32, float32 values may differ by at most 1e-5, or by 1e-5 of the largest number
      of their vector where this is above 1. Vectors of bf16 and fp16 encoders, and float16 frames, may differ by at
      most 0.014 of their length, which is a cosine of 0.9999.

    Raises EncoderError for the first violation. Errors that the encoder itself raises are not caught. `ser check` makes
    the same checks, and shows all distances.
    """
    waves = contract_waveforms(encoder)
    alone = encode_alone(encoder, waves)
    for moved in distances_in_batches(encoder, waves, alone):
        if not moved.ok:
            raise EncoderError(_moved_text(encoder.info, moved))


def contract_waveforms(encoder: Encoder) -> Sequence[Waveform]:
    """Return the test waveforms: noise of several durations and levels, then silence, then one long clip.

    Two of the noises have the same duration, since encoders may treat equal lengths in a different way.
    """
    rng = np.random.default_rng(0)
    rate = encoder.info.sample_rate
    shapes = ((0.6, 0.1), (0.61, 1), (0.9, 0.01), (0.6, 0.3), (1.7, 0.1), (encoder.shortest, 0.1))  # seconds, level
    noise = [rng.standard_normal(round(rate * s)).astype(np.float32) * np.float32(level) for s, level in shapes]
    long = rng.standard_normal(int(rate * min(LONG_CLIP_SECONDS, encoder.longest))).astype(np.float32)
    return [*noise, np.zeros(rate // 2, np.float32), long]


def encode_alone(encoder: Encoder, waves: Sequence[Waveform]) -> list[Batch]:
    """Return all views of each waveform, encoded alone. Raises EncoderError if shapes, values or fingerprint are wrong.

    `frames` stands for the frames of the last layer.
    """
    info, views = encoder.info, resolve_views(encoder.views, encoder)
    if info.fingerprint != replace(info, name="other", checkpoint="elsewhere").fingerprint:
        raise EncoderError(
            f"{info.name}: the fingerprint depends on the name or the checkpoint; wanted a fingerprint of the fields "
            "that decide the vectors. Use the property EncoderInfo.fingerprint as it is."
        )
    alone = [encoder.encode([wave], views) for wave in waves]
    for batch in alone:
        _check_shapes(info, batch)
    return alone


def distances_in_batches(encoder: Encoder, waves: Sequence[Waveform], alone: Sequence[Batch]) -> Iterator[Moved]:
    """Yield how far each row of each test batch is from the row of the same waveform in `alone`.

    `waves` are those of `contract_waveforms`, and `alone` that of `encode_alone`.
    """
    views = tuple(alone[0])
    for name, order in _make_batches(len(waves)):
        together = encoder.encode([waves[i] for i in order], views)
        for view in views:
            for row, i in zip(together[view], order, strict=True):
                yield Moved(name, order, view, *_distance(encoder.info, row, alone[i][view][0]))


def _make_batches(n: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return the test batches, as numbers of the `n` test waveforms: the last two are silence and the long clip."""
    silence, long = n - 2, n - 1
    shuffled: list[int] = np.random.default_rng(1).permutation([*np.tile(np.arange(long), 3), long]).tolist()
    return [
        *(("in pairs", order) for order in ((0, 0), (0, 1), (1, 0), (2, 1, 0))),
        ("beside silence", (silence, 0)),
        *(("beside a long clip", order) for order in ((0, long), (long, 1, silence))),
        ("shuffled", tuple(shuffled)),
    ]


def _distance(info: EncoderInfo, row: Row, wanted: Row) -> tuple[float, float]:
    """Return how far a row is from `wanted`, and how far it may be.

    Frames are rounded to float16 at the end, so the relative tolerance of the lower precisions applies to them.
    """
    if info.precision == "fp32" and row.dtype == np.float32:
        return largest_difference(row, wanted), TOLERANCE
    return _relative_distance(row, wanted), RELATIVE_TOLERANCE


def largest_difference(row: Row, wanted: Row) -> float:
    """Return the largest difference of a number between two (…, dim) arrays, relative to the vector of `wanted`.

    The scale of a vector is its largest number, but at least 1: float32 has 24 bits, and the layers of large networks
    hold numbers in the hundreds.
    """
    scale = np.maximum(np.abs(wanted).max(axis=-1), 1)
    return float((np.abs(row - wanted).max(axis=-1) / scale).max())


def _relative_distance(row: Row, wanted: Row) -> float:
    """Return the largest distance between the vectors of two (…, dim) arrays, relative to the length of `wanted`.

    A length counts as at least MIN_LENGTH * sqrt(dim), since the vectors of silence may be close to zero.
    """
    a, b = row.astype(np.float64), wanted.astype(np.float64)
    length = np.maximum(np.linalg.norm(b, axis=-1), MIN_LENGTH * np.sqrt(b.shape[-1]))
    return float((np.linalg.norm(a - b, axis=-1) / length).max())


def _moved_text(info: EncoderInfo, moved: Moved) -> str:
    of_length = "" if moved.allowed == TOLERANCE else " of its length"
    return (
        f"{info.name}: '{moved.view}' differs by {moved.distance:.1e}{of_length} in the batch {list(moved.order)}; "
        f"wanted at most {moved.allowed:.2g}. Encode each waveform independently of its batch: without padding, or "
        "with the padding masked in every layer."
    )


def check_dataset(dataset: Dataset, root: str | Path) -> None:
    """Check that a dataset adapter keeps the contract of `Dataset`.

    `root` is a folder with audio files in the layout of the dataset; a few files are enough. Checked are:

    - The fields `name`, `title`, `licence`, `source` and `layout` are not empty.
    - The manifest of `root` has clips. Their ids are unique, and each clip has a label, a speaker and a path.
    - Every label is in `dataset.labels`, unless that field is empty.
    - All clips name the same dataset, and their files exist.
    - No speaker is tested in more than one of the official folds.
    - If the dataset has official partitions, it has no official folds, and clips have partitions in lower case.

    Raises DataError for the first violation.
    """
    for name in ("name", "title", "licence", "source", "layout"):
        if not getattr(dataset, name):
            raise DataError(f"dataset '{dataset.name}': the field '{name}' is empty; wanted a text. Fill it in.")
    manifest = dataset.manifest(root).check()
    if unknown := set(manifest.labels) - set(dataset.labels or manifest.labels):
        raise DataError(f"dataset '{dataset.name}': got labels {sorted(unknown)}; wanted some of {dataset.labels}.")
    if len({clip.dataset for clip in manifest.clips}) != 1:
        raise DataError(f"dataset '{dataset.name}': its clips name several datasets; wanted one name in all clips.")
    if missing := [clip.path for clip in manifest.clips if not Path(clip.path).is_file()]:
        raise DataError(f"dataset '{dataset.name}': {missing[0]} is in the manifest, but no such file exists.")
    tested = [speaker for fold in dataset.official_folds for speaker in fold]
    if len(tested) != len(set(tested)):
        raise DataError(f"dataset '{dataset.name}': a speaker is tested in two official folds; wanted each in one.")
    if dataset.official_partitions:
        _check_partitions(dataset, {clip.extra.get(PARTITION, "") for clip in manifest.clips})


def _check_partitions(dataset: Dataset, names: set[str]) -> None:
    """Raise DataError unless `names`, the partitions of clips of a dataset with official partitions, can be such."""
    if dataset.official_folds:
        raise DataError(
            f"dataset '{dataset.name}': got official_folds and official_partitions; wanted one of the two, because the "
            "protocol `official` uses one."
        )
    if names == {""}:
        raise DataError(
            f"dataset '{dataset.name}': no clip has a partition; wanted train, dev or a test partition in "
            f"extra['{PARTITION}'] of the clips. Let scan fill it in, or set official_partitions to False."
        )
    if wrong := sorted(name for name in names if name != name.strip().lower()):
        raise DataError(
            f"dataset '{dataset.name}': got the partitions {', '.join(map(repr, wrong))}; wanted names in lower case "
            "without blanks around them, such as train, dev, test or test1."
        )


def _check_shapes(info: EncoderInfo, batch: Batch) -> None:
    """Raise EncoderError if a view of one waveform has a wrong shape or dtype, or values that are not finite."""
    shapes = {"pooled": (1, info.dim), "layers": (1, info.n_layers, info.dim), "std": (1, info.n_layers, info.dim)}
    for view, rows in batch.items():
        row = np.asarray(rows[0])[None]
        wanted = shapes.get(view, (1, row.shape[1], min(row.shape[-1], info.dim)))
        dtype = np.float32 if view in shapes else np.float16
        if row.shape != wanted or row.dtype != dtype:
            raise EncoderError(f"{info.name}: '{view}' is {row.dtype} {row.shape}; wanted {dtype.__name__} {wanted}.")
        if not np.isfinite(row).all():
            raise EncoderError(f"{info.name}: '{view}' contains NaN or infinity; wanted finite values.")
    if not np.allclose(np.asarray(batch["pooled"]), np.asarray(batch["layers"])[:, -1], atol=TOLERANCE):
        raise EncoderError(f"{info.name}: 'pooled' differs from the last layer of 'layers'; wanted the same values.")
