"""Benchmark of stage 2: each head against the defaults of its library, and the comparison on all cores against one.

    python -m benchmarks.heads                                    a synthetic task in the shape of RAVDESS
    python -m benchmarks.heads --dataset ravdess --encoder mfcc   vectors from a cache
    python -m benchmarks.heads --view frames --rounds 1           heads over frames: 216 frames of 30 dimensions

Both sides of a head are fitted on the same training speakers and predict the same held-out speakers, in turns. The side
`defaults` is what a user would write (`DEFAULTS`), with the number of threads that its library chooses: LightGBM and
the matrix products of logistic regression and of scikit-learn's network use all cores, libsvm uses one. The side `ours`
is the head as `ser compare` and `ser fit` run it: on one thread, with the speakers. No library has a counterpart of
`layer_weighted`, `best_layer` and `stack`.

The labels of the synthetic task say nothing about emotion; its UAR only shows whether a faster fit is less accurate.
Networks run on the CPU. The time of the comparison includes the start of its processes. Measure on an idle machine:
other work slows the side that uses all cores. `load_before` in the results is the load before the benchmark.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import joblib
import numpy as np
import typer
from joblib.externals.loky import get_reusable_executor
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import ThreadpoolController

from classifiers import Fold, Head, Task, compare, make_folds
from classifiers import heads as registry
from classifiers.evaluation.cross_validation import fit_head
from classifiers.evaluation.metrics import confusion, uar
from embedcache import DataError
from embedcache.checking.timing import interleave
from embedcache.progress import Progress, silent, terminal

from ._measure import RESULTS, bars, load, machine, run, save, slug, table

DEFAULTS: dict[str, Callable[[], Any]] = {
    "knn": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "lda": lambda: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
    "lgbm": lambda: LGBMClassifier(verbosity=-1),
    "logreg": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "mlp": lambda: make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(256,), random_state=0)),
    "ridge": lambda: make_pipeline(StandardScaler(), CalibratedClassifierCV(RidgeClassifier(), ensemble=False)),
    "svm": lambda: make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False)),
}
COLUMNS = ("head", "side", "fit_seconds", "fit_min", "fit_max", "times_as_fast", "predict_ms_per_1000", "uar")
CLIPS_A_SPEAKER = {"neutral": 4} | dict.fromkeys(
    ("angry", "calm", "disgust", "fearful", "happy", "sad", "surprised"), 8
)
FOLDS = 5
PREDICTIONS = 10  # a prediction takes milliseconds: more rounds than fits
COMPARISONS = 2  # they take longest
QUICK_HEADS = ("logreg", "svm")

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The size of a synthetic task: `share` of CLIPS_A_SPEAKER, layers or frames of `dim` columns, noise on each."""

    speakers: int = 24
    share: float = 1.0
    layers: int = 13
    dim: int = 768
    noise: float = 15.0


FRAMES = Shape(layers=216, dim=30, noise=25.0)  # what `mfcc` gives a head over frames
QUICK = Shape(speakers=10, share=0.25, layers=2, dim=64, noise=3.0)


@dataclass
class Side:
    """One way to fit a head: ours, or the library's defaults. `threads` is a limit, None is what the library takes."""

    name: str
    make: Callable[[], Any]  # gives a fitted classifier
    unseen: NDArray[np.float32]
    threads: int | None
    pools: ThreadpoolController = field(default_factory=ThreadpoolController)  # looked up once: it takes a while
    model: Any = None

    def fit(self) -> None:
        """Fit, and keep the model."""
        with self.pools.limit(limits=self.threads):
            self.model = self.make()

    def predict(self) -> Any:
        """Probabilities of the held-out clips."""
        with self.pools.limit(limits=self.threads):
            return self.model.predict_proba(self.unseen)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str | None, typer.Option(help="Extracted dataset.", show_default="synthetic")] = None,
    encoder: Annotated[str | None, typer.Option(help="Extracted encoder.", show_default="synthetic")] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="Output folder with the cache.", show_default="artifacts")
    ] = None,
    view: Annotated[
        str, typer.Option(help="View: layers, frames, or pooled, without heads that read layers.")
    ] = "layers",
    rounds: Annotated[int, typer.Option(min=1, help="Number of timed fits of each side.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Measure two heads, in one round, on few clips.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default="benchmarks/results")] = RESULTS,
) -> None:
    """Compare every head with the defaults of its library, and the whole comparison on all cores with one core."""
    if view not in ("layers", "pooled", "frames"):
        raise DataError(f"got --view {view}; wanted layers, pooled or frames.")
    cached = dataset or encoder or artifacts
    shape = QUICK if quick else FRAMES if view == "frames" else Shape()
    task = Task.load(dataset, encoder, view, artifacts) if cached else synthetic(shape, view)
    specs = [h for h in registry.all() if task.has(h.view) and (not quick or h.name in QUICK_HEADS)]
    before, rounds = load(), 1 if quick else rounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the defaults: a network that has not converged, unnamed columns
        rows = measure_heads(task, specs, rounds, terminal)
        rows += measure_jobs(task, specs, min(rounds, COMPARISONS), terminal)
    table(rows, COLUMNS)
    name = "heads-quick" if quick else "heads-frames" if view == "frames" else "heads"
    write(rows, task, name, out, {"load_before": before, "rounds": rounds})


def synthetic(shape: Shape, view: str = "layers") -> Task:
    """Speakers and labels as in RAVDESS: label means, speaker offsets and noise in 32 directions that layers mix."""
    rng = np.random.default_rng(0)
    spoken = np.repeat(list(CLIPS_A_SPEAKER), [int(n * shape.share) for n in CLIPS_A_SPEAKER.values()])
    y, speaker = np.tile(spoken, shape.speakers), np.repeat(np.arange(shape.speakers), len(spoken))
    label = np.unique(y, return_inverse=True)[1]
    labels, voices, clips = (rng.standard_normal((n, 32)) for n in (len(CLIPS_A_SPEAKER), shape.speakers, len(y)))
    hidden = 0.55 * labels[label] + 0.6 * voices[speaker] + clips
    n_blocks = 1 if view == "pooled" else shape.layers
    mixed = hidden @ rng.standard_normal((32, n_blocks * shape.dim))
    X = (mixed + shape.noise * rng.standard_normal(mixed.shape)).astype(np.float32)
    speakers = np.char.add("speaker ", speaker.astype(str))
    made = Task(X, y, speakers, dataset="synthetic", view=view)
    return replace(made, n_frames=n_blocks) if view == "frames" else replace(made, n_layers=n_blocks)


def measure_heads(task: Task, specs: Iterable[Head], rounds: int, progress: Progress = silent) -> list[Row]:
    """Two rows a head, the defaults and ours, or one where there are no defaults."""
    fold = make_folds(task, "speakers", FOLDS)[0]
    return [row for spec in specs for row in measure_head(spec, task.to_view(spec.view), fold, rounds, progress)]


def measure_head(spec: Head, task: Task, fold: Fold, rounds: int, progress: Progress = silent) -> list[Row]:
    """Seconds of a fit, milliseconds of a prediction and UAR of each side of one head."""
    sides = sides_of(spec, task, fold)
    named = {f"{spec.name} ({side.name})": side for side in sides}
    fits = interleave({name: side.fit for name, side in named.items()}, rounds, progress)
    predictions = interleave({name: side.predict for name, side in named.items()}, PREDICTIONS)
    rows = []
    for name, side in named.items():
        milliseconds = 1000 * median(predictions[name]) / len(fold.test) * 1000
        scores = {"predict_ms_per_1000": round(milliseconds, 3), "uar": score(side, task, fold)}
        rows.append({"head": spec.name, "side": side.name} | timing(fits[name]) | scores)
    return compared(rows)


def sides_of(spec: Head, task: Task, fold: Fold) -> list[Side]:
    """The library's defaults, where it has any for this head, and ours."""
    unseen = np.asarray(task.X[fold.test])
    ours = Side("ours", lambda: fit_head(spec, task, fold.train, seed=0), unseen, threads=1)
    if spec.name not in DEFAULTS:
        return [ours]
    build = DEFAULTS[spec.name]
    return [Side("defaults", lambda: build().fit(task.X[fold.train], task.y[fold.train]), unseen, threads=None), ours]


def score(side: Side, task: Task, fold: Fold) -> float:
    """UAR on the held-out speakers."""
    predicted = side.model.classes_[side.predict().argmax(axis=1)]
    return round(float(uar(confusion(task.y[fold.test], predicted, task.labels))), 4)


def measure_jobs(task: Task, specs: Sequence[Head], rounds: int, progress: Progress = silent) -> list[Row]:
    """The whole comparison in one process and in as many as there are cores, which start for each."""

    def comparison(jobs: int) -> None:
        get_reusable_executor().shutdown(wait=True)
        compare(task, specs, "speakers", FOLDS, jobs=jobs, progress=progress)

    sides = {f"jobs={jobs}": partial(comparison, jobs) for jobs in (1, joblib.cpu_count())}
    seconds = interleave(sides, rounds, warm_up=False)
    return compared([{"head": f"all, {FOLDS} folds", "side": name} | timing(seconds[name]) for name in sides])


def timing(seconds: Sequence[float]) -> Row:
    """The median and the range of some runs."""
    values = {"fit_seconds": median(seconds), "fit_min": min(seconds), "fit_max": max(seconds)}
    return {name: round(value, 4) for name, value in values.items()}


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows, with how many times as fast as the first each is; one that stands alone has no such number."""
    if len(rows) < 2:
        return list(rows)
    return [row | {"times_as_fast": round(rows[0]["fit_seconds"] / row["fit_seconds"], 2)} for row in rows]


def write(rows: Sequence[Row], task: Task, name: str, folder: Path, extra: Row) -> None:
    """The results as JSON and as a picture."""
    facts = machine()
    counts = {"clips": len(task), "speakers": len(set(task.speakers)), "labels": len(task.labels)}
    blocks = task.n_layers * task.n_frames
    shape = counts | {"layers": task.n_layers, "frames": task.n_frames, "dim": task.X.shape[1] // blocks}
    about = {"dataset": task.dataset, "encoder": task.encoder, "task": shape} | extra
    path = save(name, facts, rows, about, folder)
    source = " with ".join(filter(None, (task.dataset, task.encoder)))
    picture = bars(
        folder / f"{name}-{slug(facts)}.png",
        f"Seconds to fit on {source}: {len(task)} clips, {shape['dim']} dimensions, {shape['layers']} layers, "
        f"{shape['frames']} frames",
        [f"{row['head']}: {row['side']}" for row in rows],
        [row["fit_seconds"] for row in rows],
        "s",
        f"{facts['cpu']}, {facts['cores']} cores. Medians. Ours: one thread; defaults: as many as they choose.",
        [row["side"] not in ("defaults", "jobs=1") for row in rows],
    )
    typer.echo(f"written: {path}\nwritten: {picture}", err=True)


if __name__ == "__main__":
    run(app)
