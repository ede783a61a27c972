"""Contracts that every adapter and encoder keeps, as functions that third parties run on their own.

    check_encoder(load_encoder("my-encoder"))
    check_dataset(my_dataset, "/some/small/tree")

Each returns nothing, or raises SerError that says what was got and what was wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .audio.decode import Waveform
from .dataset import Dataset
from .encoder import Batch, Encoder, EncoderInfo, resolve_views
from .errors import DataError, EncoderError

Row = NDArray[np.float32] | NDArray[np.float16]

TOLERANCE = 1e-5  # absolute, by which a float32 vector may move with its batch
DISTANCE = 0.014  # by which a vector of less precision may move, in its length: a cosine of 0.9999
TYPICAL = 30.0  # seconds of the long clip that others are encoded beside


def check_encoder(encoder: Encoder) -> None:
    """Shapes, dtype, finiteness, repeatability, and that no vector depends on what else is encoded with it.

    Each clip is encoded alone, in pairs, beside silence, beside a clip of 30 s, and in a large shuffled pack. A vector
    may move by 1e-5 in float32, and in bf16 and fp16 by 0.014 of its length, which is a cosine of 0.9999.
    """
    info, waves = encoder.info, _waves(encoder)
    views = resolve_views(encoder.views, encoder)
    alone = [encoder.encode([wave], views) for wave in waves]
    for batch in alone:
        _check_shapes(info, batch)
    if info.fingerprint != replace(info, name="other", checkpoint="elsewhere").fingerprint:
        raise EncoderError(f"{info.name}: its fingerprint depends on its name; wanted one of what decides the numbers.")
    silence, long = len(waves) - 2, len(waves) - 1
    shuffled = np.random.default_rng(1).permutation(np.tile(np.arange(len(waves)), 3)).tolist()
    for order in ([0, 0], [0, 1], [1, 0], [2, 1, 0], [silence, 0], [0, long], [long, 1, silence], shuffled):
        together = encoder.encode([waves[i] for i in order], views)
        for view in views:
            for row, number in zip(together[view], order, strict=True):
                _check_unmoved(info, view, row, alone[number][view][0], order)


def _check_unmoved(info: EncoderInfo, view: str, row: Row, wanted: Row, order: Sequence[int]) -> None:
    """Frames are rounded to float16 after all else, and so are held as the vectors of less precision are."""
    exact = info.precision == "fp32" and row.dtype == np.float32
    moved = float(np.abs(row - wanted).max()) if exact else _distance(row, wanted)
    allowed = TOLERANCE if exact else DISTANCE
    if not moved <= allowed:
        raise EncoderError(
            f"{info.name}: '{view}' moves by {moved:.1e}{'' if exact else ' of its length'} in the batch "
            f"{list(order)}; wanted at most {allowed:.2g}."
        )


def _distance(row: Row, wanted: Row) -> float:
    """The largest distance between vectors of two arrays (…, dim), in lengths of the wanted one.

    Silence may give vectors of next to no length: 0.1 a dimension is the least that counts.
    """
    a, b = row.astype(np.float64), wanted.astype(np.float64)
    length = np.maximum(np.linalg.norm(b, axis=-1), 0.1 * np.sqrt(b.shape[-1]))
    return float((np.linalg.norm(a - b, axis=-1) / length).max())


def check_dataset(dataset: Dataset, root: str | Path) -> None:
    """The facts are there, and a tree gives clips with ids, labels that the dataset knows, and speakers."""
    for fact in ("name", "title", "licence", "source", "layout"):
        if not getattr(dataset, fact):
            raise DataError(f"dataset '{dataset.name}': no {fact}; wanted a sentence for people.")
    manifest = dataset.manifest(root).check()
    if unknown := set(manifest.labels) - set(dataset.labels or manifest.labels):
        raise DataError(f"dataset '{dataset.name}': labels {sorted(unknown)} are not in its table {dataset.labels}.")
    if len({clip.dataset for clip in manifest.clips}) != 1:
        raise DataError(f"dataset '{dataset.name}': its clips name several datasets; wanted one.")
    if absent := [clip.path for clip in manifest.clips if not Path(clip.path).is_file()]:
        raise DataError(f"dataset '{dataset.name}': {absent[0]} is in the manifest and not on disk.")
    tested = [speaker for fold in dataset.official_folds for speaker in fold]
    if len(tested) != len(set(tested)):
        raise DataError(f"dataset '{dataset.name}': a speaker is tested in two official folds; wanted one each.")


def _waves(encoder: Encoder) -> Sequence[Waveform]:
    """Noise of several lengths and levels, two of them equally long, silence, and a long clip."""
    rng = np.random.default_rng(0)
    rate = encoder.info.sample_rate
    shapes = ((0.6, 0.1), (0.61, 1), (0.9, 0.01), (0.6, 0.3), (1.7, 0.1), (encoder.shortest, 0.1))
    noise = [rng.standard_normal(round(rate * s)).astype(np.float32) * np.float32(level) for s, level in shapes]
    long = rng.standard_normal(int(rate * min(TYPICAL, encoder.longest))).astype(np.float32)
    return [*noise, np.zeros(rate // 2, np.float32), long]


def _check_shapes(info: EncoderInfo, batch: Batch) -> None:
    shapes = {"pooled": (1, info.dim), "layers": (1, info.n_layers, info.dim), "std": (1, info.n_layers, info.dim)}
    for view, rows in batch.items():
        row = np.asarray(rows[0])[None]
        wanted = shapes.get(view, (1, row.shape[1], min(row.shape[-1], info.dim)))
        dtype = np.float32 if view in shapes else np.float16
        if row.shape != wanted or row.dtype != dtype:
            raise EncoderError(f"{info.name}: '{view}' is {row.dtype} {row.shape}; wanted {dtype.__name__} {wanted}.")
        if not np.isfinite(row).all():
            raise EncoderError(f"{info.name}: '{view}' is not finite.")
    if not np.allclose(np.asarray(batch["pooled"]), np.asarray(batch["layers"])[:, -1], atol=TOLERANCE):
        raise EncoderError(f"{info.name}: 'pooled' is not the last of 'layers'.")
