"""The folder that fine-tuning writes: an encoder as transformers saves one, its classifier, and a card.

config.json, model.safetensors, preprocessor_config.json     `AutoModel`, or of a sequence classifier
                                                             `AutoModelForAudioClassification`, loads them
classifier.safetensors                                       what stands on the encoder, where that is ours
finetuned.json                                               settings, data, score, and what it was trained on
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..audio.decode import Recording, Waveform
from ..encoder import pick_device
from ..encoders._checkpoint import open_checkpoint, quiet
from ..errors import AudioError, EncoderError, ModelError
from ..files.atomic import sync_files, sync_folder
from ..files.untrusted import read_json
from ..provenance import CARD, MOST_BYTES, TRAINED_ON, TrainedOn
from .settings import SEQUENCE, FinetuneSettings

CLASSIFIER = "classifier.safetensors"

History = dict[str, list[float]]


@dataclass(frozen=True)
class CheckpointCard:
    """What a fine-tuned checkpoint says of itself."""

    base: str  # the encoder that it was made of, and the SHA-256 of its weights
    base_sha256: str
    settings: FinetuneSettings
    clips_sha256: str  # of the clips and their labels, in order
    labels: tuple[str, ...]  # the classifier's columns
    trained_on: TrainedOn
    development: tuple[str, ...]  # of those speakers, the ones that stopped it early
    history: History = field(default_factory=dict)  # by epoch: train_loss, val_loss, val_accuracy, val_uar
    best_epoch: int = 0  # the one that is kept, from 1
    fit_seconds: float = 0.0  # of training, since it was last stopped
    clips_per_second: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"made_by": f"ser {__version__}", **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> CheckpointCard:
        """The card of a folder. Raises ModelError where it has none that can be read."""
        if not (folder / CARD).exists():
            raise ModelError(
                f"{folder}: is a checkpoint without a classifier: it gives vectors. Fit a head on them: "
                f"`ser extract --encoder {folder} --dataset …`, then `ser fit`."
            )
        said = read_json(folder / CARD, MOST_BYTES, ModelError)
        try:
            own = {name: said[name] for name in cls.__dataclass_fields__}
            own |= {name: tuple(own[name]) for name in ("labels", "development")}
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own["settings"].items()}
            own |= {"settings": FinetuneSettings(**given), "trained_on": TrainedOn.from_dict(own["trained_on"])}
            return cls(**own)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder / CARD}: is not the card of a fine-tuned checkpoint ({error!r}).") from error


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned encoder with its classifier: waveforms in, probabilities out."""

    card: CheckpointCard
    network: Any
    features: Any
    device: Any
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Finetuned:
        """Read a checkpoint's folder. Raises ModelError for one without a classifier, EncoderError for a broken one."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from .network import build, classifier_state

        folder, place = Path(folder), pick_device(device)
        card = CheckpointCard.read(folder)
        checkpoint = open_checkpoint(str(folder), "", "fp32")
        network = build(checkpoint, card.settings, card.labels)
        wanted = classifier_state(network)
        path = folder / ("model.safetensors" if card.settings.classifier == SEQUENCE else CLASSIFIER)
        try:
            held = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read ({error}). Copy the checkpoint again, whole.") from error
        if {n: t.shape for n, t in wanted.items()} != {n: held[n].shape for n in wanted if n in held}:
            raise ModelError(f"{path}: does not hold the classifier that {CARD} describes. Copy the checkpoint again.")
        whole = network.encoder if network.classifier is None else network.classifier
        whole.load_state_dict({name: held[name] for name in wanted}, strict=False)
        return cls(card, network.to(place).eval(), checkpoint.features, place)

    @property
    def rate(self) -> int:
        """Samples a second that it hears."""
        return int(self.features.sampling_rate)

    @property
    def shortest(self) -> float:
        """Seconds of audio that give one frame."""
        from ..encoders._convolutions import receptive_field

        return receptive_field(self.network.base.config) / self.rate

    def proba(self, recordings: Sequence[Recording]) -> NDArray[np.float32]:
        """(n, C), columns in the order of `card.labels`. Raises AudioError for a file that cannot be used."""
        waves = [recording.waveform(self.rate) for recording in recordings]
        shortest = round(self.shortest * self.rate)
        for recording, wave in zip(recordings, waves, strict=True):
            if len(wave) < shortest:
                raise AudioError(f"{recording.path}: has {len(wave)} samples, {shortest} give one frame.")
        return self.proba_of(waves)

    def proba_of(self, waves: Sequence[Waveform]) -> NDArray[np.float32]:
        """(n, C) of waveforms at `rate`, none shorter than `shortest`."""
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]))
        size = self.card.settings.batch_size
        proba = np.zeros((len(waves), len(self.card.labels)), np.float32)
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            proba[rows] = self._run([waves[row] for row in rows])[0].softmax(1).cpu().numpy()
        return proba

    def attention_of(self, wave: Waveform) -> NDArray[np.float32] | None:
        """(T,) how much each frame of what is heard of a waveform counts, sum 1; None without attention over frames.

        A clip longer than `card.settings.seconds` is heard in its middle alone.
        """
        if self.card.settings.pooling != "attention" or self.network.classifier is None:
            return None
        weights: NDArray[np.float32] = self._run([wave])[1][0].float().cpu().numpy()
        return weights

    def _run(self, waves: Sequence[Waveform]) -> Any:
        """`Network.heard` of one batch; one at a time, for the network holds the lengths of its batch."""
        import torch

        from .clips import collate, crop, normalised

        longest = round(self.card.settings.seconds * self.rate)
        batch = collate([{"input_values": normalised(self.features, crop(w, longest)), "labels": 0} for w in waves])
        with self.lock, torch.inference_mode():
            return self.network.heard(batch["input_values"].to(self.device), batch["lengths"].to(self.device))


def write(folder: Path, made: Finetuned) -> None:
    """Write a checkpoint's folder, completely or not at all. Raises EncoderError where it cannot be written."""
    from safetensors.torch import save_file

    from .network import classifier_state

    network, card = made.network, made.card
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        setattr(network.base.config, TRAINED_ON, card.trained_on.sha256)
        with quiet():
            network.encoder.save_pretrained(part)
            made.features.save_pretrained(part)
        if network.classifier is not None:
            save_file(classifier_state(network), part / CLASSIFIER)
        (part / CARD).write_text(json.dumps(card.to_dict(), indent=1), encoding="utf-8")
        sync_files(part)
        part.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise EncoderError(f"cannot write {folder}: {error.strerror or error}. Make room, or choose --out.") from error
