"""`ser export`: write a model folder as ONNX files, for programs without Python or torch.

The files are `head.onnx`, the model card, and optionally `encoder.onnx` with `distance.onnx`, which says how far a
sound is from the training clips. Before they appear in the output folder, they are run in onnxruntime, and the results
are compared with those of `ser predict`. If a result differs, nothing is written.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
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
from embedcache.encoder import Log, is_ragged, no_log
from embedcache.files.atomic import atomic_write, sync_folder
from embedcache.files.existing import check_replaceable
from embedcache.onnx.runtime import Session, check_exportable, need_onnx, save_encoder, versions

from ..data.views import about_view, rows_of
from ..heads import FrameHead, innermost
from ..heads.best_layer import BestLayer
from ..heads.stack import Stack
from ..inference.model import load_head_and_encoders
from ..saved.hub_models import MODEL
from ..saved.model_folder import ModelCard, card_json, load_model
from ..saved.training_sound import MeasuredSound, TrainingSound
from . import metadata
from .distance_graph import distance_model
from .graph_builder import EMBEDDING, LABEL, ML_OPSET, OPSET, PROBABILITIES, with_metadata
from .head_graphs import below, head_model, input_name, probabilities, splits

__all__ = ["DISTANCE", "ENCODER", "HEAD", "Exported", "export_onnx", "probabilities"]

HEAD, ENCODER, DISTANCE = "head.onnx", "encoder.onnx", "distance.onnx"
FORMAT, FORMAT_VERSION = "ser-onnx", 1
TOLERANCE = 1e-4  # largest difference of probabilities; of vectors, relative to their largest number
CLEAR = 2 * TOLERANCE  # if the probabilities of the two best labels are closer than this, the labels may be swapped
ROWS, CLIPS = 64, 4  # number of test rows of each kind: for a head that reads vectors, and for a head over frames
DISTANCES = (1, 3, 10)  # distances of test rows from the training data, in standard deviations
FAR_TOLERANCE = 1e-3  # largest difference of a distance from the training clips, relative to it
SECONDS = (0.0, 0.05, 0.73, 3.1)  # how much longer than the shortest clip test clips are; not whole frames, on purpose

DISTANCE_FACTS = {  # what a user of distance.onnx needs, for the model card
    "file": DISTANCE,
    "input": {"waveform": f"as that of {ENCODER}"},
    "outputs": {"distance": "float32 (1,): the training_distance of `ser predict`"},
    "opset": {"ai.onnx": OPSET},
}

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """The result of an export: the files, and their largest differences from what ser computes."""

    folder: Path
    files: tuple[str, ...]  # names of the files in the folder
    difference: float  # largest difference of a probability
    vector_difference: float | None = None  # largest difference of a vector, relative to its largest number


def export_onnx(
    model: str | Path, with_encoder: bool = False, out: str | Path | None = None, log: Log = no_log
) -> Exported:
    """Write a model folder as ONNX files, and check them. If anything fails, the output folder does not appear.

    Raises SerError if a package of the extra [onnx] is missing, EncoderError if the encoder cannot be exported, and
    ModelError if the output folder holds anything else than an earlier export, if the head cannot be exported, or if a
    file computes something else than ser.

    Parameters
    ----------
    model : model folder, written by `ser fit`.
    with_encoder : whether to export the encoder, too, and the distance from the training clips, if that is known.
    out : output folder; by default `onnx` in the model folder.
    log : receives a line if an earlier export is replaced.
    """
    need_onnx()
    model = Path(model)
    if not out and not model.exists():
        raise ModelError(f"{model}: no such folder. Give a folder, or --out with the hub id of a model.")
    out = Path(out) if out else model / "onnx"
    check_replaceable(out, _is_export, log, ModelError, "--out")
    if with_encoder:
        estimator, card, encoders = load_head_and_encoders(model, "cpu")
        _check_is_not_adapted(card, model)
        _check_is_of_one(card)
        return _export(estimator, card, encoders[0], out)
    estimator, card = load_model(model)
    _check_is_not_adapted(card, model)
    return _export(estimator, card, None, out)


def _check_is_not_adapted(card: ModelCard, model: Path) -> None:
    """Raise ModelError if the model is adapted to speakers: an ONNX file has no statistics of a speaker."""
    if card.adapted:
        raise ModelError(
            f"{model}: is adapted to speakers (--adapt {card.adapted}), which an ONNX file cannot be; wanted a model "
            "that was fitted without --adapt. Fit one, or use `ser predict --speaker`."
        )


def _export(estimator: Any, card: ModelCard, encoder: Encoder | None, out: Path) -> Exported:
    if encoder:
        _check_reads_vectors(card)
        check_exportable(encoder.info)
    texts = metadata.describe(card, encoder)
    with new_folder(out) as folder:
        _write(folder / HEAD, with_metadata(head_model(estimator), texts).SerializeToString())
        head = Session.of(folder / HEAD)
        difference, vector_difference = check_head(estimator, head), None
        facts: dict[str, Any] = {"metadata": texts, "head": _head_facts(estimator, card)}
        if encoder:
            opset = save_encoder(encoder.info, card.view, folder / ENCODER, texts)
            graph = Session.of(folder / ENCODER)
            vector_difference, with_encoder = check_encoder(estimator, card, encoder, graph, head)
            difference = max(difference, with_encoder)
            facts["encoder"] = _encoder_facts(estimator, encoder, opset)
            facts |= _write_distance(folder, card, encoder.info.sample_rate, texts)
        files = (*(name for name in (HEAD, ENCODER, DISTANCE) if (folder / name).exists()), MODEL)
        result = Exported(out, files, difference, vector_difference)
        _write(folder / MODEL, _card_with_facts(card, facts, result))
    return result


def _write_distance(folder: Path, card: ModelCard, rate: int, texts: Mapping[str, str]) -> dict[str, Any]:
    """Write and check distance.onnx, and return its facts; nothing if it is not known how the training clips sound."""
    sound = TrainingSound.from_dict(card.training_sound)
    if sound is None:
        return {}
    _write(folder / DISTANCE, with_metadata(distance_model(sound, rate), texts).SerializeToString())
    check_distance(sound, rate, Session.of(folder / DISTANCE))
    return {"distance": DISTANCE_FACTS}


def _check_is_of_one(card: ModelCard) -> None:
    """Raise ModelError if the head reads the vectors of several encoders: an ONNX file has one encoder."""
    if card.joined:
        raise ModelError(
            f"the head '{card.head}' reads the vectors of {card.encoder} side by side; wanted a head of one encoder. "
            "Export the head alone, without --encoder, or fit a head on one encoder."
        )


def _check_reads_vectors(card: ModelCard) -> None:
    """Raise ModelError if the head reads frames: the store rounds them to float16, which an ONNX file would not do."""
    if is_ragged(card.view):
        raise ModelError(
            f"the head '{card.head}' reads the view '{card.view}'; wanted a view with one vector per clip, because "
            f"frames are not exported with the encoder. Export the head alone, without --encoder, and compute its "
            f"frames as {MODEL} describes; or fit a head on pooled, layers or std."
        )


def check_head(estimator: Any, head: Session) -> float:
    """Return the largest difference of a probability on random test rows, in batches of several sizes.

    Raises ModelError if the difference is above TOLERANCE.
    """
    X = _test_rows(estimator)
    expected = estimator.predict_proba(X)
    batches = (slice(None), slice(0, 1), slice(1, 4))
    return max(_compare(HEAD, head(X[rows]), expected[rows], estimator) for rows in batches)


def check_encoder(
    estimator: Any, card: ModelCard, encoder: Encoder, graph: Session, head: Session
) -> tuple[float, float]:
    """Return the largest difference of a vector and of a probability on noise of several lengths, from audio to labels.

    Raises ModelError if a difference is above TOLERANCE.

    Parameters
    ----------
    estimator : the head.
    card : the model card of the head.
    encoder : the encoder.
    graph : the exported encoder.
    head : the exported head.
    """
    rng, rate = np.random.default_rng(0), encoder.info.sample_rate
    lengths = [min(encoder.shortest + more, encoder.longest) for more in SECONDS]
    views, vector_difference, difference = card.view.split("+"), 0.0, 0.0
    for seconds in lengths:
        wave = (0.1 * rng.standard_normal(round(seconds * rate))).astype(np.float32)
        expected = rows_of(encoder.encode([wave], views), views, card.n_frames)
        (vector,) = graph(wave[None])
        vector_difference = max(vector_difference, _compare_vectors(vector, expected, seconds))
        difference = max(difference, _compare(ENCODER, head(vector), estimator.predict_proba(expected), estimator))
    return vector_difference, difference


def check_distance(sound: TrainingSound, rate: int, graph: Session) -> None:
    """Raise ModelError if the distance of noise of several lengths differs by more than FAR_TOLERANCE."""
    rng = np.random.default_rng(0)
    for seconds in SECONDS:
        wave = (0.1 * rng.standard_normal(max(1, round(seconds * rate)))).astype(np.float32)
        (found,), wanted = graph(wave[None]), sound.distance(MeasuredSound.of(wave, rate, rate))
        if not abs(found[0] - wanted) <= FAR_TOLERANCE * wanted:  # true for NaN
            fault = f"on {seconds:.2f} s of noise, the distance is {found[0]:.4f} instead of {wanted:.4f}"
            raise ModelError(_mismatch(DISTANCE, fault))


def _compare_vectors(vector: NDArray[Any], expected: NDArray[Any], seconds: float) -> float:
    """Return the largest difference of a vector (1, d), relative to its largest number.

    Raises ModelError if the difference is above TOLERANCE.
    """
    largest = np.abs(expected).max() or 1.0  # the standard deviation of a single frame is 0
    difference = float(np.abs(vector - expected).max() / largest) if vector.shape == expected.shape else np.inf
    if not difference <= TOLERANCE:  # true for NaN
        raise ModelError(_mismatch(ENCODER, f"on {seconds:.2f} s of noise, its vector differs by {difference:.1e}"))
    return difference


def _compare(name: str, outputs: list[NDArray[Any]], expected: NDArray[Any], estimator: Any) -> float:
    """Return the largest difference of a probability.

    Raises ModelError if the difference is above TOLERANCE, or if a label differs although it is clearly the best.

    Parameters
    ----------
    name : name of the file.
    outputs : probabilities (n, C) and labels (n,) of the ONNX file.
    expected : probabilities (n, C) of the head.
    estimator : the head.
    """
    proba, labels = outputs
    difference = float(np.abs(proba - expected).max()) if proba.shape == expected.shape else np.inf
    if not difference <= TOLERANCE:  # true for NaN
        raise ModelError(_mismatch(name, f"a probability differs by {difference:.1e}"))
    second, first = np.sort(expected, axis=1)[:, -2:].T
    expected_labels = estimator.classes_[expected.argmax(axis=1)].astype(str)
    if wrong := int(((labels.astype(str) != expected_labels) & (first - second > CLEAR)).sum()):
        raise ModelError(_mismatch(name, f"{wrong} of {len(labels)} labels differ"))
    return difference


def _mismatch(name: str, fault: str) -> str:
    installed = ", ".join(f"{package} {version}" for package, version in versions().items())
    return (
        f"{name} does not compute what ser computes: {fault}; wanted at most {TOLERANCE:g}. Nothing was written. Use "
        f"the versions in constraints.txt; installed are {installed}."
    )


def _test_rows(estimator: Any) -> Vectors:
    """Return random rows (n, d) with a fixed seed: near the training data if the head describes them, else N(0, 1).

    Rows far from the training data are not used: the sums in a network are then so large that two computations in
    float32 differ.
    """
    rng, d = np.random.default_rng(0), int(estimator.n_features_in_)
    noise = rng.standard_normal((CLIPS if isinstance(innermost(estimator), FrameHead) else ROWS, d))
    near = [rows for part in _parts(estimator) for rows in _rows_near(part, noise, rng)]
    return np.concatenate(near or [noise]).astype(np.float32)


def _parts(estimator: Any) -> Iterator[Any]:
    """Return an estimator and the fitted estimators inside it that read the same columns, at any depth."""
    yield estimator
    if isinstance(estimator, FrameHead | BestLayer):
        return  # the estimators inside read some of the columns
    if isinstance(estimator, Pipeline):
        inner = [step for _, step in estimator.steps]
    elif isinstance(estimator, Stack):
        inner = estimator.members_
    else:
        inner = [value for name, value in vars(estimator).items() if name.endswith("_")]
    for part in inner:
        if isinstance(part, BaseEstimator | lightgbm.Booster):
            yield from _parts(part)


def _rows_near(part: Any, noise: NDArray[np.float64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Return rows (n, d) like the training data, which a part describes: noise (n, d) with their mean and deviation.

    For trees, return rows with values at the thresholds. Parts that do not describe the training data give no rows.
    """
    if isinstance(part, FrameHead):
        yield from (_clips_near(part, far * noise, rng) for far in DISTANCES)
    if isinstance(part, BestLayer):
        scaler, n_layers = part.model_[0], part.n_layers
        mean, scale = np.tile(scaler.mean_, n_layers), np.tile(scaler.scale_, n_layers)
        yield from (mean + scale * noise * far for far in DISTANCES)
    if isinstance(part, StandardScaler) and len(part.scale_) == noise.shape[1]:
        yield from (part.mean_ + part.scale_ * noise * far for far in DISTANCES)
    if isinstance(part, lightgbm.Booster):
        yield _rows_at_thresholds(part, noise, rng)


def _clips_near(head: FrameHead, noise: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return clips (n, L * T * D) like the training data, of random lengths; the first has 1 frame, the second all."""
    mean, scale = (a.reshape(head.n_layers, 1, -1) for a in (head.scaler_.mean_, head.scaler_.scale_))
    cube = mean + scale * noise.reshape(len(noise), head.n_layers, head.n_frames, -1)  # (n, L, T, D)
    lengths = rng.integers(1, head.n_frames + 1, len(noise))
    lengths[:2] = 1, head.n_frames
    padding = np.arange(head.n_frames) >= lengths[:, None]  # (n, T)
    return np.where(padding[:, None, :, None], np.nan, cube).reshape(noise.shape)


def _rows_at_thresholds(
    trees: lightgbm.Booster, noise: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return rows (n, d) whose values are at a threshold of their feature, or at the next larger float32.

    Rounding of a threshold would send these rows to the other child. Features without a threshold are noise.
    """
    rows = noise.copy()
    for feature, thresholds in splits(trees).items():
        edges = np.array([below(threshold) for threshold in rng.choice(thresholds, len(rows))])
        is_above = rng.choice([False, True], len(rows))
        rows[:, feature] = np.where(is_above, np.nextafter(edges, np.float32(np.inf)), edges)
    return rows


def _head_facts(estimator: Any, card: ModelCard) -> dict[str, Any]:
    """Return what a user of head.onnx needs, for the model card."""
    return {
        "file": HEAD,
        "input": {input_name(estimator): _input_text(estimator, card)},
        "outputs": {
            PROBABILITIES: f"float32 (n, {len(card.labels)}), columns in the order of `labels`, rows sum to 1",
            LABEL: "string (n): the label with the highest probability",
        },
        "opset": {"ai.onnx": OPSET, "ai.onnx.ml": ML_OPSET},
    }


def _input_text(estimator: Any, card: ModelCard) -> str:
    """Return a description, for people, of the input of head.onnx."""
    d, inner = estimator.n_features_in_, innermost(estimator)
    names = [info["name"] for info in card.encoder_infos]
    view = f"the view '{card.view}': {about_view(card.view, card.n_frames, names)}"
    if not isinstance(inner, FrameHead):
        return f"float32 (n, {d}): {view}"
    dim = d // (inner.n_layers * inner.n_frames)
    return (
        f"float32 (n, {d}), n clips of {inner.n_layers} layers x {inner.n_frames} frames x {dim} numbers, the last "
        f"axis the fastest: {view} NaN is only allowed in whole frames after the last frame of a clip, in all layers; "
        "a clip has at least one frame."
    )


def _encoder_facts(estimator: Any, encoder: Encoder, opset: int) -> dict[str, Any]:
    """Return what a user of encoder.onnx needs, for the model card."""
    rate = encoder.info.sample_rate
    return {
        "file": ENCODER,
        "input": {
            "waveform": f"float32 (1, samples): one clip, mono, {rate} samples a second, in [-1, 1], not padded, "
            "not normalised"
        },
        "outputs": {EMBEDDING: f"float32 (1, {estimator.n_features_in_}): the input of {HEAD}"},
        "sample_rate": rate,
        "shortest_samples": round(encoder.shortest * rate),
        "longest_samples": round(encoder.longest * rate),
        "opset": {"ai.onnx": opset},
    }


def _card_with_facts(card: ModelCard, facts: dict[str, Any], result: Exported) -> bytes:
    """Return the model card as JSON, with the facts about the ONNX files and the result of the check."""
    checked = {
        "tolerance": TOLERANCE,
        "largest_difference_of_probabilities": result.difference,
        **({} if result.vector_difference is None else {"largest_difference_of_vectors": result.vector_difference}),
    }
    rate = card.encoder_infos[0].get("sample_rate")
    onnx = {**facts, "view": card.view, "sample_rate": rate, "checked": checked, "versions": versions()}
    return card_json({"format": FORMAT, "format_version": FORMAT_VERSION, "onnx": onnx, **asdict(card)})


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, "wb", ModelError, "Make room, or choose another --out.") as file:
        file.write(data)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Create a hidden folder next to `out`, which takes the place of `out` at the end; remove it after an exception.

    If `out` is a link, what it leads to is replaced.
    """
    target = out.resolve()
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        folder.mkdir(parents=True)
        yield folder
        _swap(folder, target)
        sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"cannot write {out}: {reason}. Make room, or choose another --out.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(folder: Path, out: Path) -> None:
    """Rename a folder to `out`. An earlier folder `out` is removed once the new one is in its place."""
    old = folder.with_suffix(".old")
    if out.exists():
        out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_export(folder: Path) -> bool:
    """Whether a path is a folder of ONNX files that ser wrote, and holds nothing else."""
    if not (folder.is_dir() and (folder / MODEL).is_file() and (folder / HEAD).is_file()):
        return False
    return {path.name for path in folder.iterdir()} <= {HEAD, ENCODER, DISTANCE, MODEL}
