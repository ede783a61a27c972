"""What the commands do with a comparison: load tasks, compare, save a run folder; fit on all clips, save a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError
from embedcache.cache.store import slug
from embedcache.encoder import FRAMES, is_ragged
from embedcache.progress import Progress, silent
from embedcache.text import count

from .. import heads
from ..data.labels import NATIVE, Labels, synonyms
from ..data.listed_clips import encoders_of
from ..data.task import Task
from ..data.views import check_view
from ..evaluation.cross_validation import compare
from ..evaluation.predictions import Predictions
from ..evaluation.protocols import make_folds
from ..evaluation.run_folder import new_run_folder, write_run
from ..heads import Head, wrapped
from ..reporting.figures import save_pictures


@dataclass(frozen=True)
class ComparisonConfig:
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
    asked: ComparisonConfig,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Callable[[str], None] = lambda line: None,
    cluster: str | None = None,
) -> tuple[Path, list[Predictions]]:
    """Every asked head on every asked encoder; the run folder, and what is in it.

    Several datasets are trained on together. Left out, `datasets` is the only one extracted, `encoders` are all that
    have it whole, `heads` are `heads.usual()`.
    Everything that can be refused is refused before anything is fitted; `log` receives what is left out.
    """
    specs = configured_heads(asked.heads, asked.views, asked.frames)
    if asked.tune and (fixed := [spec.name for spec in specs if not spec.space]):
        log(f"note: {', '.join(fixed)}: nothing to tune.")
    work = load_tasks(artifacts, asked, wrapped(specs, asked.tune, asked.calibrate), log)
    for line in synonyms(work[0][0].labels_from) if work[0][0].labels_from else ():
        log(f"note: {line}.")
    for task, _ in work:
        make_folds(task, asked.protocol, asked.folds)
    predictions = [
        p
        for task, some in work
        for p in compare(task, some, asked.protocol, asked.folds, asked.seeds, jobs, progress, cluster)
    ]
    for line in unchosen(predictions):
        log(f"note: {line}.")
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


def configured_heads(names: Sequence[str], views: Sequence[str] = (), frames: int | None = None) -> list[Head]:
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
    artifacts: Artifacts, asked: ComparisonConfig, specs: Sequence[Head], log: Callable[[str], None]
) -> list[tuple[Task, list[Head]]]:
    """The asked datasets as one task under each encoder and for each view that is read, and the heads that read it.

    Left out, `encoders` are all that have the datasets whole; `log` receives those that have a part.
    """
    groups = _by_view(specs)
    encoders: Sequence[str | None] = asked.encoders
    if not encoders:
        encoders, notes = encoders_of(artifacts, asked.datasets, asked.copies, list(groups))
        for line in notes:
            log(f"note: {line}.")
    named = list(dict.fromkeys(encoders or (None,)))
    return [(load_task(artifacts, asked, encoder, view), some) for encoder in named for view, some in groups.items()]


def load_task(artifacts: Artifacts, asked: ComparisonConfig, encoder: str | None, view: str) -> Task:
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
