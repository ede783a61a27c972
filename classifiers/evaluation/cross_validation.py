"""Cross-validation: fit heads on the training clips of each fold and predict its test clips.

Each combination of head, seed and fold is one fit; folds with the same training and development clips share one. Fits
run in parallel processes with one thread each, on this machine or on a Ray cluster. Results are collected in a fixed
order, so they do not depend on the number of processes or on where the processes run.
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
from ..protocols.catalogue import make_folds, rows_by_name
from ..protocols.fold import Fold, fitted_together, fold_hash
from ..protocols.leaks import leaks
from .predictions import Predictions, assemble

# Attributes of a fitted head that are saved in a run: learning curves, chosen parameters, weights of layers.
LEARNED = ("history_", "chosen_", "layer_weights_")


@dataclass(frozen=True)
class _Fit:
    """One head to be fitted with one seed on folds that have the same training and development clips."""

    head: Head
    view: Task | Callable[[], Task]  # the task in the view of the head, or a function that fetches it on a cluster
    seed: int
    folds: tuple[Fold, ...]


@dataclass(frozen=True)
class _Outcome:
    """The result of one fit."""

    proba: tuple[NDArray[np.float32], ...]  # (n, C) probabilities of the test clips of each fold
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
    """Cross-validate heads on a task and return the predictions of each; with several test partitions, also of each.

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
        _Fit(spec, views[spec.view], seed, folds)
        for spec in specs
        for seed, split in enumerate(splits)
        for folds in fitted_together(split)
    ]
    rows = [_Row.of(task, some, name) for name, some in rows_by_name(task, splits, protocol).items()]
    labels = _used_labels(task, [fold for split in splits for fold in split])
    with progress("fitting", total=len(fits), unit="folds") as advance:
        run = _run_here if cluster is None else partial(_run_on_ray, address=cluster)
        outcomes = list(_report_progress(run(fits, labels, jobs), advance))
    done = list(zip(fits, outcomes, strict=True))
    step = len(fits) // len(specs)  # the fits of one head are consecutive
    return [_assemble(done[i : i + step], task, labels, row) for i in range(0, len(fits), step) for row in rows]


@dataclass(frozen=True)
class _Row:
    """What the predictions of each head in one leaderboard row have in common."""

    folds: frozenset[str]  # names of the folds
    fields: dict[str, str]  # fields of `Predictions`

    @classmethod
    def of(cls, task: Task, splits: Sequence[Sequence[Fold]], protocol: str) -> _Row:
        """Return the row of the folds for seed 0, for seed 1, …, whose protocol is written as `protocol`."""
        folds = [fold for split in splits for fold in split]
        fields = {"leaks": leaks(task, folds, protocol), "fold_hash": fold_hash(task, folds), "protocol": protocol}
        return cls(frozenset(fold.name for fold in folds), fields)


def _used_labels(task: Task, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Return the labels of the clips that are in a fold: labels that only other clips have are not predicted."""
    rows = np.concatenate([part for fold in folds for part in (fold.fitted_on, fold.test)])
    return tuple(sorted(set(task.y[rows].tolist())))


def _select_heads(names: Sequence[str | Head] | None, task: Task) -> list[Head]:
    if names is None:
        return [head for head in registry.all() if task.has(head.view)]
    return [head if isinstance(head, Head) else registry.get(head) for head in dict.fromkeys(names)]


def fit_head(spec: Head, task: Task, rows: Indices, seed: int, dev: Indices | None = None) -> Any:
    """Return a head fitted on selected clips of a task, in the view of the head, and on their copies.

    A head whose `fit` has the parameter `groups` receives the speakers and splits its training data by them. If there
    are copies, its `fit` must also have the parameter `copy_of`, or a clip and its copy could be on both sides of the
    split. Raises ProtocolError if the parameter is missing.

    `dev` are rows of development clips. A head whose `fit` has the parameter `dev` chooses by them instead of splitting
    its training data; any other head does not receive them.
    """
    estimator = spec.build(n_layers=task.n_layers, n_frames=task.n_frames, random_state=seed)
    data = task.training(rows, dev)
    parameters = inspect.signature(estimator.fit).parameters
    if data.copy_of is not None and "groups" in parameters and "copy_of" not in parameters:
        raise ProtocolError(
            f"head '{spec.name}' splits its training data, but its `fit` lacks the parameter `copy_of`, so it could "
            "separate a clip from its copies. Add the parameter, or use --copies 0."
        )
    context = {"groups": data.speakers, "copy_of": data.copy_of, "dev": data.dev}
    return fit_with_context(estimator, data.X, data.y, context)


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
    test, sizes = np.concatenate([fold.test for fold in fit.folds]), [len(fold.test) for fold in fit.folds]
    view = fit.view if isinstance(fit.view, Task) else fit.view()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        begin = time.perf_counter()
        estimator = fit_head(fit.head, view, fit.folds[0].train, fit.seed, fit.folds[0].dev)
        fitted = time.perf_counter()
        predicted = estimator.predict_proba(view.X[test])
        end = time.perf_counter()
    proba = np.zeros((len(predicted), len(labels)), dtype=np.float32)
    proba[:, [labels.index(str(label)) for label in estimator.classes_]] = predicted
    learned = {name: getattr(estimator, name) for name in LEARNED if hasattr(estimator, name)}
    by_fold = tuple(np.split(proba, np.cumsum(sizes)[:-1]))
    return _Outcome(by_fold, fitted - begin, end - fitted, params_of(estimator), learned)


def params_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that JSON can hold, without seeds.

    The parameters of a wrapper include those of the estimator that it wraps. A fitted head that had to be approximated,
    because it has many training clips, adds `approximate`.
    """
    params = estimator.get_params() | ({"approximate": True} if is_approximate(estimator) else {})
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in params.items()
        if not (hasattr(value, "get_params") or isinstance(value, Mapping) or name.endswith("random_state"))
    }


def is_approximate(estimator: Any) -> bool:
    """Whether a fitted head, or a member of it, was approximated, because it has many training clips."""
    head = registry.innermost(estimator)
    return getattr(head, "approximate_", False) or any(map(is_approximate, getattr(head, "members_", ())))


def _assemble(done: Sequence[tuple[_Fit, _Outcome]], task: Task, labels: tuple[str, ...], row: _Row) -> Predictions:
    """Return the predictions of one head in one row, given its fits and their outcomes in the order of seeds and folds.

    `labels` are the columns of the probabilities.
    """
    tested = [
        (fold, fit.seed, proba, outcome)
        for fit, outcome in done
        for fold, proba in zip(fit.folds, outcome.proba, strict=True)
        if fold.name in row.folds
    ]

    def learned(name: str) -> tuple[Any, ...]:
        return tuple(outcome.learned[name] for *_, outcome in tested if name in outcome.learned)

    (first, outcome), outcomes = done[0], [outcome for _, outcome in done]
    return assemble(
        task,
        [(fold, seed) for fold, seed, *_ in tested],
        np.concatenate([proba for _, _, proba, _ in tested]),
        head=first.head.name,
        view=first.view.view if isinstance(first.view, Task) else first.head.view,
        labels=labels,
        fit_seconds=float(np.mean([outcome.fit_seconds for outcome in outcomes])),
        predict_ms=1000 * sum(outcome.predict_seconds for outcome in outcomes) / _count_predicted(outcomes),
        params=next((o.params for o in outcomes if "approximate" in o.params), outcome.params),
        histories=learned("history_"),
        chosen=learned("chosen_"),
        layer_weights=tuple(weights.tolist() for weights in learned("layer_weights_") if len(weights) > 1),
        **row.fields,
    )


def _count_predicted(outcomes: Sequence[_Outcome]) -> int:
    return sum(len(proba) for outcome in outcomes for proba in outcome.proba)
