"""Cross-validation: fit heads on the training clips of each fold and predict its test clips.

Each combination of head, seed and fold is one fit; folds with the same training and development clips share one. A head
that averages others, such as `stack`, is not fitted: the fits of the others give its probabilities. Fits
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
from typing import Any, TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from embedcache import ProtocolError
from embedcache.cache.ray_extract import ray_pool
from embedcache.progress import Advance, Progress, silent

from .. import heads as registry
from ..adaptation.amounts import NO_ADAPTATION, Amount, parse_amounts
from ..adaptation.choice import choose_strength
from ..adaptation.fold_vectors import Adaptation, AdaptedFold
from ..adaptation.requirements import check_adaptation, clips_used
from ..adaptation.speaker_statistics import Strength
from ..data.feature_shares import feature_shares
from ..data.memmap import Indices, Matrix
from ..data.task import Task
from ..heads import Head, fit_with_context
from ..heads.stack import settings_of_members
from ..parallel import iter_in_processes
from ..protocols.catalogue import adapted_name, make_folds, rows_by_name
from ..protocols.fold import Fold, fitted_together, fold_hash
from ..protocols.leaks import leaks
from .predictions import Predictions, assemble

# Attributes of a fitted head that are saved in a run: learning curves, chosen parameters, weights of layers.
LEARNED = ("history_", "chosen_", "layer_weights_")
SHARES = "feature_shares_"  # of a linear head, also inside wrappers; a run has the greatest of them by name

T = TypeVar("T")


@dataclass(frozen=True)
class _Fit:
    """One head to be fitted with one seed on folds that have the same training and development clips."""

    head: Head
    view: Task | Callable[[], Task]  # the task in the view of the head, or a function that fetches it on a cluster
    seed: int
    folds: tuple[Fold, ...]
    adaptation: Adaptation | None = None  # how the vectors are adapted to the speakers; None for as they are

    @property
    def amount(self) -> Amount:
        """How many clips of each test speaker are used."""
        return self.adaptation.amount if self.adaptation else NO_ADAPTATION


@dataclass(frozen=True)
class _Outcome:
    """The result of one fit."""

    proba: tuple[NDArray[np.float64], ...]  # (draws, n, C) probabilities of the test clips of each fold
    fit_seconds: float
    predict_seconds: float
    params: dict[str, Any]  # parameters of the head
    learned: dict[str, Any]  # values of the attributes in LEARNED, and of SHARES, that the head has, by name


def compare(
    task: Task,
    heads: Sequence[str | Head] | None = None,
    protocol: str = "speakers",
    n_folds: int = 5,
    seeds: int = 1,
    jobs: int | None = None,
    progress: Progress = silent,
    cluster: str | None = None,
    adapt: Sequence[str] = (),
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
    - `adapt`: numbers of clips, such as "10" or "all", of each test speaker to which the vectors are adapted without
      labels. Each makes predictions of its own; "0" is no adaptation.

    Raises UnknownName, DataError, ConfigError or ProtocolError before any head is fitted.
    """
    splits = [make_folds(task, protocol, n_folds, seed) for seed in range(seeds)]
    amounts = parse_amounts(adapt)
    return run_folds(task, _select_heads(heads, task), splits, protocol, jobs, progress, cluster, amounts)


def run_folds(
    task: Task,
    specs: Sequence[Head],
    splits: Sequence[Sequence[Fold]],
    protocol: str,
    jobs: int | None = None,
    progress: Progress = silent,
    cluster: str | None = None,
    amounts: Sequence[Amount] = (NO_ADAPTATION,),
) -> list[Predictions]:
    """Cross-validate heads on given folds, like `compare`.

    `splits` are the folds for seed 0, for seed 1, …, with the same number of folds for each seed. `amounts` are the
    amounts of adaptation; the predictions of a head with each of them are consecutive.
    """
    views = {spec.view: task.to_view(spec.view) for spec in specs}
    check_adaptation(amounts, specs, views.values(), splits)
    groups = [(seed, folds) for seed, split in enumerate(splits) for folds in fitted_together(split)]
    adaptations = _choose_adaptations(views, groups, amounts, jobs, progress)
    parts = {spec: _parts(spec) for spec in specs}
    fits = {
        (spec, amount, n): _Fit(spec, views[spec.view], seed, folds, adaptations.get((spec.view, amount, n)))
        for spec in dict.fromkeys(part for some in parts.values() for part in some)
        for amount in amounts
        for n, (seed, folds) in enumerate(groups)
    }
    labels = _used_labels(task, [fold for split in splits for fold in split])
    with progress("fitting", total=len(fits), unit="folds") as advance:
        run = _run_here if cluster is None else partial(_run_on_ray, address=cluster)
        found = _report_progress(run(list(fits.values()), labels, jobs), advance)
        outcomes = dict(zip(fits, found, strict=True))
    rows = {
        amount: [_Row.of(task, some, name, amount) for name, some in rows_by_name(task, splits, protocol).items()]
        for amount in amounts
    }

    def done(spec: Head, amount: Amount, n: int) -> tuple[_Fit, _Outcome]:
        keys = [(part, amount, n) for part in parts[spec]]
        return _combined(spec, [(fits[key], outcomes[key]) for key in keys])

    return [
        _assemble([done(spec, amount, n) for n in range(len(groups))], task, labels, row)
        for spec in specs
        for amount in amounts
        for row in rows[amount]
    ]


def _parts(spec: Head) -> tuple[Head, ...]:
    """Return the heads to fit for a head: those whose probabilities it averages, in its view, or the head itself."""
    members = [registry.get(name) for name in getattr(_unfitted(spec), "averages", ())]
    if not members or any(member.view != "pooled" for member in members):
        return (spec,)
    return tuple(replace(member, view=spec.view) for member in members)


def _unfitted(spec: Head) -> Any:
    return spec.build(n_layers=1, n_frames=1, random_state=None)


def _combined(spec: Head, done: Sequence[tuple[_Fit, _Outcome]]) -> tuple[_Fit, _Outcome]:
    """Return the fit of a head and its outcome, given the fits of its `_parts`: the outcome that it would have itself.

    The seconds are those that the parts took together.
    """
    (fit, outcome), parts = done[0], [outcome for _, outcome in done]
    if fit.head == spec:
        return fit, outcome
    chosen = {part.head.name: outcome.learned.get("chosen_", {}) for part, outcome in done}
    params = params_of(_unfitted(spec))
    return replace(fit, head=spec), _Outcome(
        proba=tuple(np.mean(same_fold, axis=0) for same_fold in zip(*(part.proba for part in parts), strict=True)),
        fit_seconds=sum(part.fit_seconds for part in parts),
        predict_seconds=sum(part.predict_seconds for part in parts),
        params=params | ({"approximate": True} if any("approximate" in part.params for part in parts) else {}),
        learned={"chosen_": {"setting": settings_of_members(chosen)}},
    )


def _choose_adaptations(
    views: Mapping[str, Task],
    groups: Sequence[tuple[int, tuple[Fold, ...]]],
    amounts: Sequence[Amount],
    jobs: int | None,
    progress: Progress,
) -> dict[tuple[str, Amount, int], Adaptation]:
    """Return the adaptation by view, amount and number of the group of folds, chosen on the training clips.

    All heads that read a view share it. The choice is made on this machine.
    """
    wanted = [(view, amount, n) for view in views for amount in amounts if amount.name for n in range(len(groups))]
    calls = [(views[view], groups[n][1][0], amount, groups[n][0]) for view, amount, n in wanted]
    if not calls:
        return {}
    with progress("choosing the adaptation", total=len(calls), unit="folds") as advance:
        strengths = list(_report_progress(iter_in_processes(_choose_in_one_thread, calls, jobs), advance))
    return {
        (view, amount, n): Adaptation(amount, strength, groups[n][0])
        for (view, amount, n), strength in zip(wanted, strengths, strict=True)
    }


def _choose_in_one_thread(task: Task, fold: Fold, amount: Amount, seed: int) -> Strength:
    with threadpool_limits(1):
        return choose_strength(task, fold, amount, seed)


@dataclass(frozen=True)
class _Row:
    """What the predictions of each head in one leaderboard row have in common."""

    folds: frozenset[str]  # names of the folds
    fields: dict[str, Any]  # fields of `Predictions`

    @classmethod
    def of(cls, task: Task, splits: Sequence[Sequence[Fold]], protocol: str, amount: Amount) -> _Row:
        """Return the row of the folds for seed 0, for seed 1, …, whose protocol is written as `protocol`."""
        folds = [fold for split in splits for fold in split]
        fields = {
            "leaks": leaks(task, folds, protocol),
            "fold_hash": fold_hash(task, folds),
            "protocol": adapted_name(protocol, amount.name),
            "adapt_clips": clips_used(task, splits[0], amount),
        }
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


def _report_progress(outcomes: Iterable[T], advance: Advance) -> Iterator[T]:
    for outcome in outcomes:
        yield outcome
        advance(1)


def _fit_and_predict(fit: _Fit, labels: tuple[str, ...]) -> _Outcome:
    """Fit one head and predict the test clips. The probability of a label that the training clips lack is 0."""
    sizes = [len(fold.test) for fold in fit.folds]
    view = fit.view if isinstance(fit.view, Task) else fit.view()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        fold = fit.folds[0]
        training, test = _vectors(view, fit)
        begin = time.perf_counter()
        estimator = fit_head(fit.head, training, fold.train, fit.seed, fold.dev)
        fitted = time.perf_counter()
        predicted = np.stack([estimator.predict_proba(X) for X in test])
        end = time.perf_counter()
    proba = np.zeros((*predicted.shape[:2], len(labels)))
    proba[..., [labels.index(str(label)) for label in estimator.classes_]] = predicted
    learned = {name: getattr(estimator, name) for name in LEARNED if hasattr(estimator, name)}
    if (shares := getattr(registry.innermost(estimator), SHARES, None)) is not None:
        learned[SHARES] = shares
    by_fold = tuple(np.split(proba, np.cumsum(sizes)[:-1], axis=1))
    return _Outcome(by_fold, fitted - begin, end - fitted, params_of(estimator), learned)


def _vectors(view: Task, fit: _Fit) -> tuple[Task, list[Matrix]]:
    """Return the task with the vectors of the training clips, and the vectors (n, d) of the test clips in each draw.

    Test clips are adapted fold by fold: each fold with the same training clips tests speakers of its own.
    """
    if fit.adaptation is None:
        return view, [view.X[np.concatenate([fold.test for fold in fit.folds])]]
    adapted = AdaptedFold.of(view, fit.folds[0].train, fit.adaptation)
    draws = range(fit.amount.draws)
    test = [np.concatenate([adapted.test_vectors(fold.test, draw) for fold in fit.folds]) for draw in draws]
    return adapted.training_task(fit.folds[0].fitted_on), list(test)


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
    n_draws = done[0][0].amount.draws

    def learned(name: str) -> tuple[Any, ...]:
        return tuple(outcome.learned[name] for *_, outcome in tested if name in outcome.learned)

    (first, outcome), outcomes = done[0], [outcome for _, outcome in done]
    return assemble(
        task,
        [(fold, seed) for fold, seed, *_ in tested for _ in range(n_draws)],
        np.concatenate([one for _, _, proba, _ in tested for one in proba], dtype=np.float32),
        head=first.head.name,
        view=first.view.view if isinstance(first.view, Task) else first.head.view,
        labels=labels,
        fit_seconds=float(np.mean([outcome.fit_seconds for outcome in outcomes])),
        predict_ms=1000 * sum(outcome.predict_seconds for outcome in outcomes) / _count_predicted(outcomes),
        params=next((o.params for o in outcomes if "approximate" in o.params), outcome.params),
        histories=learned("history_"),
        chosen=learned("chosen_"),
        feature_shares=feature_shares(task.encoder, learned(SHARES)) if first.head.view == "pooled" else {},
        layer_weights=tuple(weights.tolist() for weights in learned("layer_weights_") if len(weights) > 1),
        draws=_draws([proba for _, _, proba, _ in tested]) if first.adaptation else None,
        strengths=tuple(fit.adaptation.strength.name for fit, _ in done if fit.adaptation),
        **row.fields,
    )


def _draws(by_fold: Sequence[NDArray[np.float64]]) -> NDArray[np.str_]:
    """Return the draw of each row of the predictions (n,), given the probabilities (draws, n, C) of each fold."""
    return np.concatenate([np.repeat(np.arange(proba.shape[0]), proba.shape[1]).astype(str) for proba in by_fold])


def _count_predicted(outcomes: Sequence[_Outcome]) -> int:
    return sum(proba.shape[0] * proba.shape[1] for outcome in outcomes for proba in outcome.proba)
