"""Cross-validation: fit heads on the training clips of each fold and predict its test clips.

Each combination of head, seed and fold is one fit. Fits run in parallel processes with one thread each, on this machine
or on a Ray cluster. Results are collected in a fixed order, so they do not depend on the number of processes or on
where the processes run.
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
from ..heads import Head, fit_with_context
from ..parallel import iter_in_processes
from ..protocols.catalogue import make_folds
from ..protocols.fold import Fold, fold_hash
from ..protocols.leaks import leaks
from .predictions import Predictions, assemble

# Attributes of a fitted head that are saved in a run: learning curves, chosen parameters, weights of layers.
LEARNED = ("history_", "chosen_", "layer_weights_")


@dataclass(frozen=True)
class _Fit:
    """One head to be fitted on one fold with one seed."""

    head: Head
    view: Task | Callable[[], Task]  # the task in the view of the head, or a function that fetches it on a cluster
    seed: int
    fold: Fold


@dataclass(frozen=True)
class _Outcome:
    """The result of one fit."""

    proba: NDArray[np.float32]  # (n, C) probabilities of the test clips
    fit_seconds: float
    predict_seconds: float
    params: dict[str, Any]  # parameters of the head
    learned: dict[str, Any]  # values of the attributes in LEARNED that the head has, by name


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
    """Cross-validate heads on a task and return the predictions of each.

    - `task`: the task. Each head reads its own view of the task.
    - `heads`: names or specifications of heads. None takes all heads whose view the task has.
    - `protocol`: the name of the protocol that splits the task into folds.
    - `n_folds`: the number of folds, for the protocols `speakers` and `random`.
    - `seeds`: the number of seeds. Everything is repeated with the seeds 0, 1, …, which also change the folds of the
      protocols `speakers`, `random` and `holdout`.
    - `jobs`: the number of processes. None uses all cores.
    - `progress`: receives the progress, in folds.
    - `cluster`: the address of a Ray cluster that runs the processes. None uses this machine.

    Raises UnknownName, DataError or ProtocolError before any head is fitted.
    """
    splits = [make_folds(task, protocol, n_folds, seed) for seed in range(seeds)]
    return run_folds(task, _select_heads(heads, task), splits, protocol, jobs, progress, cluster)


def run_folds(
    task: Task,
    specs: Sequence[Head],
    splits: Sequence[Sequence[Fold]],
    protocol: str,
    jobs: int | None = None,
    progress: Progress = silent,
    cluster: str | None = None,
) -> list[Predictions]:
    """Cross-validate heads on given folds, like `compare`.

    `splits` are the folds for seed 0, for seed 1, …, with the same number of folds for each seed.
    """
    views = {spec.view: task.to_view(spec.view) for spec in specs}
    fits = [
        _Fit(spec, views[spec.view], seed, fold)
        for spec in specs
        for seed, split in enumerate(splits)
        for fold in split
    ]
    with progress("fitting", total=len(fits), unit="folds") as advance:
        run = _run_here if cluster is None else partial(_run_on_ray, address=cluster)
        outcomes = list(_report_progress(run(fits, task.labels, jobs), advance))
    folds = [fold for split in splits for fold in split]
    shared = {"leaks": leaks(task, folds, protocol), "fold_hash": fold_hash(task, folds), "protocol": protocol}
    step = len(folds)  # the fits of one head are consecutive
    return [_assemble(fits[i : i + step], outcomes[i : i + step], task, shared) for i in range(0, len(fits), step)]


def _select_heads(names: Sequence[str | Head] | None, task: Task) -> list[Head]:
    if names is None:
        return [head for head in registry.all() if task.has(head.view)]
    return [head if isinstance(head, Head) else registry.get(head) for head in dict.fromkeys(names)]


def fit_head(spec: Head, task: Task, rows: Indices, seed: int) -> Any:
    """Return a head fitted on selected clips of a task, in the view of the head, and on their copies.

    A head whose `fit` has the parameter `groups` receives the speakers and splits its training data by them. If there
    are copies, its `fit` must also have the parameter `copy_of`, or a clip and its copy could be on both sides of the
    split. Raises ProtocolError if the parameter is missing.
    """
    estimator = spec.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=seed)
    X, y, speakers, copy_of = task.training(rows)
    parameters = inspect.signature(estimator.fit).parameters
    if copy_of is not None and "groups" in parameters and "copy_of" not in parameters:
        raise ProtocolError(
            f"head '{spec.name}' splits its training data, but its `fit` lacks the parameter `copy_of`, so it could "
            "separate a clip from its copies. Add the parameter, or use --copies 0."
        )
    return fit_with_context(estimator, X, y, {"groups": speakers, "copy_of": copy_of})


def _run_here(fits: Sequence[_Fit], labels: tuple[str, ...], jobs: int | None) -> Iterable[_Outcome]:
    return iter_in_processes(_fit_and_predict, [(fit, labels) for fit in fits], jobs)


def _run_on_ray(fits: Sequence[_Fit], labels: tuple[str, ...], jobs: int | None, address: str) -> Iterable[_Outcome]:
    """Yield the outcomes of fits that run on a Ray cluster, where each machine receives each view once.

    joblib's Ray backend returns all results of a call at once, so the fits are run in rounds.
    """
    with ray_pool(address, jobs) as (pool, calls_per_round, share):
        views = {id(fit.view): share(fit.view) for fit in fits}
        for begin in range(0, len(fits), calls_per_round):
            batch = [replace(fit, view=views[id(fit.view)]) for fit in fits[begin : begin + calls_per_round]]
            yield from pool(joblib.delayed(_fit_and_predict)(fit, labels) for fit in batch)


def _report_progress(outcomes: Iterable[_Outcome], advance: Advance) -> Iterator[_Outcome]:
    for outcome in outcomes:
        yield outcome
        advance(1)


def _fit_and_predict(fit: _Fit, labels: tuple[str, ...]) -> _Outcome:
    """Fit one head and predict the test clips. The probability of a label that the training clips lack is 0."""
    view = fit.view if isinstance(fit.view, Task) else fit.view()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        begin = time.perf_counter()
        estimator = fit_head(fit.head, view, fit.fold.train, fit.seed)
        fitted = time.perf_counter()
        predicted = estimator.predict_proba(view.X[fit.fold.test])
        end = time.perf_counter()
    proba = np.zeros((len(predicted), len(labels)), dtype=np.float32)
    proba[:, [labels.index(str(label)) for label in estimator.classes_]] = predicted
    learned = {name: getattr(estimator, name) for name in LEARNED if hasattr(estimator, name)}
    return _Outcome(proba, fitted - begin, end - fitted, params_of(estimator), learned)


def params_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that JSON can hold, without seeds.

    The parameters of a wrapper include those of the estimator that it wraps.
    """
    params = estimator.get_params()
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in params.items()
        if not (hasattr(value, "get_params") or isinstance(value, Mapping) or name.endswith("random_state"))
    }


def _assemble(fits: Sequence[_Fit], outcomes: Sequence[_Outcome], task: Task, shared: dict[str, str]) -> Predictions:
    """Return the predictions of one head, given its fits and their outcomes in the order of seeds and folds.

    `shared` are fields of `Predictions` that are equal for all heads.
    """

    def learned(name: str) -> tuple[Any, ...]:
        return tuple(outcome.learned[name] for outcome in outcomes if name in outcome.learned)

    first = fits[0]
    proba = np.concatenate([outcome.proba for outcome in outcomes])
    return assemble(
        task,
        [(fit.fold, fit.seed) for fit in fits],
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
