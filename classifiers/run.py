"""What the commands do with a comparison: load tasks, compare, save a run folder; fit on all clips, save a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from embedcache import Artifacts, DataError, ModelError, UnknownName
from embedcache.layout import atomic_write
from embedcache.progress import Progress, silent
from embedcache.store import slug

from . import heads
from .card import describe
from .compare import compare, fit_head
from .head import Head
from .labels import NATIVE, Labels, synonyms
from .leaderboard import per_label_csv, score, tables, to_csv
from .paired import paired_csv
from .persist import Card, save_model
from .pictures import save_pictures
from .predictions import Predictions, load_predictions, new_run_folder, save_predictions
from .protocol import make_folds
from .task import Task, encoders_of


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
    have it whole, `heads` are all there are.
    Everything that can be refused is refused before anything is fitted; `say` hears what is left out.
    """
    names = asked.heads or tuple(heads.names())
    specs = [heads.get(name) for name in names]
    tasks = load_tasks(artifacts, asked.datasets, asked.encoders, specs, asked.labels, asked.copies, say)
    for line in synonyms(tasks[0].labels_from) if tasks[0].labels_from else ():
        say(f"note: {line}.")
    for task in tasks:
        make_folds(task, asked.protocol, asked.folds)
    predictions = [
        p
        for task in tasks
        for p in compare(task, names, asked.protocol, asked.folds, asked.seeds, jobs, progress, cluster)
    ]
    return save_run(artifacts, predictions, asdict(asked), tasks[0].labels_from), predictions


def load_tasks(
    artifacts: Artifacts,
    datasets: Sequence[str],
    encoders: Sequence[str],
    specs: Sequence[Head],
    labels: str,
    copies: int,
    say: Callable[[str], None],
) -> list[Task]:
    """Some datasets as one task under each encoder, in a view that all heads can read.

    Left out, `encoders` are all that have the datasets whole; `say` hears of those that have a part.
    """
    view = "layers" if any(spec.view == "layers" for spec in specs) else "pooled"
    if not encoders:
        encoders, notes = encoders_of(artifacts, datasets, copies)
        for line in notes:
            say(f"note: {line}.")
    named = dict.fromkeys(encoders or (None,))
    return [Task.load(datasets, encoder, view, artifacts, labels, copies) for encoder in named]


def save_run(
    artifacts: Artifacts, predictions: Sequence[Predictions], asked: dict[str, Any], labels: Labels | None = None
) -> Path:
    """Write the folder of a comparison, with pictures."""
    datasets = "+".join(sorted({p.dataset for p in predictions}))
    view = predictions[0].label_view
    seen = "" if view == NATIVE else f"-{slug(Path(view).stem)}"
    folder = new_run_folder(artifacts.runs, f"{datasets}{seen}-{predictions[0].protocol}")
    write_run(folder, predictions, asked, labels)
    save_pictures(folder, list(predictions))
    return folder


def write_run(
    folder: Path,
    predictions: Sequence[Predictions],
    asked: dict[str, Any],
    labels: Labels | None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write what every run folder holds, and `more` texts by name.

    That is predictions.csv and run.json; and what follows from them: leaderboard.csv, paired.csv, per_label.csv; and
    labels.csv, what became of the labels.
    """
    save_predictions(folder, predictions, asked)
    made = tables(load_predictions(folder))
    texts = {
        "leaderboard.csv": to_csv([row for table in made for row in table.rows]),
        "paired.csv": paired_csv(table.paired for table in made),
        "per_label.csv": per_label_csv(predictions),
        **({"labels.csv": labels.to_csv()} if labels else {}),
        **(more or {}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def load_runs(artifacts: Artifacts, runs: Sequence[str] = ()) -> list[Predictions]:
    """The predictions of some runs, by name or path, or of all. Raises UnknownName or DataError."""
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
    return [p for folder in folders or have for p in load_predictions(folder)]


def fit_model(
    artifacts: Artifacts,
    asked: Asked,
    out: Path | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[Path, Card, Predictions]:
    """Cross-validate one head, fit it on all clips, save it: the model folder, its card, the predictions.

    Raises DataError where several encoders are possible, ModelError where `out` is taken.
    """
    for option, given in (("head", asked.heads), ("encoder", asked.encoders)):
        if len(given) > 1:
            raise DataError(f"one model has one {option}; got {', '.join(given)}. Use `ser compare` for several.")
    if out and out.exists():
        raise ModelError(f"{out} exists already. Choose another folder with --out, or remove it.")
    spec = heads.get(asked.heads[0])
    encoder = next(iter(asked.encoders), None)
    task = Task.load(asked.datasets, encoder, spec.view, artifacts, asked.labels, asked.copies)
    predictions = compare(task, [spec], asked.protocol, asked.folds, asked.seeds, jobs, progress)
    run = save_run(artifacts, predictions, asdict(asked), task.labels_from)
    with threadpool_limits(1):
        estimator = fit_head(spec, task, np.arange(len(task)), seed=0)
    folder = out or _free(artifacts.models / slug(f"{task.dataset}-{task.encoder}-{spec.name}"))
    card = _card(task, predictions[0], run)
    return save_model(folder, estimator, card), card, predictions[0]


def _card(task: Task, p: Predictions, run: Path) -> Card:
    row = {name: value if value == value else None for name, value in asdict(score(p)).items()}  # NaN is no JSON
    info = asdict(task.encoder_info) if task.encoder_info else {}
    return Card(
        head=p.head,
        encoder=info.get("name", ""),
        checkpoint=info.get("checkpoint", ""),
        fingerprint=task.fingerprint,
        encoder_info=info,
        view=task.view,
        labels=task.labels,
        dataset=task.dataset,
        n_clips=len(task),
        n_speakers=len(set(task.speakers.tolist())),
        score=row | {"run": run.name},
        params=p.params,
        **describe(task, p),
    )


def _free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, … that does not exist."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 10_000))]
    return next(name for name in names if not name.exists())
