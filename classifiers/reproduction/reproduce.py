"""A published system's claim, what its own protocol gives here, and what is left when the test speakers are new.

The system is run twice, under the protocol of ours that is nearest to its own and under one that keeps speakers apart,
on the same clips and with the same settings. Both runs are on the leaderboard; the second one's folder also holds
`reproduction.csv`, the table, and `reproduction.json`, with what the source states, what it left open, and what was
missing. What was run on another encoder, other data or a few clips says that it is no reproduction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError, EmbeddingStore, Manifest, dataset_manifest, encoders, extract, load_encoder
from embedcache import datasets as registry
from embedcache.dataset import find_root
from embedcache.encoder import FRAMES, VIEWS, Log, no_log
from embedcache.files.atomic import atomic_write
from embedcache.manifest import KNOWN_FAULT, SKIPPED, Clip
from embedcache.progress import Progress, silent
from embedcache.text import count

from ..data.csv_text import csv_text
from ..data.listed_clips import load_manifests
from ..evaluation.intervals import intervals
from ..evaluation.predictions import Predictions
from ..workflows.comparison import ComparisonConfig, run_comparison
from ..workflows.finetuning import FinetuneConfig, finetune
from .recipe import BLOCKS, Recipe, settings

METRICS = {"war": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}
FAULTY = "was published faulty"  # how a line ends on what nobody has otherwise
CLAIMED, HONEST = "claimed protocol", "speakers held out"


@dataclass(frozen=True)
class Column:
    """One run of a system: its protocol, what leaks, and each metric in percent with its 95 % interval."""

    what: str
    protocol: str
    folds: int
    leaks: str
    scores: dict[str, tuple[float, float, float]]
    run: str


@dataclass(frozen=True)
class Reproduction:
    """What came of a recipe."""

    recipe: Recipe
    columns: tuple[Column, Column]  # of the claimed protocol, and with speakers held out
    differs: tuple[str, ...]  # why it is no reproduction; nothing where it is one
    missing: tuple[str, ...]  # of the data
    folder: Path

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows of text: what, claimed, under the claimed protocol, with speakers held out."""
        claims, (near, far) = self.recipe.claims, self.columns
        rows = [("protocol", "its own", _protocol(near), _protocol(far)), ("leaks", "", near.leaks, far.leaks)]
        for metric, called in METRICS.items():
            claim = f"{claims[metric]:.2f}" if metric in claims else ""
            rows.append((f"{called}, %", claim, _score(near, metric), _score(far, metric)))
        (war, *_), (new, *_) = near.scores["war"], far.scores["war"]
        if "war" in claims:
            below = [f"{value - claims['war']:+.1f}" for value in (war, new)]
            rows.append(("points to the claim", "", below[0], below[1]))
        rows.append(("points to its protocol", "", "", f"{new - war:+.1f}"))
        return rows

    def told(self) -> list[str]:
        """What must be known beside the table, in lines."""
        lines = ["in brackets: 95 % over speakers", f"source: {self.recipe.source}"]
        lines += [f"stated: {line}" for line in self.recipe.stated] + [
            f"left open: {line}" for line in self.recipe.open
        ]
        lines += [f"missing: {line}" for line in self.missing]
        return [*lines, f"This is no reproduction: {'; '.join(self.differs)}." if self.differs else "As it was stated."]


def reproduce(
    artifacts: Artifacts,
    recipe: Recipe,
    encoder: str | None = None,
    datasets: Sequence[str] = (),
    root: Path | None = None,
    quick: bool = False,
    device: str = "auto",
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress = silent,
    log: Log = no_log,
) -> Reproduction:
    """Run a recipe under both protocols. `encoder` and `datasets` replace the recipe's own.

    Raises DataError where a dataset is not here, with the way to get it, and what the parts raise.
    """
    used = recipe if encoder is None else replace(recipe, encoder=encoder)
    used = replace(used, datasets=tuple(sorted(datasets or recipe.datasets)))
    place, missing = _stocked(artifacts, used, root, quick, progress)
    if quick:
        used = _hurried(used)
    way = _Way(place, recipe.quick.folds if quick else ComparisonConfig.folds, device, resume, jobs, progress, log)
    run = _finetuned if used.finetune else _with_head
    columns = []
    for what, protocol in ((CLAIMED, used.protocol), (HONEST, _honest(place, used, quick))):
        log(f"{what}: {protocol}")
        folder, predictions = run(used, protocol, way)
        columns.append(_column(what, predictions, folder))
    done = Reproduction(used, (columns[0], columns[1]), _differs(recipe, used, quick, missing), missing, folder)
    _save(done)
    return done


def state(artifacts: Artifacts, recipe: Recipe) -> tuple[str, str]:
    """Whether the weights and the data of a recipe are on this machine, in words."""
    checkpoint = encoders.get(recipe.encoder).checkpoint
    weights = "here" if encoders.is_cached(checkpoint) else "not here"
    absent = [name for name in recipe.datasets if not _is_here(artifacts, name)]
    return weights if checkpoint else "none needed", f"not here: {', '.join(absent)}" if absent else "here"


def _is_here(artifacts: Artifacts, name: str) -> bool:
    if artifacts.manifest(name).exists():
        return True
    try:
        find_root(registry.get(name), None)
    except DataError:
        return False
    return True


def _stocked(
    artifacts: Artifacts, recipe: Recipe, root: Path | None, quick: bool, progress: Progress
) -> tuple[Artifacts, tuple[str, ...]]:
    """Where the manifests of a recipe lie, all clips or a part of them; what of the data is missing."""
    if root and len(recipe.datasets) > 1:
        raise DataError(
            f"--root is one dataset's folder; {recipe.name} uses {', '.join(recipe.datasets)}. Set SER_DATA."
        )
    absent = [name for name in recipe.datasets if not root and not _is_here(artifacts, name)]
    if absent:
        here = [name for name in recipe.datasets if name not in absent]
        ways = "\n".join(registry.get(name).how_to_get() for name in absent)
        less = f" Or run it on what is here, --dataset {','.join(here)}: no reproduction." if here else ""
        raise DataError(f"{recipe.name} needs {', '.join(absent)}, which is not here.{less}\n{ways}")
    manifests = [dataset_manifest(name, artifacts, root, progress) for name in recipe.datasets]
    missing = tuple(line for manifest in manifests for line in _missing(manifest))
    each = recipe.quick.clips if quick else _each(manifests, recipe.most)
    if each is None:
        return artifacts, missing
    place = Artifacts(artifacts.root / "reproduce" / (f"{recipe.name}-quick" if quick else recipe.name))
    for manifest in manifests:
        Manifest(manifest.dataset, _few(manifest.usable, each)).to_csv(place.manifest(manifest.dataset))
    return place, missing


def _missing(manifest: Manifest) -> list[str]:
    spec = registry.find(manifest.dataset)
    lines = []
    if spec and spec.n_clips and len(manifest) < spec.n_clips:
        lines.append(f"{manifest.dataset}: {spec.n_clips - len(manifest)} of {spec.n_clips} clips")
    faulty = [clip for clip in manifest.skipped if clip.extra[SKIPPED].startswith(KNOWN_FAULT)]
    if bad := len(manifest.skipped) - len(faulty):
        lines.append(f"{manifest.dataset}: {count(bad, 'clip')} that cannot be used")
    if faulty:
        lines.append(f"{manifest.dataset}: {count(len(faulty), 'clip')} that {FAULTY}")
    return lines


def _each(manifests: Sequence[Manifest], most: int | None) -> int | None:
    """So many clips of each speaker and label that there are no more than `most` in all; None for all."""
    counts = Counter((clip.dataset, clip.speaker, clip.label) for m in manifests for clip in m.usable)
    if most is None or sum(counts.values()) <= most:
        return None
    each = 1
    while sum(min(each + 1, count) for count in counts.values()) <= most:
        each += 1
    return each


def _few(clips: Sequence[Clip], each: int) -> tuple[Clip, ...]:
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for clip in clips:
        taken[clip.speaker, clip.label] += 1
        if taken[clip.speaker, clip.label] <= each:
            kept.append(clip)
    return tuple(kept)


def _hurried(recipe: Recipe) -> Recipe:
    quick, tuned = recipe.quick, recipe.finetune
    if tuned:
        tuned = settings({**asdict(tuned), **quick.finetune})
    return replace(recipe, frames=quick.frames or recipe.frames, finetune=tuned)


def _honest(place: Artifacts, recipe: Recipe, quick: bool) -> str:
    """The dataset's own folds by speaker, where all their speakers are here; ours else, and where time is short."""
    manifests = load_manifests(place, recipe.datasets)
    spec = registry.find(recipe.datasets[0]) if len(manifests) == 1 else None
    official = {speaker for fold in (spec.official_folds if spec else ()) for speaker in fold}
    here = {clip.speaker for clip in manifests[0].usable}
    return "official" if official and official <= here and not (quick and recipe.finetune) else "speakers"


@dataclass(frozen=True)
class _Way:
    """Where and how both runs of a recipe are made."""

    place: Artifacts
    folds: int
    device: str
    resume: bool
    jobs: int | None
    progress: Progress
    log: Log


def _with_head(recipe: Recipe, protocol: str, way: _Way) -> tuple[Path, Predictions]:
    """Embed what is not embedded yet, and cross-validate the head."""
    place = way.place
    encoder = load_encoder(recipe.encoder, way.device, log=way.log, memory=place.encoders)
    store = EmbeddingStore.of(place.cache, encoder.info)
    view = "+".join(f"{FRAMES}:{n}" for n in range(1, encoder.info.n_layers)) if recipe.view == BLOCKS else recipe.view
    if recipe.view and not view:
        raise DataError(f"{recipe.name} averages the blocks of a network; {recipe.encoder} has none. Use another one.")
    for manifest in load_manifests(place, recipe.datasets):
        done, _ = extract(manifest, encoder, store, view.split("+") if view else VIEWS, True, way.progress)
        done.to_csv(place.manifest(done.dataset))
    asked = ComparisonConfig(
        recipe.datasets,
        (store.folder.name,),
        (recipe.head,),
        protocol,
        way.folds,
        labels=recipe.labels,
        views=(view,) if view else (),
        frames=recipe.frames,
    )
    folder, (predictions,) = run_comparison(place, asked, way.jobs, way.progress, way.log)
    return folder, predictions


def _finetuned(recipe: Recipe, protocol: str, way: _Way) -> tuple[Path, Predictions]:
    """Fine-tune the encoder, fold by fold."""
    if recipe.finetune is None:
        raise DataError(f"{recipe.name} says nothing of fine-tuning.")
    asked = FinetuneConfig(recipe.datasets, recipe.encoder, protocol, way.folds, recipe.labels, recipe.finetune)
    done = finetune(way.place, asked, None, way.device, way.resume, way.progress, way.log)
    if done.run is None:
        raise DataError(f"{recipe.name}: protocol {protocol} gave no run.")
    return done.run, done.predictions[0]


def _column(what: str, p: Predictions, folder: Path) -> Column:
    scores = {i.metric: (100 * i.value, 100 * i.low, 100 * i.high) for i in intervals(p) if i.metric in METRICS}
    return Column(what, p.protocol, len(set(p.folds.tolist())), p.leaks or "none found", scores, folder.name)


def _differs(recipe: Recipe, used: Recipe, quick: bool, missing: Sequence[str]) -> tuple[str, ...]:
    lines = [f"without {line}" for line in missing if not line.endswith(FAULTY)]
    if used.encoder != recipe.encoder:
        lines.append(f"encoder {used.encoder} instead of {recipe.encoder}")
    if used.datasets != tuple(sorted(recipe.datasets)):
        lines.append(f"{', '.join(used.datasets)} instead of {', '.join(recipe.datasets)}")
    if quick:
        changed = {"folds": recipe.quick.folds, "frames": recipe.quick.frames, **recipe.quick.finetune}
        hurried = "".join(f", {name} {value}" for name, value in changed.items() if value is not None)
        lines.append(f"quick: at most {count(recipe.quick.clips, 'clip')} of each speaker and label{hurried}")
    return tuple(lines)


def _protocol(column: Column) -> str:
    return f"{column.protocol}, {column.folds} folds" if column.folds > 1 else column.protocol


def _score(column: Column, metric: str) -> str:
    value, low, high = column.scores[metric]
    return f"{value:.1f}" if low != low else f"{value:.1f} ({low:.1f}–{high:.1f})"


def _save(done: Reproduction) -> None:
    """Lay the table and all that stands behind it into the folder of the honest run."""
    rows: list[Sequence[Any]] = [
        ("recipe", "what", "protocol", "folds", "leaks", "metric", "percent", "low", "high", "run")
    ]
    rows += [
        (done.recipe.name, "claimed", "", "", "", metric, value, "", "", "")
        for metric, value in done.recipe.claims.items()
    ]
    for c in done.columns:
        rows += [
            (done.recipe.name, c.what, c.protocol, c.folds, c.leaks, metric, *score, c.run)
            for metric, score in c.scores.items()
        ]
    said = {
        "recipe": asdict(done.recipe),
        "is_reproduction": not done.differs,
        "differs": done.differs,
        "missing": done.missing,
        "runs": {c.what: c.run for c in done.columns},
    }
    for name, text in (("reproduction.csv", csv_text(rows)), ("reproduction.json", json.dumps(said, indent=1))):
        with atomic_write(done.folder / name) as file:
            file.write(text)
