"""A fine-tuning run: from clips to a checkpoint's folder; stopped and gone on with, or stopped by what went wrong.

Beside the folder that is asked for lies `<folder>.work` while training runs: what was asked, and Trainer's checkpoints
after each epoch, each with a file `whole` once all of it is on the disk. A run that was stopped goes on from the last
whole one and ends with equal weights, bit for bit, on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from .. import encoders
from ..audio.augment import TRANSFORMS
from ..encoder import Log, no_log, pick_device
from ..encoders import UNTRAINED
from ..encoders._checkpoint import Checkpoint, open_checkpoint, untrained
from ..errors import AudioError, DataError, EncoderError, SerError, complain, first_line
from ..files.atomic import atomic_write
from ..files.untrusted import read_json
from ..manifest import Clip
from ..progress import Progress, silent
from ..provenance import CARD, TrainedOn, of_checkpoint
from .checkpoint import CheckpointCard, Finetuned, write
from .settings import WHOLE, FinetuneSettings, need_finetune

WORK, ASKED, STATE = ".work", "asked.json", "trainer_state.json"
MOST_BYTES = 1 << 26
STATES = 12  # bytes that a trained weight takes beside itself: its gradient, and two moments of AdamW
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # as torch says it


@dataclass(frozen=True)
class TrainingJob:
    """What one checkpoint is made of. Clips carry the labels that are to be learned."""

    encoder: str  # a built-in name, a folder or a hub id
    train: Sequence[Clip]
    development: Sequence[Clip]  # of other speakers, that it stops early by; none with a patience of 0
    settings: FinetuneSettings
    measure: Callable[[Any, Any], dict[str, float]]  # of true and predicted classes (n,): `uar` and `accuracy`


def train(
    work: TrainingJob,
    folder: Path,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = silent,
    log: Log = no_log,
) -> Finetuned:
    """Fine-tune an encoder and write its checkpoint to `folder`. `log` receives what each epoch came to.

    With `resume`, a run that was stopped goes on, and one that is done is read. Raises SerError where the extra is not
    installed, where another run is in that place, where memory does not suffice, and where the loss is no number;
    EncoderError for a checkpoint that cannot be fine-tuned.
    """
    need_finetune()
    _refuse_labels(work)
    place = _device(device, work.settings)
    base = open_base(work.encoder)
    refuse_short([*work.train, *work.development], base, work.settings)
    folder = folder.resolve()
    scratch = scratch_of(folder)
    if is_first():
        if resume and not folder.exists() and not scratch.exists():
            log(f"note: nothing to go on with in {scratch}: it starts anew.")
        _settle(folder, scratch, _asked(work, base), resume)
    else:
        progress, log = silent, no_log
    try:
        if folder.exists():
            return Finetuned.load(folder, device)
        with _quiet():
            made = _run(work, base, scratch, place, progress, log)
        if is_first():
            write(folder, made)
        return made
    finally:  # what may be gone on with stays
        if is_first() and (folder.exists() or last_checkpoint(scratch) is None):
            shutil.rmtree(scratch, ignore_errors=True)


def scratch_of(folder: Path) -> Path:
    """Where a checkpoint lies while it is made."""
    return folder.with_name(f"{folder.name}{WORK}")


def is_first() -> bool:
    """Whether this process is the one that writes and tells: of several, which `accelerate launch` started, one is."""
    return int(os.environ.get("RANK", "0")) == 0


def open_base(encoder: str) -> Checkpoint:
    """The checkpoint to start from. Raises EncoderError, UnknownName."""
    if encoder == UNTRAINED:
        return untrained("fp32")
    spec = None if Path(encoder).is_dir() or "/" in encoder else encoders.get(encoder)
    if spec and not spec.checkpoint:
        raise EncoderError(f"{encoder}: has no weights to fine-tune. Use wav2vec2-base, or a checkpoint.")
    return open_checkpoint(spec.checkpoint if spec else encoder, spec.name if spec else "", "fp32")


def refuse_short(clips: Sequence[Clip], base: Checkpoint, settings: FinetuneSettings) -> None:
    """Raise AudioError for clips that give no frame, SerError for such crops, before anything is trained."""
    from ..encoders._convolutions import receptive_field

    least = receptive_field(base.model.config) / int(base.features.sampling_rate)
    if settings.seconds < least:
        raise SerError(f"seconds: got {settings.seconds:g}; {base.info.name} needs {least:g} for one frame.")
    if "stretch" in settings.augment:
        least *= TRANSFORMS["stretch"].high  # which makes clips that much shorter
    if short := [f"{clip.path}: lasts {1000 * clip.seconds:.0f} ms" for clip in clips if clip.seconds < least]:
        what = f"{len(short)} of {len(clips)} clips are shorter than the {1000 * least:.0f} ms of one frame"
        raise AudioError(complain(what, short, "Remove them from their folder, and run again with --root."))


def last_checkpoint(scratch: Path) -> Path | None:
    """The last whole checkpoint of a run that was stopped, None where there is none."""
    whole = [path.parent for path in scratch.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda folder: int(_state(folder)["global_step"]), default=None)


def _run(work: TrainingJob, base: Checkpoint, scratch: Path, place: Any, progress: Progress, log: Log) -> Finetuned:
    from transformers import set_seed

    from ._trainer import best_epoch, history_of, make_trainer
    from .clips import ClipDataset
    from .network import build

    settings, features = work.settings, base.features
    labels = tuple(sorted({clip.label for clip in work.train}))
    train_clips = ClipDataset(work.train, labels, features, settings, training=True)
    development = ClipDataset(work.development, labels, features, settings, training=False)
    with _told(settings):
        set_seed(settings.seed)
        network = build(base, settings, labels)
        _fit_masks(network.base.config, work, int(features.sampling_rate))
        _refuse_large(network, place)
        trainer = make_trainer(network, train_clips, development, settings, scratch, place, work.measure)
        seconds, speed = _follow(trainer, train_clips, settings, scratch, progress, log)
        trainer.accelerator.wait_for_everyone()  # until the first has saved
        _take_best(network, scratch)
        past = history_of(_log(scratch))
        trainer.accelerator.wait_for_everyone()  # until all have read
        # in float32, as whoever reads the checkpoint has it
        network = trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    card = CheckpointCard(
        base=base.info.name,
        base_sha256=base.info.weights_sha256,
        settings=settings,
        clips_sha256=_clips_sha256(work),
        labels=labels,
        trained_on=TrainedOn.of([*work.train, *work.development], parent_of(base)),
        development=tuple(sorted({clip.speaker for clip in work.development})),
        history=past,
        best_epoch=best_epoch(past),
        fit_seconds=seconds,
        clips_per_second=speed,
    )
    return Finetuned(card, network.to(place).eval(), features, place)


def _follow(
    trainer: Any, train_clips: Any, settings: FinetuneSettings, scratch: Path, progress: Progress, log: Log
) -> tuple[float, float]:
    """Train, from where it was stopped, to the end; the seconds that it took, and the clips in each."""
    from safetensors import SafetensorError

    from ._trainer import ProgressCallback, history_of, is_stalled

    begin, total = last_checkpoint(scratch), len(train_clips)
    done = int(_state(begin)["global_step"]) if begin else 0
    clips = total / math.ceil(math.ceil(total / settings.batch_size) / settings.accumulate)  # a step, on average
    started = time.monotonic()
    with progress("fine-tuning", total=total * settings.epochs, unit="clips") as advance:
        advance(done * clips)
        trainer.add_callback(ProgressCallback(settings, train_clips, lambda: advance(clips), log))
        if begin is None or not is_stalled(history_of(_log(scratch)), settings):
            try:
                trainer.train(resume_from_checkpoint=str(begin) if begin else None)
            except FloatingPointError as error:
                raise _diverged(error, trainer.state.global_step, scratch) from error
            except (EOFError, UnpicklingError, SafetensorError) as error:
                raise SerError(
                    f"{begin}: cannot be read ({first_line(error)}). Remove that folder: --resume then goes on from "
                    "the one before, or anew."
                ) from error
    seconds = time.monotonic() - started
    return seconds, float((trainer.state.global_step - done) * clips / max(seconds, 1e-9))


def _diverged(error: Exception, step: int, scratch: Path) -> SerError:
    good = last_checkpoint(scratch)
    kept = f"The last good checkpoint is kept: {good}." if good else "There is no checkpoint yet: no epoch was whole."
    return SerError(
        f"after step {step}: {error} (NaN or infinite). {kept} Start again with a lower --lr, a longer --warmup, or "
        "--precision fp32."
    )


def _take_best(network: Any, scratch: Path) -> None:
    """The weights of the best epoch, or of the last where none was measured."""
    from safetensors.torch import load_file

    last = last_checkpoint(scratch)
    if last is None:
        raise SerError(f"{scratch}: no checkpoint in it. Remove the folder, and start again.")
    best = _state(last).get("best_model_checkpoint")
    folder = scratch / Path(best).name if best else last
    network.load_state_dict(load_file(folder / "model.safetensors"))


def _state(checkpoint: Path) -> Any:
    return read_json(checkpoint / STATE, MOST_BYTES, DataError)


def _log(scratch: Path) -> list[dict[str, float]]:
    """Trainer's log up to the last whole checkpoint."""
    last = last_checkpoint(scratch)
    return list(_state(last)["log_history"]) if last else []


def _fit_masks(config: Any, work: TrainingJob, rate: int) -> None:
    """Masked spans no longer than half the shortest clip: one that is as long would hide all of it."""
    from ..encoders._convolutions import frames_of

    shortest = min(min(clip.seconds, work.settings.seconds) for clip in work.train)
    config.mask_time_length = max(1, min(config.mask_time_length, frames_of(config, round(shortest * rate)) // 2))


def parent_of(base: Checkpoint) -> TrainedOn | None:
    """What a checkpoint was fine-tuned on before, None where it was not."""
    info = base.info
    return of_checkpoint(encoders.folder_of(info.checkpoint), info.trained_on) if info.trained_on else None


def _refuse_labels(work: TrainingJob) -> None:
    learned = {clip.label for clip in work.train}
    if len(learned) < 2:
        raise DataError(f"clips to train on have one label, {', '.join(learned) or 'none'}; wanted at least two.")
    if strange := sorted({clip.label for clip in work.development} - learned):
        raise DataError(f"development clips are labelled {', '.join(strange)}, which no clip to train on is.")


def _device(device: str, settings: FinetuneSettings) -> Any:
    place = pick_device(device)
    if place.index is not None:
        raise EncoderError(f"--device {device}: set CUDA_VISIBLE_DEVICES={place.index} and use --device cuda.")
    if place.type == "cpu" and settings.precision == "fp16":
        raise EncoderError("--precision fp16 needs a GPU. Use fp32, or bf16 where the processor has it.")
    return place


def _asked(work: TrainingJob, base: Checkpoint) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    named = {"encoder": base.info.weights_sha256, "clips": _clips_sha256(work), "processes": processes}
    return named | _plain(work.settings)


def _clips_sha256(work: TrainingJob) -> str:
    parts = (work.train, work.development)
    said = [[(clip.key, clip.label, clip.dataset, clip.speaker) for clip in part] for part in parts]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _plain(settings: FinetuneSettings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def _settle(folder: Path, scratch: Path, asked: dict[str, Any], resume: bool) -> None:
    """See what is there, and note what is asked. Raises SerError where that is not to be gone on with."""
    if not resume and (folder.exists() or scratch.exists()):
        taken = folder if folder.exists() else scratch
        raise SerError(f"{taken} exists already. Go on with --resume, choose another --out, or remove it.")
    if folder.exists() and not (folder / CARD).exists():
        raise SerError(f"{folder}: is there, and holds no fine-tuned checkpoint. Choose another --out, or remove it.")
    if folder.exists():
        card = CheckpointCard.read(folder)
        there = {"encoder": card.base_sha256, "clips": card.clips_sha256, **_plain(card.settings)}
        _compare({name: value for name, value in asked.items() if name != "processes"}, there, folder)
    elif (scratch / ASKED).exists():
        _compare(asked, read_json(scratch / ASKED, MOST_BYTES, SerError), scratch)
    else:
        with atomic_write(scratch / ASKED) as file:
            json.dump(asked, file)


def _compare(asked: dict[str, Any], there: Any, place: Path) -> None:
    if not isinstance(there, dict):
        raise SerError(f"{place}: was not written by a run that can go on. Remove it, or choose another --out.")
    if differ := [name for name, value in asked.items() if there.get(name) != value]:
        said = "; ".join(f"{name.replace('_', '-')}: {there.get(name)} then, {asked[name]} now" for name in differ)
        raise SerError(f"{place}: was asked otherwise ({said}). Ask the same again, or choose another --out.")


def _refuse_large(network: Any, place: Any) -> None:
    """Refuse what cannot fit, before the system ends the process without a word. What a batch takes comes on top."""
    import psutil
    import torch

    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    held = sum(p.numel() for p in network.parameters())
    needed = STATES * trained + (4 * held if place.type == "cuda" else 0)
    free = torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise SerError(
            f"{trained / 1e6:,.0f} million weights to train take {needed / 1e9:.1f} GB beside a batch; "
            f"{free / 1e9:.1f} GB are free. Train fewer with --unfreeze top:2, or use a smaller encoder."
        )


@contextmanager
def _told(settings: FinetuneSettings) -> Iterator[None]:
    """What torch says where memory ends, or a clip cannot be read, as an error that says what to do."""
    try:
        yield
    except AudioError as error:  # of a process that decodes, with its traceback
        raise AudioError(str(error).strip().splitlines()[-1].removeprefix("embedcache.errors.AudioError: ")) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(said in str(error).lower() for said in OUT_OF_MEMORY):
            raise
        half = max(1, settings.batch_size // 2)
        raise SerError(
            f"memory does not suffice for batches of {settings.batch_size} clips of {settings.seconds:g} s "
            f"({first_line(error)}). Use --batch-size {half} --accumulate {2 * settings.accumulate}, which gives the "
            "same steps, --gradient-checkpointing, or --precision bf16."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' and accelerate's notes: what matters is said here."""
    from ..encoders._checkpoint import quiet

    noisy = logging.getLogger("accelerate")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")  # of transformers' WavLM
            yield
    finally:
        noisy.setLevel(level)
