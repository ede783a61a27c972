"""`ser export`: a model folder as ONNX, for programs that have neither Python nor torch.

`head.onnx`, and where asked `encoder.onnx`, are written beside the model card, run in onnxruntime, and compared with
what `ser predict` computes. A folder that is there has passed; one that fails is never seen.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from embedcache import Encoder, ModelError
from embedcache.encoder import is_ragged
from embedcache.files.atomic import atomic_write, sync_folder
from embedcache.onnx.runtime import Session, check_exportable, need_onnx, save_encoder, versions

from ..data.views import about_view, rows_of
from ..heads import FrameHead, innermost
from ..heads.best_layer import BestLayer
from ..heads.stack import Stack
from ..inference.model import load_whole
from ..saved.model_folder import MODEL, ModelCard, card_json, load_model
from .graph_builder import EMBEDDING, LABEL, ML_OPSET, OPSET, PROBABILITIES
from .head_graphs import below, head_model, input_name, probabilities, splits

__all__ = ["ENCODER", "HEAD", "Exported", "export_onnx", "probabilities"]

HEAD, ENCODER = "head.onnx", "encoder.onnx"
FORMAT, FORMAT_VERSION = "ser-onnx", 1
TOLERANCE = 1e-4  # between probabilities; between vectors, of their largest number
CLEAR = 2 * TOLERANCE  # two labels nearer to each other than this may change places
ROWS, CLIPS = 64, 4  # seeded vectors, or clips of frames, of each kind that a head is tried on
FAR = (1, 3, 10)  # deviations from the training data
SECONDS = (0.0, 0.05, 0.73, 3.1)  # of noise that an encoder is tried on, beyond its shortest clip; no whole frames

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the Python path."""

    folder: Path
    files: tuple[str, ...]
    difference: float  # the largest between two probabilities
    vector_difference: float | None = None  # the largest between two vectors, as a share of their largest number


def export_onnx(model: str | Path, with_encoder: bool = False, out: str | Path | None = None) -> Exported:
    """Write a model folder as ONNX into `out`, by default `onnx` below it. Complete or absent.

    Raises SerError where a package of the extra [onnx] is missing, ModelError where `out` exists, the head's type has
    no graph or a file does not compute what the Python path does, EncoderError for an encoder that is no network.
    """
    need_onnx()
    model = Path(model)
    out = Path(out) if out else model / "onnx"
    if out.exists():
        raise ModelError(f"{out} exists already. Choose another folder with --out, or remove it.")
    if with_encoder:
        return _export(*load_whole(model, "cpu"), out)
    return _export(*load_model(model), None, out)


def _export(estimator: Any, card: ModelCard, encoder: Encoder | None, out: Path) -> Exported:
    if encoder:
        _check_reads_vectors(card)
        check_exportable(encoder.info)
    with _whole_folder(out) as part:
        _write(part / HEAD, head_model(estimator).SerializeToString())
        head = Session.of(part / HEAD)
        difference, vector_difference = check_head(estimator, head), None
        facts: dict[str, Any] = {"head": _head_facts(estimator, card)}
        if encoder:
            used = save_encoder(encoder.info, card.view, part / ENCODER)
            in_vectors, in_probabilities = check_encoder(estimator, card, encoder, Session.of(part / ENCODER), head)
            difference, vector_difference = max(difference, in_probabilities), in_vectors
            facts["encoder"] = _encoder_facts(estimator, card, encoder, used)
        files = (HEAD, *([ENCODER] if encoder else []), MODEL)
        done = Exported(out, files, difference, vector_difference)
        _write(part / MODEL, _card(card, facts, done))
    return done


def _check_reads_vectors(card: ModelCard) -> None:
    """Raise ModelError for a view of frames: the store rounds them to 16 bits, an ONNX file would not do so alike."""
    if is_ragged(card.view):
        raise ModelError(
            f"{card.head} reads the view '{card.view}', and frames are not exported with the encoder. Export the head "
            f"alone, without --encoder, and give {HEAD} the frames as its {MODEL} says; or fit a head on one vector a "
            "clip: pooled, layers or std, joined by + or not."
        )


def check_head(estimator: Any, head: Session) -> float:
    """The largest difference of probabilities over seeded vectors. Raises ModelError where it is above TOLERANCE."""
    X = _vectors(estimator)
    wanted = estimator.predict_proba(X)
    worst = 0.0
    for rows in (slice(None), slice(0, 1), slice(1, 4)):  # a batch has any number of rows
        worst = max(worst, _compare(HEAD, head(X[rows]), wanted[rows], estimator))
    return worst


def check_encoder(
    estimator: Any, card: ModelCard, encoder: Encoder, graph: Session, head: Session
) -> tuple[float, float]:
    """The largest difference of vectors and of probabilities over noise of several lengths, audio to labels.

    Raises ModelError where one is above TOLERANCE.
    """
    rng, rate = np.random.default_rng(0), encoder.info.sample_rate
    lengths = [min(encoder.shortest + more, encoder.longest) for more in SECONDS]
    parts, vectors, worst = card.view.split("+"), 0.0, 0.0
    for seconds in lengths:
        wave = (0.1 * rng.standard_normal(round(seconds * rate))).astype(np.float32)
        wanted = rows_of(encoder.encode([wave], parts), parts, card.n_frames)
        (got,) = graph(wave[None])
        largest = np.abs(wanted).max() or 1.0  # a single frame has no deviation
        off = float(np.abs(got - wanted).max() / largest) if got.shape == wanted.shape else np.inf
        if not off <= TOLERANCE:
            raise ModelError(_unlike(ENCODER, f"on {seconds:.2f} s of noise its vector is off by {off:.1e}"))
        vectors = max(vectors, off)
        worst = max(worst, _compare(ENCODER, head(got), estimator.predict_proba(wanted), estimator))
    return vectors, worst


def _compare(name: str, got: list[NDArray[Any]], wanted: NDArray[Any], estimator: Any) -> float:
    """The largest difference of probabilities. Raises ModelError where it is too large, or clear labels differ."""
    proba, labels = got
    off = float(np.abs(proba - wanted).max()) if proba.shape == wanted.shape else np.inf
    if not off <= TOLERANCE:  # NaN is not
        raise ModelError(_unlike(name, f"a probability is off by {off:.1e}"))
    second, first = np.sort(wanted, axis=1)[:, -2:].T
    expected = estimator.classes_[wanted.argmax(axis=1)].astype(str)
    if wrong := int(((labels.astype(str) != expected) & (first - second > CLEAR)).sum()):
        raise ModelError(_unlike(name, f"{wrong} of {len(labels)} labels are others"))
    return off


def _unlike(name: str, what: str) -> str:
    have = ", ".join(f"{package} {version}" for package, version in versions().items())
    return (
        f"{name} does not compute what ser does: {what}; wanted {TOLERANCE:g} at most. Nothing was written. Use the "
        f"versions in constraints.txt; here are {have}."
    )


def _vectors(estimator: Any) -> Vectors:
    """(n, d) seeded rows: like the training data where the head knows them, else standard normal.

    Not both: far from all that it was fitted on, a network's sums are so large that float32 agrees with nothing.
    """
    rng, d = np.random.default_rng(0), int(estimator.n_features_in_)
    noise = rng.standard_normal((CLIPS if isinstance(innermost(estimator), FrameHead) else ROWS, d))
    near = [rows for part in _parts(estimator) for rows in _near(part, noise, rng)]
    return np.concatenate(near or [noise]).astype(np.float32)


def _parts(thing: Any) -> Iterator[Any]:
    """An estimator and, at any depth, the fitted parts of it that read what it reads."""
    yield thing
    if isinstance(thing, FrameHead | BestLayer):
        return  # what is inside reads a part of each row
    if isinstance(thing, Pipeline):
        held = [step for _, step in thing.steps]
    elif isinstance(thing, Stack):
        held = thing.members_
    else:
        held = [value for name, value in vars(thing).items() if name.endswith("_")]
    for part in held:
        if isinstance(part, BaseEstimator | lightgbm.Booster):
            yield from _parts(part)


def _near(part: Any, noise: NDArray[np.float64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Rows as the training data were, one to ten deviations out; for trees, rows that lie upon their thresholds."""
    if isinstance(part, FrameHead):
        yield from (_clips(part, far * noise, rng) for far in FAR)
    if isinstance(part, BestLayer):
        scaler = part.model_[0]
        yield from (
            np.tile(scaler.mean_, part.n_layers) + np.tile(scaler.scale_, part.n_layers) * noise * far for far in FAR
        )
    if isinstance(part, StandardScaler) and len(part.scale_) == noise.shape[1]:
        yield from (part.mean_ + part.scale_ * noise * far for far in FAR)
    if isinstance(part, lightgbm.Booster):
        yield _upon_thresholds(part, noise, rng)


def _clips(head: FrameHead, noise: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Clips as the training data were: the first of one frame, the second whole, the others of any length."""
    mean, scale = (a.reshape(head.n_layers, 1, -1) for a in (head.scaler_.mean_, head.scaler_.scale_))
    cube = mean + scale * noise.reshape(len(noise), head.n_layers, head.n_frames, -1)
    lengths = rng.integers(1, head.n_frames + 1, len(noise))
    lengths[:2] = 1, head.n_frames
    beyond = np.arange(head.n_frames) >= lengths[:, None]
    return np.where(beyond[:, None, :, None], np.nan, cube).reshape(noise.shape)


def _upon_thresholds(
    trees: lightgbm.Booster, noise: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    rows = noise.copy()
    for feature, thresholds in splits(trees).items():
        edges = np.array([below(threshold) for threshold in rng.choice(thresholds, len(rows))])
        beyond = rng.choice([False, True], len(rows))
        rows[:, feature] = np.where(beyond, np.nextafter(edges, np.float32(np.inf)), edges)
    return rows


def _head_facts(estimator: Any, card: ModelCard) -> dict[str, Any]:
    return {
        "file": HEAD,
        "input": {input_name(estimator): _input(estimator, card)},
        "outputs": {
            PROBABILITIES: f"float32 (n, {len(card.labels)}), columns in the order of `labels`, rows of sum 1",
            LABEL: "string (n): the likeliest",
        },
        "opset": {"ai.onnx": OPSET, "ai.onnx.ml": ML_OPSET},
    }


def _input(estimator: Any, card: ModelCard) -> str:
    """What goes into the head, for people."""
    d, read = estimator.n_features_in_, innermost(estimator)
    said = f"the view '{card.view}': {about_view(card.view, card.n_frames)}"
    if not isinstance(read, FrameHead):
        return f"float32 (n, {d}): {said}"
    dim = d // (read.n_layers * read.n_frames)
    return (
        f"float32 (n, {d}), n clips of {read.n_layers} layers x {read.n_frames} frames x {dim} numbers, the last the "
        f"fastest: {said} NaN stands behind a clip's end alone, in whole frames and in all layers; a clip has one "
        "frame or more."
    )


def _encoder_facts(estimator: Any, card: ModelCard, encoder: Encoder, opset: int) -> dict[str, Any]:
    rate = encoder.info.sample_rate
    return {
        "file": ENCODER,
        "input": {
            "waveform": f"float32 (1, samples): one clip, mono, {rate} samples a second, in [-1, 1], not padded, "
            "not normalised"
        },
        "outputs": {EMBEDDING: f"float32 (1, {estimator.n_features_in_}): what {HEAD} takes"},
        "sample_rate": rate,
        "shortest_samples": round(encoder.shortest * rate),
        "longest_samples": round(encoder.longest * rate),
        "opset": {"ai.onnx": opset},
    }


def _card(card: ModelCard, facts: dict[str, Any], done: Exported) -> bytes:
    """The model card, and what a user of the files needs beside it."""
    checked = {
        "tolerance": TOLERANCE,
        "largest_difference_of_probabilities": done.difference,
        **({} if done.vector_difference is None else {"largest_difference_of_vectors": done.vector_difference}),
    }
    rate = card.encoder_info.get("sample_rate")
    onnx = {**facts, "view": card.view, "sample_rate": rate, "checked": checked, "versions": versions()}
    return card_json({"format": FORMAT, "format_version": FORMAT_VERSION, "onnx": onnx, **asdict(card)})


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, "wb", ModelError, "Make room, or choose another --out.") as file:
        file.write(data)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A hidden neighbour to write into, renamed at the end; removed where that is not reached."""
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"cannot write {out}: {reason}. Make room, or choose another --out.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
