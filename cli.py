"""The `ser` command: parses, calls, prints. What it does lies in `embedcache` and `classifiers`.

Results go to standard output, progress and notes to standard error. Exit codes: 0 done, 1 an error with one message,
2 usage. Heavy imports are made inside the commands, so that `ser --help` is quick.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from classifiers import Row, Windows
    from classifiers.inference.audio_files import FileResult
    from classifiers.inference.output_formats import OutputFormat
    from embedcache import Artifacts, Manifest, OnBytes

app = typer.Typer(
    name="ser",
    help="Speech emotion recognition: embed every clip once, compare classifiers on speakers they never heard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cache = typer.Typer(no_args_is_help=True, help="Look after the cache: what it holds, whether it is sound, in and out.")
app.add_typer(cache, name="cache")

CTRL_C = 130  # typer's exit code for an interrupt that no command has answered

ArtifactsOption = Annotated[
    Path | None, typer.Option("--artifacts", help="Output folder.", show_default="$SER_ARTIFACTS or artifacts")
]
RootOption = Annotated[
    Path | None, typer.Option("--root", help="Its folder.", show_default="$SER_DATA/<dataset>, data/<dataset>")
]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="all cores")]
StoresArgument = Annotated[
    list[str] | None, typer.Argument(help="Stores or encoders, as `ser cache ls` calls them.", show_default="all")
]
DatasetsOption = Annotated[
    list[str] | None, typer.Option(help="Extracted datasets, a,b,c or repeated.", show_default="the only one")
]
EncodersOption = Annotated[list[str] | None, typer.Option(help="Extracted encoders.", show_default="all")]
HeadsOption = Annotated[
    list[str] | None, typer.Option(help="Heads, a,b,c or repeated.", show_default="all but those over frames")
]
ProtocolOption = Annotated[str, typer.Option(help="How folds are cut; see `ser protocols`.")]
FoldsOption = Annotated[int, typer.Option(min=2, help="Folds, for `speakers` and `random`.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Repeat with this many seeds.")]
KeepOption = Annotated[bool, typer.Option("--keep-known-faults", help="Keep clips that were published faulty.")]
LabelsOption = Annotated[
    str, typer.Option(help="native, emotion, emotion6, emotion4, gender-emotion, or a CSV with the columns from,to.")
]
CopiesOption = Annotated[int, typer.Option(min=0, help="Augmented copies of each clip to train on, as extracted.")]
ViewsOption = Annotated[
    list[str] | None,
    typer.Option("--view", help="What heads read: layers+std, frames:6, …", show_default="each head's own"),
]
FramesOption = Annotated[
    int | None, typer.Option(min=1, help="Frames that clips are fitted to.", show_default="124; 216 of mfcc")
]
TuneOption = Annotated[int, typer.Option(min=0, help="Also choose among this many settings, by inner folds.")]
CalibrateOption = Annotated[bool, typer.Option("--calibrate", help="Scale probabilities, by inner folds.")]
ClusterOption = Annotated[
    str | None, typer.Option(help="Run on Ray: local, auto, HOST:PORT.", show_default="this process")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def between_0_and_1(value: float | None) -> float | None:
    """An option's value, or none. Raises BadParameter, exit code 2, for what is no probability between 0 and 1."""
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"got {value:g}; wanted a probability above 0 and below 1.")
    return value


def main() -> None:
    """Run the command line; a SerError becomes one message and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 loses a dash, not the result
    try:
        app()
    except SystemExit as end:
        if end.code == CTRL_C:
            note("error: stopped. What was stored before stays; a comparison is saved when it is complete.")
            sys.exit(1)
        raise
    except Exception as error:
        from embedcache import SerError

        if not isinstance(error, SerError):
            raise
        note(f"error: {error}")
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Speech emotion recognition: embed every clip once, compare classifiers on speakers they never heard."""
    if show:
        from embedcache import __version__

        print(f"ser {__version__}")
        raise typer.Exit


@app.command()
def quickstart(artifacts: ArtifactsOption = None) -> None:
    """The main job, start to end, on a synthetic sample: no download, under a minute."""
    print(
        "These voices are synthetic: the scores show only that the pipeline works, nothing about emotion.", flush=True
    )
    from classifiers.workflows.quickstart import quickstart as run
    from embedcache.progress import terminal

    place = place_of(artifacts, "quickstart")
    rows = run(place, terminal, log=lambda line: print(line, flush=True))
    show(rows)
    for name in dict.fromkeys(row.run for row in rows):
        print(f"leaderboard: {place.runs / name / 'leaderboard.csv'}")
    print("\nNext, with RAVDESS on disk (`ser datasets` says where to get it):")
    print("  ser extract --dataset ravdess --root DIR\n  ser compare --dataset ravdess --protocol official")


@app.command()
def datasets() -> None:
    """The datasets there are: clips, speakers, labels, licence, citation, where to get them."""
    from embedcache import datasets as registry

    for d in registry.all():
        counts = f"{d.n_clips} clips, {d.n_speakers} speakers, {len(d.labels)} labels: {', '.join(d.labels)}"
        print(f"{d.name}: {d.title}")
        print(f"  holds    {counts if d.n_clips else 'the clips, speakers and labels that you have'}")
        print(f"  licence  {d.licence}")
        print(f"  cite     {d.citation}")
        print(f"  get it   {f'ser download {d.name}; ' if d.remotes else ''}{d.apply or d.source}")
        print(f"  files    {d.layout}")
        if d.official_folds:
            print(f"  folds    {len(d.official_folds)} by speaker; {d.official_source}")


@app.command()
def encoders() -> None:
    """The encoders there are; a checkpoint folder or a hub id works too."""
    from embedcache import encoders as registry

    table("name checkpoint licence about", ((e.name, e.checkpoint, e.licence, e.about) for e in registry.all()))


@app.command()
def heads() -> None:
    """The heads there are."""
    from classifiers import heads as registry

    table("name reads about source", ((h.name, h.view, h.about, h.source) for h in registry.all()))


@app.command()
def protocols() -> None:
    """The ways to cut folds, and what they promise."""
    from classifiers import PROTOCOLS

    promises = {True: "speakers disjoint", False: "leaks speakers"}
    table("name promise about", ((n, promises[p.disjoint_speakers], p.about) for n, p in PROTOCOLS.items()))


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="See `ser datasets`.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder to put it into.", show_default="$SER_DATA/<dataset> or data/<dataset>")
    ] = None,
) -> None:
    """Fetch a dataset, check its checksums, unpack it; what is there is not fetched again."""
    from embedcache import SerError
    from embedcache import datasets as registry
    from embedcache.download.dataset import download as run
    from embedcache.progress import terminal

    spec = registry.get(name)
    try:
        got = run(spec, root, terminal)
    except KeyboardInterrupt:
        raise SerError("stopped: what is complete stays. The same command goes on from there.") from None
    unpacked = f", {got.unpacked} unpacked from archives" if got.unpacked else ""
    print(f"{spec.name}: {got.root} is complete")
    print(f"files fetched now: {got.fetched}{unpacked}; there before: {got.found}")
    print(f"licence: {spec.licence}\ncite:    {spec.citation}")
    note(f"Next: ser audit --dataset {spec.name} --root {got.root}")
    note(f"      ser extract --dataset {spec.name} --root {got.root}")


@app.command()
def audit(
    dataset: Annotated[str, typer.Option(help="See `ser datasets`.")],
    root: RootOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document with everything.")] = False,
    keep_known_faults: KeepOption = False,
) -> None:
    """Look for what is wrong with a dataset's files, before any extraction; exit code 1 where there is a fault."""
    from json import dumps

    from embedcache import DataError
    from embedcache import audit as run
    from embedcache import datasets as registry
    from embedcache.auditing.terminal_table import show_audit
    from embedcache.progress import terminal

    found = run(registry.get(dataset), root, terminal, keep_known_faults)
    if json:
        print(dumps(found.to_dict(), indent=1), flush=True)
    else:
        show_audit(found, console())
    keep = " --keep-known-faults" if keep_known_faults else ""
    then = f"ser extract --dataset {dataset} --root {shlex.quote(found.root)}{keep}"
    if found.faults:
        raise DataError(f"faults: {len(found.faults)}. Mend what can be mended, then: {then}")
    note(f"Next: {then}")


@app.command()
def extract(
    dataset: Annotated[str, typer.Option(help="See `ser datasets`.")],
    root: RootOption = None,
    encoder: Annotated[str, typer.Option(help="A name (see `ser encoders`), a folder or a hub id.")] = "wav2vec2-base",
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="Of the matrix products: fp32, bf16 or fp16.")] = "fp32",
    views: Annotated[
        str, typer.Option(help="Of pooled, layers, std, frames (the last layer's), frames:N, frames:all.")
    ] = "pooled,layers",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unusable clips out, and list them.")] = False,
    keep_known_faults: KeepOption = False,
    augment: Annotated[
        str | None, typer.Option(help="Also of copies: noise, pitch, stretch, gain.", show_default="no copies")
    ] = None,
    copies: Annotated[int | None, typer.Option(min=1, help="Copies of each clip.", show_default="1")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, other copies.", show_default="0")] = None,
    cluster: ClusterOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Run a frozen encoder over every clip once, and keep the vectors."""
    from embedcache import Augmentation, EmbeddingStore, SerError, copies_of, keyed_manifest, load_encoder
    from embedcache import datasets as registry
    from embedcache import extract as run
    from embedcache.cache.ray_extract import on_cluster
    from embedcache.encoder import resolve_views
    from embedcache.progress import terminal

    recipe = Augmentation.asked(None if augment is None else given(augment), copies, seed)
    place, spec = place_of(artifacts), registry.get(dataset)
    loop = on_cluster(cluster, encoder, device, precision) if cluster is not None else None
    found = spec.manifest(root, keep_known_faults)
    loaded = load_encoder(encoder, device, precision, log=note, memory=place.encoders)
    manifest = keyed_manifest(found, place, terminal)
    store = EmbeddingStore.of(place.cache, loaded.info)

    def stored(listed: Manifest, what: str) -> tuple[Manifest, OnBytes]:
        try:
            return run(listed, loaded, store, given(views), skip_bad, terminal, loop)
        except KeyboardInterrupt:
            keys = [clip.key for clip in listed.usable]
            lacking = set(store.missing(keys, resolve_views(given(views), loaded)))
            kept = f"{sum(key not in lacking for key in keys)} of {len(listed)} {what} are stored"
            raise SerError(f"stopped: {kept}. The same command goes on from there.") from None

    manifest, report = stored(manifest, "clips")
    tell_fewer(place, manifest)
    manifest.to_csv(place.manifest(manifest.dataset))
    if spec.n_clips and len(manifest) != spec.n_clips:
        note(f"note: {spec.name} has {spec.n_clips} clips when complete, this folder {len(manifest)}.")
    tell(report, store.folder, manifest.dataset, loaded.info.name)
    if recipe:
        made, report = stored(copies_of(manifest, recipe), "copies")
        made.to_csv(place.copies(made.dataset))
        print(f"{made.dataset}: {report.clips} copies ({augment}) have {loaded.info.name} vectors")
        print(f"encoded now: {report.encoded}; in the cache before: {report.cached}")
        tell_skipped(made.dataset, [f"{clip.clip_id}: {clip.extra['skipped']}" for clip in made.skipped], "copies")


@app.command()
def fit(
    head: Annotated[str, typer.Option(help="See `ser heads`.")],
    dataset: DatasetsOption = None,
    encoder: Annotated[str | None, typer.Option(help="Extracted encoder.", show_default="the only one")] = None,
    labels: LabelsOption = "native",
    copies: CopiesOption = 0,
    view: ViewsOption = None,
    frames: FramesOption = None,
    tune: TuneOption = 0,
    calibrate: CalibrateOption = False,
    protocol: ProtocolOption = "speakers",
    folds: FoldsOption = 5,
    seeds: SeedsOption = 1,
    jobs: JobsOption = None,
    out: Annotated[Path | None, typer.Option(help="Model folder.", show_default="below artifacts/models")] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Cross-validate one head, then fit it on all clips and save the model."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.workflows.comparison import ComparisonConfig
    from classifiers.workflows.fitting import fit_model
    from embedcache.progress import terminal

    asked = ComparisonConfig(
        given(dataset),
        given(encoder),
        given(head),
        protocol,
        folds,
        seeds,
        labels,
        copies,
        given(view),
        frames,
        tune,
        calibrate,
    )
    place = place_of(artifacts)
    model, card, predictions = fit_model(place, asked, out, jobs, terminal)
    show_labels(place.runs / card.score["run"])
    show(rows_of(predictions))
    tell_skipped(predictions[0].dataset, predictions[0].skipped)
    print(f"\nmodel: {model}, fitted on all {card.n_clips} clips\nrun:   {place.runs / card.score['run']}")
    note(f"Next: ser predict {model} CLIP.wav")


@app.command()
def finetune(
    dataset: DatasetsOption = None,
    root: RootOption = None,
    encoder: Annotated[str, typer.Option(help="To start from: a name, a folder or a hub id.")] = "wav2vec2-base",
    labels: LabelsOption = "native",
    protocol: Annotated[
        str, typer.Option(help="One checkpoint a fold, and a row.", show_default="one checkpoint of all clips")
    ] = "",
    folds: FoldsOption = 5,
    classifier: Annotated[str, typer.Option(help="mlp, or sequence: transformers' own.")] = "mlp",
    pooling: Annotated[str, typer.Option(help="Over frames: mean or attention.")] = "mean",
    hidden: Annotated[str, typer.Option(help="Units of the layers behind it, a,b; none: no layer.")] = "256",
    dropout: Annotated[float, typer.Option(help="Behind each of them.")] = 0.1,
    unfreeze: Annotated[
        str, typer.Option(help="encoder (all but the convolutions), all, or top:N blocks.")
    ] = "encoder",
    seconds: Annotated[float, typer.Option(help="Longer clips are cropped to this.")] = 5.0,
    epochs: Annotated[int, typer.Option(help="At most.")] = 15,
    batch_size: Annotated[int, typer.Option(help="Clips at once.")] = 16,
    accumulate: Annotated[int, typer.Option(help="Batches before a step.")] = 1,
    lr: Annotated[float, typer.Option(help="Learning rate, of AdamW.")] = 3e-5,
    layer_decay: Annotated[float, typer.Option(help="Of the rate, a block further down.")] = 1.0,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 0.01,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate grows.")] = 0.1,
    schedule: Annotated[str, typer.Option(help="Of the rate, then: linear, cosine, constant.")] = "linear",
    patience: Annotated[
        int, typer.Option(help="Epochs without a better UAR on development speakers; 0: none, and every epoch.")
    ] = 5,
    class_weights: Annotated[bool, typer.Option("--class-weights", help="Each label counts the same.")] = False,
    spec_augment: Annotated[
        float, typer.Option(help="Share of frames masked in training (SpecAugment); 0: none.")
    ] = 0.05,
    augment: Annotated[
        str | None, typer.Option(help="Each epoch hears copies: noise, pitch, stretch, gain.", show_default="clips")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16; fp16 on a GPU.")] = "fp32",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was stopped.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder.", show_default="below artifacts/checkpoints")] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Train an encoder on: its checkpoint goes back into `ser extract`, and with --protocol onto the leaderboard."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.workflows.finetuning import FinetuneConfig
    from classifiers.workflows.finetuning import finetune as run
    from embedcache import SerError, dataset_manifest
    from embedcache.finetune import FinetuneSettings
    from embedcache.finetune.training import is_first
    from embedcache.progress import terminal

    settings = FinetuneSettings(
        classifier=classifier,
        pooling=pooling,
        hidden=units(hidden),
        dropout=dropout,
        unfreeze=unfreeze,
        seconds=seconds,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        warmup=warmup,
        schedule=schedule,
        patience=patience,
        class_weights=class_weights,
        spec_augment=spec_augment,
        augment=given(augment),
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        seed=seed,
    )
    if root and len(given(dataset)) != 1:
        raise SerError("--root is the folder of one dataset: name it with --dataset.")
    place = place_of(artifacts)
    names = tuple(dataset_manifest(name, place, root, terminal).dataset for name in given(dataset))
    asked = FinetuneConfig(names, encoder, protocol, folds, labels, settings)
    try:
        done = run(place, asked, out, device, resume, terminal, note)
    except KeyboardInterrupt:
        raise SerError("stopped: whole epochs are kept. The same command with --resume goes on from there.") from None
    if not is_first():
        return
    if done.run:
        show(rows_of(done.predictions))
        tell_skipped(done.predictions[0].dataset, done.predictions[0].skipped)
        print(f"\nrun: {done.run}")
    print("\n".join(f"checkpoint: {folder}" for folder in done.checkpoints))
    note(f"Next: ser extract --encoder {shlex.quote(str(done.checkpoints[0]))} --dataset D, of speakers it never heard")


@app.command()
def reproduce(
    name: Annotated[str | None, typer.Argument(help="A recipe.", show_default="all of them, listed")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Other data, a,b,c or repeated.", show_default="the recipe's")
    ] = None,
    root: RootOption = None,
    encoder: Annotated[str | None, typer.Option(help="Another encoder.", show_default="the recipe's")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few minutes' version: few clips, less training.")] = False,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with fine-tuning that was stopped.")] = False,
    jobs: JobsOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Run a published system: what it claims, what its protocol gives here, what is left on new speakers."""
    from classifiers.reproduction import recipe as recipes
    from classifiers.reproduction import reproduce as reproducing
    from embedcache import SerError
    from embedcache.progress import terminal

    place = place_of(artifacts)
    if name is None:
        every = [recipes.recipe(each) for each in recipes.names()]
        list_recipes([(r.name, r.about, claim_of(r.claims), *reproducing.state(place, r)) for r in every])
        return
    try:
        done = reproducing.reproduce(
            place, recipes.recipe(name), encoder, given(dataset), root, quick, device, resume, jobs, terminal, note
        )
    except KeyboardInterrupt:
        raise SerError("stopped: what is embedded stays, and whole epochs with --resume.") from None
    table("what claimed its-protocol new-speakers", done.table())
    for line in done.told():
        note(line)
    note(f"run: {done.folder} (reproduction.csv, reproduction.json, leaderboard.csv)")


@app.command()
def compare(
    dataset: DatasetsOption = None,
    encoder: EncodersOption = None,
    head: HeadsOption = None,
    labels: LabelsOption = "native",
    copies: CopiesOption = 0,
    view: ViewsOption = None,
    frames: FramesOption = None,
    tune: TuneOption = 0,
    calibrate: CalibrateOption = False,
    protocol: ProtocolOption = "speakers",
    folds: FoldsOption = 5,
    seeds: SeedsOption = 1,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Cross-validate heads on extracted encoders, and write a leaderboard. Several datasets are trained on together."""
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.workflows.comparison import ComparisonConfig, run_comparison
    from embedcache.progress import terminal

    asked = ComparisonConfig(
        given(dataset),
        given(encoder),
        given(head),
        protocol,
        folds,
        seeds,
        labels,
        copies,
        given(view),
        frames,
        tune,
        calibrate,
    )
    run, predictions = run_comparison(place_of(artifacts), asked, jobs, terminal, note, cluster)
    show_labels(run)
    show(rows_of(predictions))
    for name, skipped in {p.dataset: p.skipped for p in predictions}.items():
        tell_skipped(name, skipped)
    print(f"\nrun: {run} (leaderboard.csv, intervals.csv, per_label.csv, predictions.csv, pictures)")
    note(f"Next: ser report {run.name}")


@app.command()
def cross(
    train: Annotated[list[str] | None, typer.Option(help="Datasets to train on, each on its own: a,b.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Datasets to test on, each on its own: a,b.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Each extracted dataset on each.")] = False,
    encoder: EncodersOption = None,
    head: HeadsOption = None,
    labels: LabelsOption = "emotion",
    folds: FoldsOption = 5,
    seeds: SeedsOption = 1,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Train heads on one dataset and test them on another, over the labels that both have."""
    from embedcache import DataError

    if every == bool(given(train) or given(test)) or bool(given(train)) != bool(given(test)):
        raise DataError("wanted --train A --test B, or --all.")
    from classifiers.reporting.terminal_tables import show_cross
    from classifiers.workflows.cross_corpus import CrossConfig
    from classifiers.workflows.cross_corpus import cross as run_cross
    from embedcache.progress import terminal

    asked = CrossConfig(given(train), given(test), given(encoder), given(head), labels, folds, seeds)
    run, cells = run_cross(place_of(artifacts), asked, jobs, terminal, note, cluster)
    show_labels(run)
    show_cross(cells, console())
    print(f"\nrun: {run} (cross.csv, leaderboard.csv, predictions.csv, a picture for each head)")


@app.command()
def leaderboard(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs, by name or folder.", show_default="all")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the rows as CSV.")] = None,
    critical: Annotated[
        Path | None, typer.Option(help="Also draw, as PNG, which heads can be told apart over several datasets.")
    ] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """The runs so far, merged and ranked; through a pipe, as CSV."""
    from classifiers.evaluation.leaderboard import latest, to_csv
    from classifiers.evaluation.leaderboard import leaderboard as rows_of
    from classifiers.evaluation.run_folder import load_runs
    from embedcache.files.atomic import atomic_write

    found = load_runs(place_of(artifacts), runs or [])
    rows = rows_of(latest(found))
    if csv:
        with atomic_write(csv) as file:
            file.write(to_csv(rows))
    if sys.stdout.isatty():
        show(rows)
    else:
        sys.stdout.write(to_csv(rows))
    sys.stdout.flush()
    if critical:
        draw_critical(rows, critical)
    if len(rows) < len(found):
        note(f"note: {len(found) - len(rows)} rows of earlier runs were repeats, and are left out.")


@app.command()
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, by name or folder.", show_default="the latest")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file.", show_default="report.html in the first run")] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="With the sound of the hardest clips.")] = True,
    artifacts: ArtifactsOption = None,
) -> None:
    """One page about runs: scores, confusions, speakers, calibration, the hardest clips. It needs no network."""
    from classifiers.reporting.html_report import write_report
    from embedcache.progress import terminal

    print(write_report(place_of(artifacts), runs or [], out, audio, terminal))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `ser fit` or `ser finetune` wrote.")],
    audio: Annotated[list[str], typer.Argument(help="Files, folders, patterns in quotes; - is standard input.")],
    also: Annotated[list[Path] | None, typer.Option("--with", help="Another model; they are averaged.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Seconds: a line a window, not a file.", show_default="the whole file")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds from window to window.", show_default="1")] = None,
    rate: Annotated[int | None, typer.Option(help="Hz: - is raw sound, 16 bits, little-endian, one channel.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    abstain_below: Annotated[
        float | None,
        typer.Option(callback=between_0_and_1, help="No label where the likeliest one's probability is below this."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """The label and all probabilities of audio: a table on a terminal, CSV or JSON lines through a pipe."""
    from classifiers import Predictor
    from classifiers.inference.audio_files import STDIN, FileResult, find_audio, predict_files, predict_raw
    from embedcache import AudioError

    windows = windows_of(window, hop)
    if rate is not None and audio != [STDIN]:
        raise typer.BadParameter("--rate is of raw sound on standard input: give - and nothing beside it.")
    paths, pipe = find_audio(audio), sys.stdin.buffer if sys.stdin else None
    predictor = Predictor.load(model, *(also or []), device=device)
    if rate is None:
        heard = predict_files(predictor, paths, windows, abstain_below, pipe)
    else:
        heard = (
            FileResult(p.path, (p,)) for p in predict_raw(predictor, pipe or io.BytesIO(), rate, windows, abstain_below)
        )
    failed = tell_predictions(heard, lines_of(predictor.labels, paths, windows is not None, json), abstain_below)
    if failed:
        raise AudioError(f"{failed} of {len(paths)} files have no prediction.")


@app.command()
def demo(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Model folders, side by side.", show_default="the latest one")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; others than this machine's need --auth.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    auth: Annotated[str, typer.Option(envvar="SER_AUTH", help="USER:PASSWORD that the page and the API ask for.")] = "",
    keep: Annotated[
        Path | None, typer.Option(help="Folder to keep recordings in.", show_default="none is kept")
    ] = None,
    device: DeviceOption = "auto",
    artifacts: ArtifactsOption = None,
) -> None:
    """A page that listens: speak, and see what models say, on this machine alone; the same as an HTTP API."""
    from classifiers.demo.choose_models import models_for, need_demo

    need_demo()
    from classifiers.demo.server import check_access, listen_on, serve
    from classifiers.demo.service import PredictionService

    check_access(host, auth)
    with listen_on(host, port) as listening:
        loaded, banner = models_for(models or [], place_of(artifacts), device, note)
        desk = PredictionService(loaded, keep, complain=note)
        serve(desk, listening, auth, banner, lambda line: print(line, flush=True))


@app.command("export")
def export_model(
    model: Annotated[Path, typer.Argument(help="A folder that `ser fit` wrote.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX; the one format there is.")] = False,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Also the encoder: from waveform to labels. Not of frames.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="New folder.", show_default="MODEL/onnx")] = None,
) -> None:
    """Write a model for other programs, checked against `ser predict`; complete or absent."""
    from embedcache import ModelError

    if not onnx:
        raise ModelError("wanted the format: --onnx.")
    from classifiers.export.onnx_export import export_onnx

    done = export_onnx(model, encoder, out)
    print(f"{done.folder}: {', '.join(done.files)}")
    print(f"largest difference of probabilities from ser's own: {done.difference:.1e}")
    if done.vector_difference is not None:
        print(f"largest difference of vectors, of their largest number: {done.vector_difference:.1e}")


@cache.command("ls")
def cache_ls(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """What each store holds."""
    from embedcache.cache.maintenance import hours, summarise

    place = place_of(artifacts)
    manifests, held = manifests_in(place), [summarise(folder) for folder in folders_of(place, stores)]
    rows = [
        {
            "store": h.folder.name,
            "views": ",".join(h.views),
            "clips": str(len(h.keys)),
            "hours": f"{hours(h, manifests):.2f}",
            "MB": f"{h.nbytes / 1e6:.1f}",
            "shards": str(h.shards),
            "format": ",".join(map(str, h.formats)),
            "written": h.created[:16].replace("T", " "),
            "by": ", ".join(h.writers),
        }
        for h in held
    ]
    if sys.stdout.isatty():
        print("\n".join(HOLDING.format(**row) for row in rows))
    else:
        table(" ".join(rows[0]), (tuple(row.values()) for row in rows))
    for fault in [fault for h in held for fault in h.faults]:
        note(f"fault: {fault}")


@cache.command("verify")
def cache_verify(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Check every checksum; exit code 1 where one is wrong."""
    from embedcache import StoreError
    from embedcache.cache.maintenance import verify
    from embedcache.progress import terminal

    faults = 0
    for folder in folders_of(place_of(artifacts), stores):
        complaints = verify(folder, terminal)
        print("\n  ".join([f"{folder.name}: {'sound' if not complaints else 'damaged'}", *complaints]), flush=True)
        faults += len(complaints)
    if faults:
        raise StoreError(f"faults: {faults}. `ser cache repair` drops what is damaged, `ser extract` makes it anew.")


@cache.command("repair")
def cache_repair(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Drop damaged rows, and say which clips to extract again."""
    from embedcache.cache.maintenance import clips_to_extract, repair
    from embedcache.progress import terminal

    place = place_of(artifacts)
    for folder in folders_of(place, stores):
        mended = repair(folder, terminal)
        rest = f"shards set aside: {len(mended.aside)}; files of killed writers removed: {mended.left}"
        print(f"{folder.name}: damaged rows dropped: {mended.rows}; {rest}")
        for path in mended.aside:
            print(f"  {path}")
        for dataset, clips in clips_to_extract(folder, mended, manifests_in(place)).items():
            print("\n  ".join([f"{dataset}: clips to extract again: {len(clips)}", *clips]))
            note(f"Next: ser extract --dataset {dataset}, with the encoder and views of {folder.name}")


@cache.command("compact")
def cache_compact(stores: StoresArgument = None, artifacts: ArtifactsOption = None) -> None:
    """Merge small shards, and those that hold the same rows. Readers and writers may go on meanwhile."""
    from embedcache.cache.maintenance import compact
    from embedcache.progress import terminal

    for folder in folders_of(place_of(artifacts), stores):
        merged = compact(folder, terminal)
        print(f"{folder.name}: shards: {merged.before}, now {merged.after}; freed: {merged.freed / 1e6:.1f} MB")


@cache.command("export")
def cache_export(
    out: Annotated[Path, typer.Argument(help="A new .npz or .parquet.")],
    dataset: Annotated[str | None, typer.Option(help="Extracted dataset.", show_default="the only one")] = None,
    encoder: Annotated[str | None, typer.Option(help="Extracted encoder.", show_default="the only one")] = None,
    views: Annotated[str, typer.Option(help="Of pooled, layers, std.")] = "pooled,layers",
    artifacts: ArtifactsOption = None,
) -> None:
    """Write vectors with the manifest's columns, for other programs."""
    from classifiers.data.listed_clips import load_manifest
    from embedcache.cache.import_export import check_export, export
    from embedcache.cache.store import whole_store
    from embedcache.progress import terminal

    check_export(out, given(views))
    place = place_of(artifacts)
    manifest = load_manifest(place, dataset)
    store = whole_store(place.cache, manifest.dataset, [c.key for c in manifest.usable], encoder, given(views))
    count = export(store, manifest, out, given(views), terminal)
    print(f"{out}: {count} clips of {manifest.dataset}, {store.info.name}, {' and '.join(given(views))}")
    tell_skipped(manifest.dataset, [f"{clip.clip_id}: {clip.extra['skipped']}" for clip in manifest.skipped])


@cache.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="An .npz with clip_id (n,) and pooled (n, dim) or layers (n, L, dim).")],
    encoder: Annotated[str, typer.Option(help="What to call the encoder that made them.")],
    dataset: Annotated[str, typer.Option(help="The dataset whose clips they are of.")],
    root: Annotated[
        Path | None, typer.Option(help="Its folder.", show_default="not needed where it is extracted")
    ] = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Store vectors that another program made, to compare them here."""
    from embedcache import dataset_manifest
    from embedcache.cache.import_export import import_npz
    from embedcache.progress import terminal

    place = place_of(artifacts)
    manifest = dataset_manifest(dataset, place, root, terminal)
    done = import_npz(file, place.cache, encoder, manifest, terminal)
    print(f"{manifest.dataset}: {done.clips} of {len(manifest.usable)} clips have {encoder} vectors from {file}")
    print(f"in the cache before: {done.known}\ncache: {done.store.folder}")
    note(f"Next: ser compare --dataset {manifest.dataset}")


HOLDING = """{store}
  clips: {clips}, hours: {hours}, views: {views}
  MB: {MB}, shards: {shards}, format: {format}, written: {written} by {by}"""


def folders_of(place: Artifacts, names: list[str] | None) -> list[Path]:
    """The folders of stores, all of a cache or some by name. Raises StoreError for an empty cache, UnknownName."""
    from embedcache import StoreError, UnknownName
    from embedcache.cache.store import store_folders

    have = store_folders(place.cache)
    if not have:
        raise StoreError(f"{place.cache}: holds no vectors. `ser extract` makes some.")
    called = {name for folder in have for name in (folder.name, folder.name.rpartition("-")[0])}
    for name in names or []:
        if name not in called:
            raise UnknownName("store", name, called, "`ser extract` makes one")
    return [f for f in have if not names or {f.name, f.name.rpartition("-")[0]} & set(names)]


def manifests_in(place: Artifacts) -> list[Manifest]:
    """Every manifest of an output folder, copies included."""
    from embedcache import Manifest

    return [Manifest.from_csv(path) for path in place.lists]


def place_of(artifacts: Path | None, *parts: str) -> Artifacts:
    """The output folder, or a folder in it."""
    from embedcache import Artifacts

    return Artifacts(Artifacts.at(artifacts).root.joinpath(*parts))


def given(names: str | list[str] | None) -> tuple[str, ...]:
    """The names of an option that may be left out, repeated, or hold several with commas between."""
    listed = [names] if isinstance(names, str) else names or []
    return tuple(name.strip() for item in listed for name in item.split(",") if name.strip())


def claim_of(claims: Mapping[str, float]) -> str:
    """What a system claims, in percent: `accuracy 95.31, macro-F1 94.92`."""
    from classifiers.reproduction.reproduce import METRICS

    return ", ".join(f"{METRICS[metric]} {percent:.2f}" for metric, percent in claims.items()) or "no score"


def list_recipes(rows: list[tuple[str, ...]]) -> None:
    """Recipes with what they claim and what of them is on this machine; tab-separated through a pipe."""
    if not sys.stdout.isatty():
        table("name about claims weights data", rows)
        return
    for name, about, claims, weights, data in rows:
        print(f"{name}: {about}\n  claims   {claims}\n  weights  {weights}\n  data     {data}")


def windows_of(window: float | None, hop: float | None) -> Windows | None:
    """The windows that were asked for, or none. Raises BadParameter, exit code 2."""
    from classifiers import Windows

    if window is None and hop is None:
        return None
    try:
        return Windows.asked(window, hop)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def lines_of(labels: tuple[str, ...], paths: list[str], timed: bool, as_json: bool) -> OutputFormat:
    """How predictions are written: as asked for, or as the place that they go to likes them."""
    from classifiers.inference.output_formats import csv_lines, json_lines, table_lines

    if as_json:
        return json_lines()
    return table_lines(labels, paths, timed, console().width) if sys.stdout.isatty() else csv_lines(labels)


def tell_predictions(heard: Iterable[FileResult], lines: OutputFormat, abstain_below: float | None) -> int:
    """Write predictions as they come, say what failed, and count it."""
    failed, unsure, count = 0, 0, 0
    for answer in heard:
        if answer.fault:
            note(f"error: {answer.fault}")
            failed += 1
        for p in answer.predictions:
            print(*([lines.header] if lines.header and not count else []), lines.line(p), sep="\n", flush=True)
            count, unsure = count + 1, unsure + (p.label is None)
    if count and (abstain_below is not None or unsure):
        below = "" if abstain_below is None else f": a certainty below {abstain_below:g}, or nothing to hear"
        note(f"not sure: {unsure} of {count} ({unsure / count:.1%}){below}")
    return failed


def units(text: str) -> tuple[int, ...]:
    """The numbers of an option: `256,128`; `none` is none. Raises BadParameter, exit code 2."""
    try:
        return () if text.strip() == "none" else tuple(int(number) for number in given(text))
    except ValueError as error:
        raise typer.BadParameter(f"got --hidden {text}; wanted numbers of units, 256,128, or none.") from error


def console() -> Console:
    """Standard output, 100 columns wide where it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100, highlight=False)


def show(rows: list[Row]) -> None:
    """A leaderboard for people."""
    from classifiers.reporting.terminal_tables import show_leaderboard

    show_leaderboard(rows, console())


def draw_critical(rows: list[Row], path: Path) -> None:
    """The picture of critical differences; what it shows is said beside it."""
    from classifiers.evaluation.critical_difference import critical, told
    from classifiers.reporting.figures import save_critical_figure

    found = critical(rows)
    save_critical_figure(path, found)
    note("\n  ".join([f"critical differences: {path}", *told(found)]))


def show_labels(run: Path) -> None:
    """What became of the labels, where they are not as the dataset spells them, or of several datasets."""
    from embedcache.manifest import read_rows

    changes = read_rows(run / "labels.csv", ("dataset", "label", "becomes", "clips"))
    if any(c["label"] != c["becomes"] for c in changes) or len({c["dataset"] for c in changes}) > 1:
        rows = [(c["dataset"], c["label"], c["becomes"] or "(left out)", c["clips"]) for c in changes]
        kept = sum(int(c["clips"]) for c in changes if c["becomes"])
        table("dataset label becomes clips", rows)
        print(f"clips before: {sum(int(c['clips']) for c in changes)}; after: {kept}")


def table(header: str, rows: Iterable[tuple[str, ...]]) -> None:
    """A plain table on a terminal; tab-separated through a pipe."""
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in [tuple(header.split()), *rows]))
        return
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(header.split()):
        grid.add_column(name, no_wrap=number == 0, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


def tell(report: OnBytes, folder: Path, dataset: str, encoder: str) -> None:
    """What an extraction did."""
    copies = report.clips - report.encoded - report.cached
    speed = report.audio_seconds / report.wall_seconds if report.encoded else 0
    rate = f", {speed:.1f} s of audio a second" if report.encoded else ""
    same = f"; {copies} the same recording as another" if copies else ""
    print(f"{dataset}: {report.clips} clips have {encoder} vectors")
    print(f"encoded now: {report.encoded}{rate}; in the cache before: {report.cached}{same}")
    print(f"cache: {folder}\n{report.wall_seconds:.1f} s{peak_memory()}")
    tell_skipped(dataset, [f"{clip.clip_id}: {clip.extra['skipped']}" for clip in report.skipped])
    note(f"Next: ser compare --dataset {dataset}, or ser fit --head mlp --dataset {dataset}")


def peak_memory() -> str:
    """`, peak memory 0.78 GB`, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 << 30 if sys.platform == "darwin" else 1 << 20
    return f", peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.2f} GB"


def tell_fewer(place: Artifacts, manifest: Manifest) -> None:
    """That a manifest will list fewer clips than it did."""
    from embedcache import Manifest

    path = place.manifest(manifest.dataset)
    before = len(Manifest.from_csv(path)) if path.exists() else 0
    if before > len(manifest):
        note(
            f"note: {path} listed {before} clips, and lists {len(manifest)} now. Extract the whole folder to have all."
        )


def tell_skipped(dataset: str, skipped: Iterable[str], what: str = "clips") -> None:
    """The clips that a result lacks."""
    listed = list(skipped)
    if listed:
        note("\n  ".join([f"{dataset}: {len(listed)} {what} skipped as unusable:", *listed]))


def note(text: str) -> None:
    """A line for people, beside the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
