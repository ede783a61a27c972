"""What the commands do with a comparison: load tasks, compare, save a run folder; fit on all clips, save a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from embedcache import Artifacts, DataError, ModelError, UnknownName
from embedcache.encoder import FRAMES, is_ragged
from embedcache.layout import atomic_write
from embedcache.progress import Progress, silent
from embedcache.show import count
from embedcache.store import slug

from . import heads
from .card import describe, fitting
from .compare import compare, fit_head, params_of
from .head import Head
from .heads._tuned import Tuned
from .intervals import intervals, intervals_csv
from .labels import NATIVE, Labels, synonyms
from .leaderboard import chosen_csv, per_label_csv, score, tables, to_csv
from .paired import paired_csv
from .persist import Card, save_model
from .pictures import save_pictures
from .predictions import Predictions, load_predictions, new_run_folder, save_predictions
from .protocol import make_folds
from .task import Task, encoders_of
from .views import about_view, check_view
from .wrapped import innermost, wrapped


@dataclass(frozen=True)
class Asked:
    """What a comparison was asked; saved beside its results."""

    datasets: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    protocol: str = "speakers"
    folds: int = 5
    seeds: int = 1
    labels: str = "native"
    copies: int = 0
    views: tuple[str, ...] = ()
    frames: int | None = None
    tune: int = 0
    calibrate: bool = False


def run_comparison(
    artifacts: Artifacts,
    asked: Asked,
    jobs: int | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
    cluster: str | None = None,
) -> tuple[Path, list[Predictions]]:
    """Every asked head on every asked encoder; the run folder, and what is in it.

    Several datasets are trained on together. Left out, `datasets` is the only one extracted, `encoders` are all that
    have it whole, `heads` are `heads.usual()`.
    Everything that can be refused is refused before anything is fitted; `say` hears what is left out.
    """
    specs = asked_heads(asked.heads, asked.views, asked.frames)
    if asked.tune and (fixed := [spec.name for spec in specs if not spec.space]):
        say(f"note: {', '.join(fixed)}: nothing to tune.")
    work = load_tasks(artifacts, asked, wrapped(specs, asked.tune, asked.calibrate), say)
    for line in synonyms(work[0][0].labels_from) if work[0][0].labels_from else ():
        say(f"note: {line}.")
    for task, _ in work:
        make_folds(task, asked.protocol, asked.folds)
    predictions = [
        p
        for task, some in work
        for p in compare(task, some, asked.protocol, asked.folds, asked.seeds, jobs, progress, cluster)
    ]
    for line in unchosen(predictions):
        say(f"note: {line}.")
    return save_run(artifacts, predictions, asdict(asked), work[0][0].labels_from, jobs), predictions


def unchosen(predictions: Iterable[Predictions]) -> list[str]:
    """A sentence on each head that was to choose in inner folds, which its training clips did not allow."""
    said = []
    for p in predictions:
        bare = [c for c in p.chosen if not c.get("tried", 1) or ("temperature" in c and c["temperature"] is None)]
        if bare and p.head.endswith(("-tuned", "-calibrated")):
            where = f"{len(bare)} of {count(len(p.chosen), 'fold')}"
            said.append(f"{p.head}: the training clips of {where} allow no inner folds, it stays as it is there")
    return said


def asked_heads(names: Sequence[str], views: Sequence[str] = (), frames: int | None = None) -> list[Head]:
    """Heads by name, by default `heads.usual()`; `views` are what they read instead of their own.

    Of `views`, one may be of frames and one not: each is for the heads that read such. Raises UnknownName, and
    DataError for a view, or a number of frames, that no head reads.
    """
    for view in views:
        check_view(view)
    instead = {is_ragged(view): view for view in views}
    if len(instead) < len(views):
        raise DataError(f"got the views {', '.join(views)}; wanted one, joined by +, for heads that read the same.")
    specs = [heads.get(name) for name in dict.fromkeys(names or heads.usual())]
    asked = {**instead, **({True: f"frames {frames}"} if frames and True not in instead else {})}
    for ragged, what in asked.items():
        if not any(is_ragged(spec.view) == ragged for spec in specs):
            kind = "frames" if ragged else "one vector a clip"
            option = f"--view {what}" if ragged in instead else f"--{what}"
            raise DataError(f"{option}: none of {', '.join(spec.name for spec in specs)} reads {kind}. Leave it out.")
    return [_reading(spec, instead.get(is_ragged(spec.view), spec.view)) for spec in specs]


def _reading(spec: Head, view: str) -> Head:
    """A head with another view. Raises DataError for one of several layers where the head reads one."""
    if spec.view == FRAMES and ("+" in view or view == f"{FRAMES}:all"):
        raise DataError(f"{spec.name} reads one layer's frames; got --view {view}. Ask for {FRAMES}:N.")
    return replace(spec, view=view)


def load_tasks(
    artifacts: Artifacts, asked: Asked, specs: Sequence[Head], say: Callable[[str], None]
) -> list[tuple[Task, list[Head]]]:
    """The asked datasets as one task under each encoder and for each view that is read, and the heads that read it.

    Left out, `encoders` are all that have the datasets whole; `say` hears of those that have a part.
    """
    groups = _by_view(specs)
    encoders: Sequence[str | None] = asked.encoders
    if not encoders:
        encoders, notes = encoders_of(artifacts, asked.datasets, asked.copies, list(groups))
        for line in notes:
            say(f"note: {line}.")
    named = list(dict.fromkeys(encoders or (None,)))
    return [(load_task(artifacts, asked, encoder, view), some) for encoder in named for view, some in groups.items()]


def load_task(artifacts: Artifacts, asked: Asked, encoder: str | None, view: str) -> Task:
    """One task of what was asked."""
    return Task.load(asked.datasets, encoder, view, artifacts, asked.labels, asked.copies, asked.frames)


def _by_view(specs: Sequence[Head]) -> dict[str, list[Head]]:
    """The views to load, and who reads them: the last of `layers` is `pooled`."""
    both = any(spec.view == "layers" for spec in specs)
    groups: dict[str, list[Head]] = {}
    for spec in specs:
        groups.setdefault("layers" if both and spec.view == "pooled" else spec.view, []).append(spec)
    return groups


def save_run(
    artifacts: Artifacts,
    predictions: Sequence[Predictions],
    asked: dict[str, Any],
    labels: Labels | None = None,
    jobs: int | None = 1,
) -> Path:
    """Write the folder of a comparison, with pictures."""
    datasets = "+".join(sorted({p.dataset for p in predictions}))
    view = predictions[0].label_view
    seen = "" if view == NATIVE else f"-{slug(Path(view).stem)}"
    folder = new_run_folder(artifacts.runs, f"{datasets}{seen}-{predictions[0].protocol}")
    write_run(folder, predictions, asked, labels)
    save_pictures(folder, list(predictions), jobs)
    return folder


def write_run(
    folder: Path,
    predictions: Sequence[Predictions],
    asked: dict[str, Any],
    labels: Labels | None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write what every run folder holds, and `more` texts by name.

    That is predictions.csv and run.json; and what follows from them: leaderboard.csv, intervals.csv, paired.csv,
    per_label.csv; and labels.csv, what became of the labels.
    """
    save_predictions(folder, predictions, asked)
    saved = load_predictions(folder)
    made = tables(saved)
    texts = {
        "leaderboard.csv": to_csv([row for table in made for row in table.rows]),
        "intervals.csv": intervals_csv(one for p in saved for one in intervals(p)),
        "paired.csv": paired_csv(table.paired for table in made),
        "per_label.csv": per_label_csv(predictions),
        **({"chosen.csv": chosen_csv(predictions)} if any(p.chosen for p in predictions) else {}),
        **({"labels.csv": labels.to_csv()} if labels else {}),
        **(more or {}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def load_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Predictions]:
    """The predictions of some runs, by name or path, or of all. Raises UnknownName or DataError."""
    return [p for folder in find_runs(artifacts, runs) for p in load_predictions(folder)]


def find_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Path]:
    """The folders of some runs, by name or path, or of all, the latest last. Raises UnknownName or DataError."""
    have = sorted(path.parent for path in artifacts.runs.glob("*/run.json"))
    if not runs and not have:
        raise DataError(f"{artifacts.runs}: no runs yet. `ser compare` makes one.")
    named = {folder.name: folder for folder in have}
    folders = []
    for run in runs:
        folder = named.get(run, Path(run))
        if not (folder / "run.json").exists():
            raise UnknownName("run", run, named, f"A run folder below {artifacts.runs} is meant")
        folders.append(folder)
    return folders or have


def fit_model(
    artifacts: Artifacts,
    asked: Asked,
    out: Path | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[Path, Card, list[Predictions]]:
    """Cross-validate one head, fit it on all clips, save it: the model folder, its card, the predictions.

    Raises DataError where several encoders are possible, ModelError where `out` is taken.
    """
    for option, given in (("head", asked.heads), ("encoder", asked.encoders)):
        if len(given) > 1:
            raise DataError(f"one model has one {option}; got {', '.join(given)}. Use `ser compare` for several.")
    if out and out.exists():
        raise ModelError(f"{out} exists already. Choose another folder with --out, or remove it.")
    (spec,) = asked_heads(asked.heads, asked.views, asked.frames)
    specs = wrapped([spec], asked.tune, asked.calibrate)
    task = load_task(artifacts, asked, next(iter(asked.encoders), None), spec.view)
    predictions = compare(task, specs, asked.protocol, asked.folds, asked.seeds, jobs, progress)
    run = save_run(artifacts, predictions, asdict(asked), task.labels_from, jobs)
    with threadpool_limits(1):
        estimator = fit_head(specs[-1], task, np.arange(len(task)), seed=0)
    folder = out or _free(artifacts.models / slug(f"{task.dataset}-{task.encoder}-{specs[-1].name}"))
    card = _card(task, predictions[-1], run, specs[-1], estimator)
    chosen = estimator.model_ if isinstance(estimator, Tuned) else estimator
    return save_model(folder, chosen, card), card, predictions


def _card(task: Task, p: Predictions, run: Path, spec: Head, estimator: Any) -> Card:
    row = {name: value if value == value else None for name, value in asdict(score(p)).items()}  # NaN is no JSON
    for among_others in ("rank", "p_vs_best"):
        del row[among_others]
    info = asdict(task.encoder_info) if task.encoder_info else {}
    return Card(
        head=p.head,
        encoder=info.get("name", ""),
        checkpoint=info.get("checkpoint", ""),
        fingerprint=task.fingerprint,
        encoder_info=info,
        view=task.view,
        n_frames=task.n_frames,
        labels=task.labels,
        dataset=task.dataset,
        n_clips=len(task),
        n_speakers=len(set(task.speakers.tolist())),
        score=row | {"run": run.name},
        params=params_of(innermost(estimator)),
        about=f"{spec.about} ({spec.source})",
        reads=about_view(task.view, task.n_frames),
        fitting=fitting(estimator, p),
        **describe(task, p),
    )


def _free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, … that does not exist."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 10_000))]
    return next(name for name in names if not name.exists())
