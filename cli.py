"""The `ser` command: parses, calls, prints. What the commands do is in `embedcache` and `classifiers`.

Results go to standard output, progress and notes to standard error. Exit codes: 0 done, 1 an error with one message,
2 wrong usage, 141 the reader of a pipe has gone. Heavy imports are made inside the commands, so that `ser --help` is
quick.
"""

from __future__ import annotations

import io
import json as json_module
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from classifiers.workflows.configurations import LABELS, SAME_NAMES, ComparisonConfig, CrossConfig, ProtocolConfig
from embedcache.artifacts import Artifacts
from embedcache.configuration import between_0_and_1, options_from, split_names
from embedcache.errors import AudioError, ConfigError, DataError, SerError, StoreError
from embedcache.exchange import is_vector_file
from embedcache.files.standard_streams import run_guarded
from embedcache.finetune.settings import FinetuneSettings
from embedcache.manifest import MIX, parse_channel
from embedcache.progress import terminal
from embedcache.terminal import (
    console,
    note,
    note_skipped,
    print_datasets,
    print_download,
    print_extraction,
    print_import,
    print_repair,
    print_table,
    skipped_lines,
)
from embedcache.text import count, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifiers.evaluation.leaderboard import Row

app = typer.Typer(
    name="ser",
    help="Speech emotion recognition: embed every clip once, compare classifiers on speakers they were not trained on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The tasks by which `ser --help` and the reference group commands. docs/reference/examples.toml has an example of each.
START, DATA, EMBED, COMPARE = "Start", "Get data", "Embed", "Compare"
REPORT, USE, SHARE, MAINTAIN = "Report", "Fit and use", "Share", "Maintain the cache"

cache = typer.Typer(no_args_is_help=True, help="Inspect, check and repair the cache; import and export vectors.")
app.add_typer(cache, name="cache", rich_help_panel=MAINTAIN)

RUN = "run.json"  # file of a run that lists, among others, the skipped clips
CTRL_C, USAGE = 130, 2  # exit codes: typer's for an interrupt that no command has handled; wrong usage


def channel_name(value: str) -> str:
    """An option's value. Raises BadParameter, exit code 2, if it is no name of a channel."""
    try:
        parse_channel(value)
    except DataError as error:
        raise typer.BadParameter(str(error)) from error
    return value


ArtifactsOption = Annotated[
    Path | None, typer.Option("--artifacts", help="Output folder.", show_default="$SER_ARTIFACTS or artifacts")
]
RootOption = Annotated[
    Path | None,
    typer.Option("--root", help="Folder or CSV of the dataset.", show_default="$SER_DATA/<dataset> or data/<dataset>"),
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Number of processes.", show_default="all cores")]
StoresArgument = Annotated[
    list[str] | None, typer.Argument(help="Stores or encoders, as `ser cache ls` names them.", show_default="all")
]
DatasetsOption = Annotated[
    list[str] | None,
    typer.Option(help="Extracted datasets, separated by commas or repeated.", show_default="the only one"),
]
KeepOption = Annotated[
    bool, typer.Option("--keep-known-faults", help="Keep clips with known faults, which are left out by default.")
]
ChannelOption = Annotated[
    str,
    typer.Option(callback=channel_name, help="Channel: left, right, mix, or a number from 0.", show_default=MIX),
]
SpeakersOption = Annotated[bool, typer.Option("--speakers-are-clips", help="Every clip has its own speaker.")]
ClusterOption = Annotated[
    str | None, typer.Option(help="Ray cluster: local, auto or HOST:PORT.", show_default="this process")
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[str, typer.Option(help="Precision of the matrix products: fp32, bf16 or fp16.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as one JSON document.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue a fine-tuning that was stopped.")]
RunsArgument = Annotated[list[str] | None, typer.Argument(help="Runs, by name or folder.", show_default="all")]


def main() -> None:
    """Run the command line, and end with its exit code."""
    sys.exit(run_guarded(exit_code))


def exit_code() -> int:
    """Run the command line, and return its exit code. A SerError becomes one message and 1, a ConfigError 2."""
    try:
        app()
    except SystemExit as end:
        if end.code == CTRL_C:
            note("error: stopped. Stored vectors are kept; an unfinished comparison is not. Run the command again.")
            return 1
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SerError as error:
        note(f"error: {error}")
        return USAGE if isinstance(error, ConfigError) else 1
    return 0


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Speech emotion recognition: embed every clip once, compare classifiers on speakers they were not trained on."""
    if show:
        from embedcache import __version__

        print(f"ser {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=START)
def quickstart(artifacts: ArtifactsOption = None) -> None:
    """Run the whole pipeline on a synthetic sample, without a download, in under a minute."""
    print("These voices are synthetic: scores show that the pipeline works, but say nothing about emotion.", flush=True)
    from classifiers.reporting.html_report import write_report
    from classifiers.workflows.quickstart import next_steps
    from classifiers.workflows.quickstart import quickstart as run

    place = Artifacts(Artifacts.at(artifacts).root / "quickstart")
    rows = run(place, terminal, log=lambda line: print(line, flush=True))
    show(rows)
    runs = list(dict.fromkeys(row.run for row in rows))
    for name in runs:
        print(f"leaderboard: {place.runs / name / 'leaderboard.csv'}")
    print(f"report, for a browser: {write_report(place, runs, None, True, terminal)}")
    print(f"\n{next_steps(place)}")


@app.command(rich_help_panel=DATA)
def datasets() -> None:
    """List the datasets: clips, speakers, labels, licence, citation and source of each."""
    from embedcache import datasets as registry

    print_datasets(registry.all())


@app.command(rich_help_panel=EMBED)
def encoders(
    name: Annotated[str | None, typer.Argument(help="List the names of this encoder's features.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="List the training data of published checkpoints.")
    ] = False,
) -> None:
    """List the built-in encoders, and the families whose checkpoints are encoders, too."""
    from embedcache.encoders import listing

    if name and published:
        raise typer.BadParameter("--published lists checkpoints; leave the name of an encoder out.")
    if name or published:
        print_table(*(listing.list_features(name) if name else listing.list_published()))
        return
    print_table(*listing.list_encoders())
    note(listing.families_text())


@app.command(rich_help_panel=EMBED)
def check(
    encoder: Annotated[str, typer.Argument(help="Encoder: a name, a checkpoint folder or a hub id[@revision].")],
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    json: JsonOption = False,
) -> None:
    """Check an encoder on this machine: its vectors, speed and memory. Exit code 1 if a bound is broken."""
    from embedcache.checking.run import check as run
    from embedcache.checking.terminal_table import show_check

    result = run(encoder, device, precision, terminal, note)
    if json:
        print(json_module.dumps(result.to_dict(), indent=1), flush=True)
    else:
        show_check(result)
    result.refuse_broken()


@app.command(rich_help_panel=COMPARE)
def heads() -> None:
    """List the heads: the view that each head reads, its description and its source."""
    from classifiers import heads as registry

    print_table(("name", "reads", "about", "source"), ((h.name, h.view, h.about, h.source) for h in registry.all()))


@app.command(rich_help_panel=COMPARE)
@options_from(ProtocolConfig)
def protocols(
    config: ProtocolConfig,
    write: Annotated[Path | None, typer.Option(help="Write folds to this CSV; - is standard output.")] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """List the protocols: how each splits clips into folds, and whether it is speaker-independent. Or write folds."""
    if write:
        from classifiers.workflows.fold_choice import write_folds

        write_folds(Artifacts.at(artifacts), config, write, note)
        return
    if config != ProtocolConfig():
        raise typer.BadParameter("these options belong to --write FILE, which writes the folds of a protocol.")
    from classifiers import PROTOCOLS

    print_table(("name", "promise", "about"), ((name, p.promise, p.about) for name, p in PROTOCOLS.items()))


@app.command(rich_help_panel=DATA)
def download(
    name: Annotated[str, typer.Argument(help="Dataset; see `ser datasets`.")],
    root: Annotated[
        Path | None, typer.Option(help="Target folder.", show_default="$SER_DATA/<dataset> or data/<dataset>")
    ] = None,
) -> None:
    """Download a dataset, check its checksums and unpack it. Files that are complete are not downloaded again."""
    from embedcache import datasets as registry
    from embedcache.download.dataset import download as run

    spec = registry.get(name)
    try:
        result = run(spec, root, terminal)
    except KeyboardInterrupt:
        raise SerError("stopped: complete files remain. Run the same command again to continue.") from None
    print_download(spec, result)


@app.command(rich_help_panel=DATA)
def audit(
    dataset: Annotated[str, typer.Option(help="Dataset; see `ser datasets`.")],
    root: RootOption = None,
    json: JsonOption = False,
    keep_known_faults: KeepOption = False,
    speakers_are_clips: SpeakersOption = False,
    channel: ChannelOption = "",
) -> None:
    """Check the recordings of a dataset before they are extracted. Exit code 1 if there is a fault."""
    from embedcache import audit as run
    from embedcache import datasets as registry
    from embedcache.auditing.terminal_table import show_audit

    found = run(registry.get(dataset), root, terminal, keep_known_faults, speakers_are_clips, channel)
    if json:
        print(json_module.dumps(found.to_dict(), indent=1), flush=True)
    else:
        show_audit(found, console())
    keep = " --keep-known-faults" * keep_known_faults + " --speakers-are-clips" * speakers_are_clips
    keep += f" --channel {channel}" if channel else ""
    then = f"ser extract --dataset {dataset} --root {shlex.quote(found.root)}{keep}"
    if found.faults:
        raise DataError(f"{count(len(found.faults), 'fault')}. Correct these faults where possible, then run: {then}")
    note(f"Next: {one_line(then)}")


@app.command(rich_help_panel=EMBED)
def extract(
    dataset: Annotated[str, typer.Option(help="Dataset; see `ser datasets`.")],
    root: RootOption = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder: a name (see `ser encoders`), a checkpoint folder or a hub id[@revision].")
    ] = "wav2vec2-base",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    views: Annotated[
        str, typer.Option(help="Views, separated by commas: pooled, layers, std, frames, frames:N, frames:all.")
    ] = "pooled,layers",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out unusable clips, and list them in a file.")
    ] = False,
    keep_known_faults: KeepOption = False,
    speakers_are_clips: SpeakersOption = False,
    channel: ChannelOption = "",
    augment: Annotated[
        str | None,
        typer.Option(help="Transforms of augmented copies: noise, pitch, stretch, gain.", show_default="none"),
    ] = None,
    copies: Annotated[int | None, typer.Option(min=1, help="Augmented copies of each clip.", show_default="1")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the copies.", show_default="0")] = None,
    cluster: ClusterOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Run a frozen encoder over every clip once, and store the vectors in the cache."""
    from embedcache import Augmentation
    from embedcache.cache.dataset_extraction import extract_dataset, peak_memory

    result = extract_dataset(
        Artifacts.at(artifacts),
        dataset,
        root,
        encoder,
        device,
        precision,
        split_names(views),
        skip_bad=skip_bad,
        keep_known_faults=keep_known_faults,
        speakers_are_clips=speakers_are_clips,
        channel=channel,
        augmentation=Augmentation.from_options(split_names(augment) if augment is not None else None, copies, seed),
        cluster=cluster,
        progress=terminal,
        log=note,
    )
    print_extraction(result, augment or "", peak_memory())


@app.command(rich_help_panel=EMBED)
@options_from(FinetuneSettings)
def finetune(
    *,
    dataset: DatasetsOption = None,
    root: RootOption = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder to start from: a name, a checkpoint folder or a hub id[@revision].")
    ] = "wav2vec2-base",
    labels: Annotated[str, typer.Option(help=LABELS)] = "native",
    protocol: Annotated[
        str,
        typer.Option(help="Fine-tune once for each fold of this protocol.", show_default="one checkpoint of all clips"),
    ] = "",
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    config: FinetuneSettings,
    same_names: Annotated[str, typer.Option(help=SAME_NAMES, show_default="an error if there are any")] = "",
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Checkpoint folder.", show_default="below artifacts/checkpoints")
    ] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Fine-tune an encoder. The result is a checkpoint for `ser extract` and, with --protocol, a leaderboard row."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.workflows.finetuning import FinetuneConfig
    from classifiers.workflows.finetuning import finetune as run
    from embedcache import dataset_manifest
    from embedcache.finetune.training import is_first

    if root and len(split_names(dataset)) != 1:
        raise typer.BadParameter("--root is the folder of one dataset. Name that dataset with --dataset.")
    place = Artifacts.at(artifacts)
    manifests = [dataset_manifest(name, place, root, terminal) for name in split_names(dataset)]
    for line in (line for manifest in manifests for line in manifest.notes):
        note(f"note: {line}")
    names = tuple(manifest.dataset for manifest in manifests)
    request = FinetuneConfig(names, encoder, protocol, folds, labels, config, same_names)
    try:
        result = run(place, request, out, device, resume, terminal, note)
    except KeyboardInterrupt:
        raise SerError(
            "stopped: complete epochs remain. The same command with --resume continues from there."
        ) from None
    if not is_first():
        return
    if result.run:
        show(rows_of(result.predictions))
        note_skipped(result.predictions[0].dataset, result.predictions[0].skipped, result.run / RUN)
        print(f"\nrun: {result.run}")
    print("\n".join(f"checkpoint: {folder}" for folder in result.checkpoints))
    checkpoint = shlex.quote(str(result.checkpoints[0]))
    note(f"Next: ser extract --encoder {checkpoint} --dataset D, where D has other speakers than the training data")


@app.command(rich_help_panel=COMPARE)
def reproduce(
    name: Annotated[str | None, typer.Argument(help="Recipe of a published system.", show_default="list all")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Datasets instead of the recipe's.", show_default="the recipe's")
    ] = None,
    root: RootOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder instead of the recipe's.", show_default="the recipe's")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use few clips and epochs, which takes minutes.")] = False,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    jobs: JobsOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Run a published system under its own protocol and on new speakers, and compare both with its claim."""
    from classifiers.reproduction import recipe as recipes
    from classifiers.reproduction import reproduce as reproducing

    place = Artifacts.at(artifacts)
    if name is None:
        print_table(*reproducing.list_recipes(place))
        return
    config = reproducing.ReproductionConfig(encoder, split_names(dataset), root, quick, device, resume, jobs)
    try:
        result = reproducing.reproduce(place, recipes.recipe(name), config, terminal, note)
    except KeyboardInterrupt:
        raise SerError("stopped: stored vectors and complete epochs are kept; continue with --resume.") from None
    print_table(("system", "claimed", "its-protocol", "new-speakers"), result.table())
    for line in result.notes():
        note(line)
    note(f"run: {result.folder} (reproduction.csv, reproduction.json, leaderboard.csv)")


@app.command(rich_help_panel=COMPARE)
@options_from(ComparisonConfig)
def compare(
    config: ComparisonConfig, jobs: JobsOption = None, cluster: ClusterOption = None, artifacts: ArtifactsOption = None
) -> None:
    """Cross-validate heads on extracted encoders, and write a leaderboard. Several datasets are combined into one."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.reporting.terminal_tables import show_labels
    from classifiers.workflows.comparison import run_comparison

    run, predictions = run_comparison(Artifacts.at(artifacts), config, jobs, terminal, note, cluster)
    show_labels(run)
    show(rows_of(predictions))
    for name, skipped in {p.dataset: p.skipped for p in predictions}.items():
        note_skipped(name, skipped, run / RUN)
    print(f"\nrun: {run} (leaderboard.csv, intervals.csv, per_label.csv, predictions.csv, pictures)")
    note(f"Next: ser report {run.name}")


@app.command(rich_help_panel=COMPARE)
@options_from(CrossConfig)
def cross(
    config: CrossConfig,
    every: Annotated[bool, typer.Option("--all", help="Train and test on every extracted dataset.")] = False,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Train heads on one dataset and test them on another, over the labels that both have."""
    if every == bool(config.train or config.test) or bool(config.train) != bool(config.test):
        raise typer.BadParameter("wanted both --train and --test, or --all alone.")
    from classifiers.reporting.terminal_tables import show_cross, show_labels
    from classifiers.workflows.cross_corpus import cross as run_cross

    run, rows = run_cross(Artifacts.at(artifacts), config, jobs, terminal, note, cluster)
    show_labels(run)
    show_cross(rows, console())
    print(f"\nrun: {run} (cross.csv, leaderboard.csv, predictions.csv, a picture for each head)")


@app.command(rich_help_panel=REPORT)
def leaderboard(
    runs: RunsArgument = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this CSV file, too.")] = None,
    metric: Annotated[
        str, typer.Option(help="Metric that ranks the rows: uar, a scorer of scikit-learn, or your own.")
    ] = "uar",
    critical: Annotated[
        Path | None,
        typer.Option(
            help="Draw the critical-difference diagram over several datasets to this PNG file, and as SVG and PDF."
        ),
    ] = None,
    form: Annotated[
        Literal["markdown", "latex", "csv", "json"] | None,
        typer.Option("--format", help="Format of the output.", show_default="a table; csv through a pipe"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Names of columns, separated by commas or repeated.", show_default="the usual"),
    ] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Print the rows of all runs, ranked: as a table, as CSV through a pipe, or as --format says."""
    from classifiers.evaluation.leaderboard import chosen_columns, latest, to_csv
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.evaluation.run_folder import load_runs
    from classifiers.reporting.paper_tables import TO_TEXT
    from embedcache.files.atomic import atomic_write
    from embedcache.files.existing import begins_with, check_replaceable

    names = chosen_columns(split_names(columns))
    found = load_runs(Artifacts.at(artifacts), runs or [], note)
    rows = rows_of(latest(found), metric, terminal)
    if csv:
        check_replaceable(csv, begins_with(b"rank,head,encoder,"), note, SerError, "--csv")
        with atomic_write(csv) as file:
            file.write(to_csv(rows))
    if form or not sys.stdout.isatty():
        sys.stdout.write(TO_TEXT[form or "csv"](rows, names))
    else:
        show(rows, names)
    sys.stdout.flush()
    if critical:
        from classifiers.evaluation.critical_difference import rank_heads, summary_lines
        from classifiers.reporting.figures import save_critical_figure

        result = rank_heads(rows)
        save_critical_figure(critical, result)
        note("\n  ".join([f"critical differences: {critical}", *summary_lines(result)]))
    if len(rows) < len(found):
        note(f"note: {len(found) - len(rows)} rows of earlier runs are left out, because later runs repeat them.")


@app.command(rich_help_panel=REPORT)
def cite(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, by name or folder.", show_default="the latest")
    ] = None,
    form: Annotated[
        Literal["text", "latex", "bibtex"],
        typer.Option("--format", help="Format: sentences and BibTeX, sentences for LaTeX, or BibTeX alone."),
    ] = "text",
    artifacts: ArtifactsOption = None,
) -> None:
    """Print sentences about the methods of runs, for a paper, and the BibTeX of what they used."""
    from classifiers.citing.methods import cite as run

    sys.stdout.write(run(Artifacts.at(artifacts), runs or [], form))


@app.command(rich_help_panel=REPORT)
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, by name or folder.", show_default="the latest")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file.", show_default="report.html in the first run")] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Include the sound of the hardest clips.")] = True,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures, too: PNG, SVG and PDF for papers.", show_default="none")
    ] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Write one HTML page on runs, for offline use: scores, confusion matrices, calibration, hardest clips."""
    from classifiers.reporting.html_report import write_figures, write_report

    place = Artifacts.at(artifacts)
    print(write_report(place, runs or [], out, audio, terminal, note))
    if figures:
        note(f"{count(len(write_figures(place, runs or [], figures, terminal)), 'file')}: {figures}")


@app.command(rich_help_panel=USE)
@options_from(ComparisonConfig, shown={"heads": "the best of the latest comparison", "encoders": "the only one"})
def fit(
    config: ComparisonConfig,
    jobs: JobsOption = None,
    out: Annotated[Path | None, typer.Option(help="Model folder.", show_default="below artifacts/models")] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Cross-validate one head, then fit it on all clips and save the model."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.reporting.terminal_tables import show_labels
    from classifiers.workflows.fitting import fit_model

    place = Artifacts.at(artifacts)
    model, card, predictions = fit_model(place, config, out, jobs, terminal, note)
    show_labels(place.runs / card.score["run"])
    show(rows_of(predictions))
    note_skipped(predictions[0].dataset, predictions[0].skipped, place.runs / card.score["run"] / RUN)
    print(f"\nmodel: {model}, fitted on all {card.n_clips} clips\nrun:   {place.runs / card.score['run']}")
    vectors = "VECTORS.npz" if card.is_of_imported else "CLIP.wav"
    note(f"Next: ser predict {one_line(str(model))} {vectors}")


@app.command(rich_help_panel=SHARE)
def push(
    run: Annotated[str, typer.Argument(help="Run, by name or folder.", show_default="the latest")] = "",
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Push to MLflow, by default at MLFLOW_TRACKING_URI.")
    ] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Push to Weights & Biases, by default WANDB_PROJECT.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files for TensorBoard.")] = False,
    to: Annotated[
        str,
        typer.Option(help="Tracking URI, project or log folder.", show_default="the tracker's own, or ./tensorboard"),
    ] = "",
    artifacts: ArtifactsOption = None,
) -> None:
    """Copy a run into a tracker: one run of the tracker for each row of the leaderboard."""
    chosen = [name for name, on in (("mlflow", mlflow), ("wandb", wandb), ("tensorboard", tensorboard)) if on]
    if len(chosen) != 1:
        raise typer.BadParameter("wanted one of --mlflow, --wandb and --tensorboard.")
    from classifiers.tracking.push import push as run_push

    done = run_push(Artifacts.at(artifacts), run, chosen[0], to)
    print(f"{done.place}: pushed: {count(done.new, 'row')}; there already: {count(done.present, 'row')}")


@app.command(rich_help_panel=USE)
def predict(
    model: Annotated[Path, typer.Argument(help="Model folder, written by `ser fit` or `ser finetune`, or hub id.")],
    audio: Annotated[
        list[str], typer.Argument(help="Audio files, folders or quoted patterns; - for standard input; or vectors.")
    ],
    also: Annotated[list[Path] | None, typer.Option("--with", help="Further model folder to average with.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Length of windows in seconds; one line for each.", show_default="whole files")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds between the starts of windows.", show_default="1")] = None,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate in Hz of raw 16-bit little-endian mono sound on standard input.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    abstain_below: Annotated[
        float | None, typer.Option(callback=between_0_and_1, help="Confidence below which a prediction is `not sure`.")
    ] = None,
    channel: ChannelOption = "",
    speaker: Annotated[str, typer.Option(help="Enrolled speaker, see `ser enrol`.", show_default="none")] = "",
    device: DeviceOption = "auto",
) -> None:
    """Print the label and all probabilities of recordings: a table on a terminal, CSV or JSON lines through a pipe."""
    from classifiers import Predictor, Windows
    from classifiers.inference.audio_files import STDIN, FileResult, find_audio, predict_files, predict_raw
    from classifiers.inference.printing import output_format, print_predictions, print_vector_predictions

    if any(map(is_vector_file, audio)):
        if not all(map(is_vector_file, audio)) or any([also, window, hop, rate, channel]):
            raise typer.BadParameter("got vectors and recordings, or options for recordings. Give vectors alone.")
        print_vector_predictions(model, audio, json, abstain_below, speaker)
        return

    windows = None if window is None and hop is None else Windows.from_options(window, hop)
    if rate is not None and (audio != [STDIN] or channel):
        raise typer.BadParameter("--rate is for raw sound of one channel. Give - as the only file, and no --channel.")
    found, pipe = find_audio(audio), sys.stdin.buffer if sys.stdin else None
    if found.passed_over:
        note(f"note: {one_line(found.note())}.")
    predictor = Predictor.load(model, *(also or []), device=device, speaker=speaker)
    for line in predictor.notes(channel or ("" if rate is None else "raw")):
        note(f"note: {line}.")
    if rate is None:
        chosen = parse_channel(channel or predictor.channel)
        results = predict_files(predictor, found.paths, windows, abstain_below, pipe, chosen)
    else:
        raw = predict_raw(predictor, pipe or io.BytesIO(), rate, windows, abstain_below)
        results = (FileResult(p.path, (p,)) for p in raw)
    output = output_format(predictor.labels, found.paths, windows is not None, json)
    failed = print_predictions(results, output, abstain_below)
    if failed:
        raise AudioError(
            f"{failed} of {len(found.paths)} files have no prediction; the messages above give the reasons."
        )


@app.command(rich_help_panel=USE)
def enrol(
    model: Annotated[Path, typer.Argument(help="Model folder, written by `ser fit --adapt N`.")],
    name: Annotated[str, typer.Argument(help="Name of the speaker, for `ser predict --speaker`.")],
    audio: Annotated[
        list[str], typer.Argument(help="Clips of the speaker, or folders: different emotions, no labels.")
    ],
    device: DeviceOption = "auto",
) -> None:
    """Keep the statistics of a speaker's clips beside a model, to adapt its predictions. No sound is kept."""
    from classifiers.inference.audio_files import find_audio
    from classifiers.inference.enrolment import enrol as run
    from classifiers.inference.enrolment import enrolled_text

    path, clips = run(model, name, find_audio(audio).paths, device)
    print(enrolled_text(name, clips, path))


@app.command(rich_help_panel=USE)
def demo(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Model folders to compare.", show_default="the latest model")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; all but this machine's own need --auth.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free port.")] = 7860,
    auth: Annotated[str, typer.Option(envvar="SER_AUTH", help="USER:PASSWORD that the page and the API require.")] = "",
    keep: Annotated[
        Path | None, typer.Option(help="Folder to keep recordings in.", show_default="recordings are not kept")
    ] = None,
    speaker: Annotated[str, typer.Option(help="Enrolled speaker, see `ser enrol`.", show_default="none")] = "",
    device: DeviceOption = "auto",
    artifacts: ArtifactsOption = None,
) -> None:
    """Serve a web page and an HTTP API that predict files and live sound, by default only on this machine."""
    from classifiers.serving import need_serve

    need_serve("demo")
    from classifiers.demo.choose_models import models_for
    from classifiers.demo.server import serve as serve_page
    from classifiers.serving.access import check_password
    from classifiers.serving.server import listen_on
    from classifiers.serving.service import PredictionService

    check_password(host, auth)
    with listen_on(host, port) as listening:
        loaded, banner = models_for(models or [], Artifacts.at(artifacts), device, note, speaker)
        service = PredictionService(loaded, keep, log=note)
        serve_page(service, listening, auth, banner, lambda line: print(line, flush=True))


@app.command(rich_help_panel=USE)
def serve(
    models: Annotated[list[Path], typer.Argument(help="Model folders, written by `ser fit` or `ser finetune`.")],
    host: Annotated[str, typer.Option(help="Address; all but this machine's own need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free port.")] = 8000,
    auth: Annotated[
        str, typer.Option(envvar="SER_TOKEN", help="Bearer token that requests need, or @FILE that holds it.")
    ] = "",
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; further ones get 503.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Serve models over HTTP, for other programs: files, long recordings, live sound. See /docs of the server."""
    from classifiers.serving import need_serve

    need_serve()
    from classifiers.inference.model import load_models
    from classifiers.serving.access import read_token
    from classifiers.serving.server import listen_on
    from classifiers.serving.server import serve as serve_models
    from classifiers.serving.service import PredictionService

    token = read_token(host, auth)
    with listen_on(host, port) as listening:
        service = PredictionService(load_models(models, device), max_waiting=max_waiting, log=note)
        serve_models(service, listening, token, lambda line: print(line, flush=True))


@app.command("export", rich_help_panel=SHARE)
def export_model(
    model: Annotated[Path, typer.Argument(help="Model folder, written by `ser fit`.")],
    onnx: Annotated[bool, typer.Option("--onnx", hidden=True)] = False,  # earlier versions required it
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Export the encoder, too; not for heads that read frames.")
    ] = False,
    hub: Annotated[
        str, typer.Option(help="Write a repository of the Hugging Face Hub with this name, such as user/model.")
    ] = "",
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload the repository of --hub; a new one is private.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="New folder.", show_default="MODEL/onnx or MODEL/hub")] = None,
) -> None:
    """Write a model as ONNX for other programs, and check that it predicts as `ser predict` does; or for the Hub."""
    if (upload and not hub) or (hub and encoder):
        raise typer.BadParameter("--upload needs --hub, and --encoder excludes it.")
    if hub:
        from classifiers.export import hub_folder

        written = hub_folder.write_hub_folder(model, hub, out)
        print(f"{written.folder}: {', '.join(written.files)}", flush=True)
        for line in written.notes:
            note(f"note: {line}")
        if upload:
            print(hub_folder.upload(written))
        else:
            note(f"Next: {one_line(written.upload_command)}")
        return
    from classifiers.export.onnx_export import export_onnx

    result = export_onnx(model, encoder, out, note)
    print(f"{result.folder}: {', '.join(result.files)}")
    print(f"largest difference of a probability from `ser predict`: {result.difference:.1e}")
    if result.vector_difference is not None:
        print(f"largest difference of vectors, relative to their largest number: {result.vector_difference:.1e}")


@cache.command("ls")
def cache_ls(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """List the stores, with the views, clips, hours and size of each."""
    from embedcache.cache.listing import COLUMNS, list_stores

    rows, faults = list_stores(Artifacts.at(artifacts), stores or ())
    print_table(COLUMNS, rows)
    for fault in faults:
        note(f"fault: {fault}")


@cache.command("verify")
def cache_verify(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Check every checksum. Exit code 1 if one is wrong."""
    from embedcache.cache.listing import stores_named
    from embedcache.cache.maintenance import verify

    faults = 0
    for folder in stores_named(Artifacts.at(artifacts), stores or ()):
        complaints = verify(folder, terminal)
        print("\n  ".join([f"{folder.name}: {'sound' if not complaints else 'damaged'}", *complaints]), flush=True)
        faults += len(complaints)
    if faults:
        raise StoreError(
            f"{count(faults, 'fault')}. `ser cache repair` drops damaged rows, `ser extract` adds them again."
        )


@cache.command("repair")
def cache_repair(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Drop damaged rows, and list the clips to extract again."""
    from embedcache.cache.listing import manifests_in, stores_named
    from embedcache.cache.maintenance import clips_to_extract, repair

    place = Artifacts.at(artifacts)
    for folder in stores_named(place, stores or ()):
        mended = repair(folder, terminal)
        print_repair(folder, mended, clips_to_extract(folder, mended, manifests_in(place)))


@cache.command("compact")
def cache_compact(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Merge small shards, and shards that hold the same rows. Readers and writers may continue meanwhile."""
    from embedcache.cache.listing import stores_named
    from embedcache.cache.maintenance import compact

    for folder in stores_named(Artifacts.at(artifacts), stores or ()):
        merged = compact(folder, terminal)
        print(f"{folder.name}: shards: {merged.before}, now {merged.after}; freed: {merged.freed / 1e6:.1f} MB")


@cache.command("export")
def cache_export(
    out: Annotated[Path, typer.Argument(help="New .npz or .parquet file.")],
    dataset: Annotated[str | None, typer.Option(help="Extracted dataset.", show_default="the only one")] = None,
    encoder: Annotated[str | None, typer.Option(help="Extracted encoder.", show_default="the only one")] = None,
    views: Annotated[str, typer.Option(help="Views, separated by commas: pooled, layers, std.")] = "pooled,layers",
    artifacts: ArtifactsOption = None,
) -> None:
    """Write vectors together with the manifest's columns, for other programs."""
    from classifiers.data.listed_clips import load_manifest
    from embedcache.cache.store import whole_store
    from embedcache.exchange.export_vectors import check_export, export

    names = split_names(views)
    check_export(out, names, note)
    place = Artifacts.at(artifacts)
    manifest = load_manifest(place, dataset)
    store = whole_store(place.cache, manifest.dataset, [c.key for c in manifest.usable], encoder, names)
    exported = export(store, manifest, out, names, terminal)
    print(f"{out}: {exported} clips of {manifest.dataset}, {store.info.name}, {' and '.join(names)}")
    note_skipped(manifest.dataset, skipped_lines(manifest.skipped), place.manifest(manifest.dataset))


@cache.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="Vectors: .npz, .npy with a table beside it, .parquet or .csv.")],
    encoder: Annotated[str, typer.Option(help="Name of the encoder that computed the vectors.")],
    dataset: Annotated[str, typer.Option(help="Dataset, or a new name for a file with label and speaker.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the dataset.", show_default="not needed if it is extracted")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Table with one row for each vector.", show_default="X.csv for X.npy")
    ] = None,
    speakers_are_clips: SpeakersOption = False,
    artifacts: ArtifactsOption = None,
) -> None:
    """Store vectors that another program computed, so that heads can be compared on them."""
    from embedcache.dataset import comparison_options
    from embedcache.exchange.import_vectors import import_vectors

    place = Artifacts.at(artifacts)
    done = import_vectors(file, place, encoder, dataset, root, table, speakers_are_clips, terminal)
    print_import(file, encoder, done)
    options = comparison_options(done.manifest)
    note(f"Next: ser compare --dataset {done.manifest.dataset} --encoder {encoder}{options}")


@cache.command("rm")
def cache_rm(
    names: Annotated[list[str], typer.Argument(help="Stores, encoders or datasets, as `ser cache ls` names them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    artifacts: ArtifactsOption = None,
) -> None:
    """Remove stores, or the lists of clips of datasets. Runs and models stay."""
    from embedcache.cache.removal import find_removable, remove

    found = find_removable(Artifacts.at(artifacts), names)
    print("\n".join(one.about for one in found), flush=True)
    if not yes and not (sys.stdin and sys.stdin.isatty()):
        raise ConfigError("nothing is removed. Add --yes to remove these.")
    if not yes and not typer.confirm("Remove these?"):
        raise SerError("nothing is removed.")
    for one in found:
        remove(one)
    note(f"removed: {count(len(found), 'item')}")


def show(rows: list[Row], columns: Sequence[str] = ()) -> None:
    """Print a leaderboard, by default with the usual columns."""
    from classifiers.reporting.terminal_tables import show_leaderboard

    show_leaderboard(rows, console(), columns)


if __name__ == "__main__":
    main()
