"""The reproduction of a published system: its claim, its score under its own protocol, and its score on new speakers.

The system runs twice on the same clips with the same settings: under our protocol that is nearest to its own,
and under a speaker-independent one. Both runs are on the leaderboard. The folder of the second run also holds the
table, `reproduction.csv`, and `reproduction.json`: what the source states, what it leaves open, and which clips are
missing. A result with another encoder, other data or a part of the clips says that it is not a reproduction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embedcache import Artifacts, DataError, Encoder, encoders, load_encoder
from embedcache import datasets as registry
from embedcache.cache.dataset_extraction import extract_manifest
from embedcache.encoder import FRAMES, VIEWS, Log, no_log
from embedcache.files.atomic import atomic_write
from embedcache.finetune import FinetuneSettings
from embedcache.progress import Progress, silent
from embedcache.text import count

from ..data.csv_text import csv_text
from ..data.listed_clips import load_manifests
from ..evaluation.intervals import intervals
from ..evaluation.predictions import Predictions
from ..workflows.comparison import run_comparison
from ..workflows.configurations import N_FOLDS, ComparisonConfig
from ..workflows.finetuning import FinetuneConfig, finetune
from .recipe import BLOCKS, Recipe, finetune_settings, names
from .recipe import recipe as recipe_named
from .recipe_data import Gap, is_here, prepare_data

METRICS = {"war": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}
CLAIMED, HONEST = "claimed protocol", "speakers held out"
LIST_COLUMNS = ("name", "weights", "data", "claims", "about")  # of the table of all recipes
CSV_COLUMNS = ("recipe", "what", "protocol", "folds", "leaks", "metric", "percent", "low", "high", "run")


@dataclass(frozen=True)
class ReproductionConfig:
    """How a recipe is run."""

    encoder: str | None = None  # encoder instead of the recipe's; None for the recipe's
    datasets: tuple[str, ...] = ()  # datasets instead of the recipe's; empty for the recipe's
    root: Path | None = None  # folder of the dataset, if there is only one; None for the default folders
    quick: bool = False  # use few clips and short training
    device: str = "auto"
    resume: bool = False  # continue a fine-tuning that was stopped
    jobs: int | None = None  # processes of the cross-validation; None for all cores


@dataclass(frozen=True)
class Column:
    """The scores of a system under one protocol: a column of the table."""

    title: str
    protocol: str
    folds: int
    leaks: str
    scores: dict[str, tuple[float, float, float]]  # metric -> score and its 95 % interval over speakers, in percent
    run: str  # name of the run folder


@dataclass(frozen=True)
class Reproduction:
    """The result of running a recipe."""

    recipe: Recipe
    columns: tuple[Column, Column]  # under the claimed protocol, and with speakers held out
    differences: tuple[str, ...]  # why the result is not a reproduction; empty if it is one
    missing: tuple[str, ...]  # clips of the datasets that could not be used
    folder: Path  # run folder with speakers held out

    def table(self) -> list[tuple[str, str, str, str]]:
        """Return rows of text: name, claim, score under the claimed protocol, score with speakers held out."""
        claims, (claimed, honest) = self.recipe.claims, self.columns
        rows = [
            ("protocol", "its own", _protocol_text(claimed), _protocol_text(honest)),
            ("leaks", "", claimed.leaks, honest.leaks),
        ]
        for metric, name in METRICS.items():
            claim = f"{claims[metric]:.2f}" if metric in claims else ""
            rows.append((f"{name}, %", claim, _score_text(claimed, metric), _score_text(honest, metric)))
        known, new = claimed.scores["war"][0], honest.scores["war"][0]
        if "war" in claims:
            rows.append(("points above the claim", "", f"{known - claims['war']:+.1f}", f"{new - claims['war']:+.1f}"))
        rows.append(("points above its protocol", "", "", f"{new - known:+.1f}"))
        return rows

    def notes(self) -> list[str]:
        """Return the lines that belong under the table: source, settings, missing clips, and the verdict."""
        verdict = "This is a reproduction: the system ran as its source states."
        if self.differences:
            verdict = f"This is not a reproduction: {'; '.join(self.differences)}."
        return [
            "in brackets: 95 % intervals over speakers",
            f"source: {self.recipe.source}",
            *(f"stated: {line}" for line in self.recipe.stated),
            *(f"left open: {line}" for line in self.recipe.open),
            *(f"missing: {line}" for line in self.missing),
            verdict,
        ]


def reproduce(
    artifacts: Artifacts,
    recipe: Recipe,
    config: ReproductionConfig | None = None,
    progress: Progress = silent,
    log: Log = no_log,
) -> Reproduction:
    """Run a recipe under its own protocol and with speakers held out, and save the table.

    Raises DataError if a dataset is not on this machine, with the way to get it. Also raises what `load_encoder`,
    `run_comparison` and `finetune` raise.
    """
    config = config or ReproductionConfig()
    used = _replace_parts(recipe, config)
    data = prepare_data(artifacts, used, config.root, config.quick, progress)
    runner = _Runner(data.artifacts, _shorten(used) if config.quick else used, config, progress, log)
    columns = []
    for title, protocol in ((CLAIMED, used.protocol), (HONEST, _honest_protocol(runner))):
        log(f"{title}: {protocol}")
        folder, predictions = runner.run(protocol)
        columns.append(_column(title, predictions, folder))
    result = Reproduction(
        recipe=runner.recipe,
        columns=(columns[0], columns[1]),
        differences=_differences(recipe, used, config.quick, data.gaps),
        missing=tuple(gap.text for gap in data.gaps),
        folder=folder,
    )
    _save(result)
    return result


def list_recipes(artifacts: Artifacts) -> tuple[Sequence[str], Iterator[Sequence[str]]]:
    """Return the columns and the rows of a table of all recipes."""
    every = map(recipe_named, names())
    return LIST_COLUMNS, ((r.name, *state(artifacts, r), claims_text(r.claims), r.about) for r in every)


def state(artifacts: Artifacts, recipe: Recipe) -> tuple[str, str]:
    """Return in words whether the weights and the datasets of a recipe are on this machine."""
    checkpoint = encoders.get(recipe.encoder).checkpoint
    weights = "here" if encoders.is_cached(checkpoint) else "not here"
    absent = [name for name in recipe.datasets if not is_here(artifacts, name)]
    return weights if checkpoint else "none needed", f"missing: {', '.join(absent)}" if absent else "here"


def claims_text(claims: Mapping[str, float]) -> str:
    """Return the claimed scores in percent, as in `accuracy 95.31, macro-F1 94.92`; `no score` if there are none."""
    return ", ".join(f"{METRICS[metric]} {percent:.2f}" for metric, percent in claims.items()) or "no score"


def _replace_parts(recipe: Recipe, config: ReproductionConfig) -> Recipe:
    """Return the recipe with the encoder and the datasets of the configuration."""
    datasets = tuple(sorted(config.datasets or recipe.datasets))
    return replace(recipe, encoder=recipe.encoder if config.encoder is None else config.encoder, datasets=datasets)


def _shorten(recipe: Recipe) -> Recipe:
    """Return the recipe with the settings of its quick run."""
    quick, settings = recipe.quick, recipe.finetune
    if settings:
        settings = finetune_settings({**asdict(settings), **quick.finetune})
    return replace(recipe, frames=quick.frames or recipe.frames, finetune=settings)


@dataclass(frozen=True)
class _Runner:
    """Runs one system: a head on a frozen encoder, or a fine-tuned encoder."""

    artifacts: Artifacts
    recipe: Recipe
    config: ReproductionConfig
    progress: Progress
    log: Log

    @property
    def folds(self) -> int:
        """Number of folds, for the protocols `speakers` and `random`."""
        return self.recipe.quick.folds if self.config.quick else N_FOLDS

    def run(self, protocol: str) -> tuple[Path, Predictions]:
        """Run the system under a protocol. Returns the run folder and the predictions."""
        settings = self.recipe.finetune
        return self._run_head(protocol) if settings is None else self._run_finetuning(protocol, settings)

    def _run_head(self, protocol: str) -> tuple[Path, Predictions]:
        """Encode the clips that the cache lacks, and cross-validate the head."""
        recipe = self.recipe
        encoder = load_encoder(recipe.encoder, self.config.device, log=self.log, memory=self.artifacts.encoders)
        view = _view(recipe, encoder)
        for manifest in load_manifests(self.artifacts, recipe.datasets):
            extraction = extract_manifest(
                self.artifacts,
                manifest,
                encoder,
                view.split("+") if view else VIEWS,
                skip_bad=True,
                progress=self.progress,
            )
        comparison = ComparisonConfig(
            datasets=recipe.datasets,
            encoders=(extraction.store.name,),
            heads=(recipe.head,),
            protocol=protocol,
            folds=self.folds,
            labels=recipe.labels,
            views=(view,) if view else (),
            frames=recipe.frames,
        )
        folder, (predictions,) = run_comparison(self.artifacts, comparison, self.config.jobs, self.progress, self.log)
        return folder, predictions

    def _run_finetuning(self, protocol: str, settings: FinetuneSettings) -> tuple[Path, Predictions]:
        """Fine-tune the encoder once for each fold."""
        recipe, config = self.recipe, self.config
        finetuning = FinetuneConfig(
            datasets=recipe.datasets,
            encoder=recipe.encoder,
            protocol=protocol,
            folds=self.folds,
            labels=recipe.labels,
            settings=settings,
        )
        result = finetune(self.artifacts, finetuning, None, config.device, config.resume, self.progress, self.log)
        if result.run is None:
            raise DataError(f"{recipe.name}: protocol '{protocol}' gave no run. Use one of `ser protocols`.")
        return result.run, result.predictions[0]


def _view(recipe: Recipe, encoder: Encoder) -> str:
    """Return the view that the head reads, `blocks` spelled out as `frames:1+frames:2+…`; "" for the head's own."""
    if recipe.view != BLOCKS:
        return recipe.view
    if encoder.info.n_layers < 2:
        raise DataError(
            f"{recipe.name} averages the blocks of a network; '{recipe.encoder}' has none. Use another --encoder."
        )
    return "+".join(f"{FRAMES}:{layer}" for layer in range(1, encoder.info.n_layers))


def _honest_protocol(runner: _Runner) -> str:
    """Return the speaker-independent protocol: `official` if possible, otherwise `speakers`.

    `official` needs one dataset with published folds and all their speakers. It is not used where encoders are
    fine-tuned quickly, because its number of folds is fixed.
    """
    recipe = runner.recipe
    manifests = load_manifests(runner.artifacts, recipe.datasets)
    spec = registry.find(recipe.datasets[0]) if len(manifests) == 1 else None
    published = {speaker for fold in (spec.official_folds if spec else ()) for speaker in fold}
    here = {clip.speaker for clip in manifests[0].usable}
    quick_finetuning = runner.config.quick and recipe.finetune
    return "official" if published and published <= here and not quick_finetuning else "speakers"


def _column(title: str, predictions: Predictions, folder: Path) -> Column:
    scores = {
        interval.metric: (100 * interval.value, 100 * interval.low, 100 * interval.high)
        for interval in intervals(predictions)
        if interval.metric in METRICS
    }
    return Column(
        title=title,
        protocol=predictions.protocol,
        folds=len(set(predictions.folds.tolist())),
        leaks=predictions.leaks or "none found",
        scores=scores,
        run=folder.name,
    )


def _differences(recipe: Recipe, used: Recipe, quick: bool, gaps: Sequence[Gap]) -> tuple[str, ...]:
    """Return in what a run differs from the published system. Clips that are faulty as published do not count."""
    lines = [f"without {gap.text}" for gap in gaps if not gap.is_published]
    if used.encoder != recipe.encoder:
        lines.append(f"encoder {used.encoder} instead of {recipe.encoder}")
    if used.datasets != tuple(sorted(recipe.datasets)):
        lines.append(f"{', '.join(used.datasets)} instead of {', '.join(recipe.datasets)}")
    if quick:
        changes = {"folds": recipe.quick.folds, "frames": recipe.quick.frames, **recipe.quick.finetune}
        settings = "".join(f", {name} {value}" for name, value in changes.items() if value is not None)
        lines.append(f"quick: at most {count(recipe.quick.clips, 'clip')} of each speaker and label{settings}")
    return tuple(lines)


def _protocol_text(column: Column) -> str:
    return f"{column.protocol}, {column.folds} folds" if column.folds > 1 else column.protocol


def _score_text(column: Column, metric: str) -> str:
    value, low, high = map(_percent_text, column.scores[metric])
    return f"{value} ({low}–{high})" if low else value


def _percent_text(percent: float) -> str:
    return "" if math.isnan(percent) else f"{percent:.1f}"


def _save(result: Reproduction) -> None:
    """Write `reproduction.csv` and `reproduction.json` into the folder of the run with speakers held out."""
    content = {
        "recipe": asdict(result.recipe),
        "is_reproduction": not result.differences,
        "differs": result.differences,
        "missing": result.missing,
        "runs": {column.title: column.run for column in result.columns},
    }
    texts = {"reproduction.csv": csv_text(_csv_rows(result)), "reproduction.json": json.dumps(content, indent=1)}
    for name, text in texts.items():
        with atomic_write(result.folder / name) as file:
            file.write(text)


def _csv_rows(result: Reproduction) -> list[Sequence[Any]]:
    """Return the header, a row for each claimed score, and a row for each measured score, with the digits shown."""
    name = result.recipe.name
    claims = [
        (name, "claimed", "", "", "", metric, f"{value:.2f}", "", "", "")
        for metric, value in result.recipe.claims.items()
    ]
    measured = [
        (name, c.title, c.protocol, c.folds, c.leaks, metric, *map(_percent_text, scores), c.run)
        for c in result.columns
        for metric, scores in c.scores.items()
    ]
    return [CSV_COLUMNS, *claims, *measured]
