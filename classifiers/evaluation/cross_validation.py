"""Heads x folds -> predictions. The only place that fits for a comparison.

Each (head, seed, fold) is one piece of work. Pieces run in parallel processes, one thread each, here or on a cluster,
and are put together in order, so that the result does not depend on how many ran at once, or where.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from embedcache import ProtocolError
from embedcache.cache.ray_extract import ray_pool
from embedcache.progress import Advance, Progress, silent

from .. import heads as registry
from ..data.memmap import Indices
from ..data.task import Task
from ..heads import Head, fit_told
from .parallel import spread
from .predictions import Predictions, assemble
from .protocols import Fold, fold_hash, leaks, make_folds

# What a fitted head may have beside its probabilities that belongs into a run: learning curves, the parameters that it
# chose, the weights of layers.
LEARNED = ("history_", "chosen_", "layer_weights_")


@dataclass(frozen=True)
class _Piece:
    """One head to fit on one fold."""

    head: Head
    view: Task | Callable[[], Task]  # the task in the head's view, or what fetches it on another machine
    seed: int
    fold: Fold


@dataclass(frozen=True)
class _Outcome:
    proba: NDArray[np.float32]  # (test clips, labels)
    fit_seconds: float
    predict_seconds: float
    params: dict[str, Any]
    learned: dict[str, Any]  # by attribute, of those in LEARNED


def compare(
    task: Task,
    heads: Sequence[str | Head] | None = None,
    protocol: str = "speakers",
    n_folds: int = 5,
    seeds: int = 1,
    jobs: int | None = None,
    progress: Progress = silent,
    cluster: str | None = None,
) -> list[Predictions]:
    """Fit each head on the training part of each fold and predict the rest; one Predictions a head.

    `heads` are names or specs, all that can read the task by default; a head reads its own view of the task. `seeds`
    repeats everything with seeds 0, 1, …, which move the folds too where the protocol draws them. `jobs` is the number
    of processes, all cores by default; with `cluster`, the address of a cluster, they are Ray's. Raises UnknownName,
    DataError or ProtocolError before anything is fitted.
    """
    splits = [make_folds(task, protocol, n_folds, seed) for seed in range(seeds)]
    return run_folds(task, _specs(heads, task), splits, protocol, jobs, progress, cluster)


def run_folds(
    task: Task,
    specs: Sequence[Head],
    splits: Sequence[Sequence[Fold]],
    protocol: str,
    jobs: int | None = None,
    progress: Progress = silent,
    cluster: str | None = None,
) -> list[Predictions]:
    """What `compare` does, on folds of one's own: those of seed 0, of seed 1, …, as many of each."""
    views = {spec.view: task.to_view(spec.view) for spec in specs}
    pieces = [
        _Piece(spec, views[spec.view], seed, fold)
        for spec in specs
        for seed, split in enumerate(splits)
        for fold in split
    ]
    with progress("fitting", total=len(pieces), unit="folds") as advance:
        run = _here if cluster is None else partial(_on_ray, address=cluster)
        spread = run(pieces, task.labels, jobs)
        outcomes = list(_told(spread, advance))
    folds = [fold for split in splits for fold in split]
    shared = {"leaks": leaks(task, folds, protocol), "fold_hash": fold_hash(task, folds), "protocol": protocol}
    step = len(folds)
    return [_gather(pieces[i : i + step], outcomes[i : i + step], task, shared) for i in range(0, len(pieces), step)]


def _specs(asked: Sequence[str | Head] | None, task: Task) -> list[Head]:
    if asked is None:
        return [head for head in registry.all() if task.has(head.view)]
    return [head if isinstance(head, Head) else registry.get(head) for head in dict.fromkeys(asked)]


def fit_head(spec: Head, task: Task, rows: Indices, seed: int) -> Any:
    """The head, fitted on some clips of a task that is in its view, and on their copies.

    It is told the speakers if it asks for them, and then must ask which rows are copies of which, if there are any.
    Raises ProtocolError where it does not: it could stop early on a copy of what it was trained on.
    """
    estimator = spec.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=seed)
    X, y, speakers, copy_of = task.training(rows)
    asks = inspect.signature(estimator.fit).parameters
    if copy_of is not None and "groups" in asks and "copy_of" not in asks:
        raise ProtocolError(f"head '{spec.name}' splits its training data and knows of no copies. Use --copies 0.")
    return fit_told(estimator, X, y, {"groups": speakers, "copy_of": copy_of})


def _here(pieces: Sequence[_Piece], labels: tuple[str, ...], jobs: int | None) -> Iterable[_Outcome]:
    return spread(_fit_and_predict, [(piece, labels) for piece in pieces], jobs)


def _on_ray(pieces: Sequence[_Piece], labels: tuple[str, ...], jobs: int | None, address: str) -> Iterable[_Outcome]:
    """The same through joblib's Ray backend, which gives a round's outcomes at once; a machine gets each view once."""
    with ray_pool(address, jobs) as (pool, at_once, share):
        views = {id(piece.view): share(piece.view) for piece in pieces}
        for begin in range(0, len(pieces), at_once):
            some = [replace(piece, view=views[id(piece.view)]) for piece in pieces[begin : begin + at_once]]
            yield from pool(joblib.delayed(_fit_and_predict)(piece, labels) for piece in some)


def _told(outcomes: Iterable[_Outcome], advance: Advance) -> Iterator[_Outcome]:
    for outcome in outcomes:
        yield outcome
        advance(1)


def _fit_and_predict(piece: _Piece, labels: tuple[str, ...]) -> _Outcome:
    view = piece.view if isinstance(piece.view, Task) else piece.view()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        begin = time.perf_counter()
        estimator = fit_head(piece.head, view, piece.fold.train, piece.seed)
        fitted = time.perf_counter()
        own = estimator.predict_proba(view.X[piece.fold.test])
        done = time.perf_counter()
    proba = np.zeros((len(own), len(labels)), dtype=np.float32)
    proba[:, [labels.index(str(label)) for label in estimator.classes_]] = own
    learned = {name: getattr(estimator, name) for name in LEARNED if hasattr(estimator, name)}
    return _Outcome(proba, fitted - begin, done - fitted, params_of(estimator), learned)


def params_of(estimator: Any) -> dict[str, Any]:
    """What an estimator was asked, in numbers and words; of one around another, the other's too. Seeds are no part."""
    params = estimator.get_params()
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in params.items()
        if not (hasattr(value, "get_params") or isinstance(value, Mapping) or name.endswith("random_state"))
    }


def _gather(pieces: Sequence[_Piece], outcomes: Sequence[_Outcome], task: Task, shared: dict[str, str]) -> Predictions:
    """One head's outcomes, put together in the order of seeds and folds."""

    def learned(name: str) -> tuple[Any, ...]:
        return tuple(outcome.learned[name] for outcome in outcomes if name in outcome.learned)

    first = pieces[0]
    proba = np.concatenate([outcome.proba for outcome in outcomes])
    return assemble(
        task,
        [(piece.fold, piece.seed) for piece in pieces],
        proba,
        head=first.head.name,
        view=first.view.view if isinstance(first.view, Task) else first.head.view,
        fit_seconds=float(np.mean([outcome.fit_seconds for outcome in outcomes])),
        predict_ms=1000 * sum(outcome.predict_seconds for outcome in outcomes) / len(proba),
        params=outcomes[0].params,
        histories=learned("history_"),
        chosen=learned("chosen_"),
        layer_weights=tuple(weights.tolist() for weights in learned("layer_weights_") if len(weights) > 1),
        **shared,
    )
