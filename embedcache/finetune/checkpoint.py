"""The folder that fine-tuning writes: an encoder as transformers saves it, a classifier, and a card.

config.json, model.safetensors, preprocessor_config.json     loaded by `AutoModel`; with the classifier `sequence`, by
                                                             `AutoModelForAudioClassification`
classifier.safetensors                                       the classifier `mlp`
finetuned.json                                               the card: settings, data, scores, and the clips, speakers
                                                             and labels that the encoder was trained on
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..audio.decode import Recording, Waveform
from ..encoder import describe_length, pick_device
from ..encoders.checkpoint import open_checkpoint, quiet
from ..encoders.engine.memory import Memory, explain_load
from ..errors import AudioError, EncoderError, ModelError
from ..files.atomic import sync_files, sync_folder
from ..files.untrusted import read_json
from ..provenance import CARD, MAX_LIST_BYTES, TRAINED_ON, TrainedOn
from .settings import SEQUENCE, FinetuneSettings

CLASSIFIER = "classifier.safetensors"

History = dict[str, list[float]]  # name of a loss or a score -> its value after each epoch


@dataclass(frozen=True)
class CheckpointCard:
    """The description of a fine-tuned checkpoint."""

    base: str  # name of the encoder from which training started
    base_sha256: str  # SHA-256 of its weights
    settings: FinetuneSettings
    clips_sha256: str  # SHA-256 of the clips with their labels and speakers, in order
    labels: tuple[str, ...]  # columns of the classifier
    trained_on: TrainedOn
    development: tuple[str, ...]  # the development speakers, which are listed in `trained_on`, too
    history: History = field(default_factory=dict)  # train_loss, val_loss, val_accuracy, val_uar
    best_epoch: int = 0  # epoch whose weights are kept, from 1
    fit_seconds: float = 0.0  # duration of training since it was last resumed
    clips_per_second: float = 0.0  # training clips, since training was last resumed

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `finetuned.json`."""
        return {"made_by": f"ser {__version__}", **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> CheckpointCard:
        """Read the card of a checkpoint's folder. Raises ModelError if there is none, or if it cannot be read."""
        if not (folder / CARD).exists():
            raise ModelError(
                f"{folder}: is a checkpoint without a classifier, which gives only vectors. Fit a head on them: "
                f"`ser extract --encoder {folder} --dataset …`, then `ser fit`."
            )
        content = read_json(folder / CARD, MAX_LIST_BYTES, ModelError)
        try:
            return cls._from_dict(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder / CARD}: is not the card of a fine-tuned checkpoint ({error!r}).") from error

    @classmethod
    def _from_dict(cls, content: Any) -> CheckpointCard:
        fields = {name: content[name] for name in cls.__dataclass_fields__}
        fields |= {name: tuple(fields[name]) for name in ("labels", "development")}
        fields["settings"] = FinetuneSettings(**_with_tuples(fields["settings"]))
        fields["trained_on"] = TrainedOn.from_dict(fields["trained_on"])
        return cls(**fields)


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned encoder with its classifier: waveforms in, probabilities out."""

    card: CheckpointCard
    network: Any
    features: Any  # feature extractor of transformers
    device: Any
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Finetuned:
        """Load a checkpoint's folder.

        Raises ModelError if its classifier cannot be loaded, EncoderError if its encoder cannot.
        """
        from .network import build

        folder, torch_device = Path(folder), pick_device(device)
        card = CheckpointCard.read(folder)
        checkpoint = open_checkpoint(str(folder), "", "fp32")
        network = build(checkpoint, card.settings, card.labels)
        _load_classifier(network, folder, card)
        with explain_load(checkpoint.info.name, torch_device):
            return cls(card, network.to(torch_device).eval(), checkpoint.features, torch_device)

    @property
    def rate(self) -> int:
        """Sampling rate of the waveforms, in Hz."""
        return int(self.features.sampling_rate)

    @property
    def shortest(self) -> float:
        """Length of the shortest clip that gives one frame, in seconds."""
        from ..encoders.engine.convolutions import receptive_field

        return receptive_field(self.network.base.config) / self.rate

    def proba(self, recordings: Iterable[Recording]) -> NDArray[np.float32]:
        """Return the probabilities of recordings, (n, C), with columns in the order of `card.labels`.

        Raises AudioError for a recording that cannot be decoded or is too short.
        """
        waves, shortest = [], round(self.shortest * self.rate)
        for recording in recordings:
            waves.append(wave := recording.waveform(self.rate))
            if len(wave) < shortest:
                raise AudioError(
                    f"{recording.path}: has {describe_length(len(wave), self.rate)}; one frame needs {shortest}. Leave "
                    "the file out."
                )
        return self.proba_of(waves)

    def proba_of(self, waves: Sequence[Waveform]) -> NDArray[np.float32]:
        """Return the probabilities of waveforms, (n, C). Their rate is `rate`, and none is shorter than `shortest`.

        Batches hold waveforms of similar length, so that there is little padding. Raises EncoderError if one is too
        long for the memory.
        """
        order = sorted(range(len(waves)), key=lambda row: len(waves[row]))
        size = self.card.settings.batch_size
        seconds = [len(wave) / self.rate for wave in waves]
        memory = Memory(self.card.base, self.device)
        proba = np.zeros((len(waves), len(self.card.labels)), np.float32)

        def classify(rows: Sequence[int]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = self._classify([waves[row] for row in rows])[0].softmax(1).cpu().numpy()
            return found

        for begin in range(0, len(order), size):
            for rows, found in memory.encode(order[begin : begin + size], seconds, classify):
                proba[rows] = found
        return proba

    def attention_of(self, wave: Waveform) -> NDArray[np.float32] | None:
        """Return the weight of each frame of a waveform, (T,), with the sum 1; None without attention over frames.

        A waveform longer than `card.settings.seconds` has the frames of its middle only.
        """
        if self.card.settings.pooling != "attention" or self.network.classifier is None:
            return None
        weights: NDArray[np.float32] = self._classify([wave])[1][0].float().cpu().numpy()
        return weights

    def _classify(self, waves: Sequence[Waveform]) -> Any:
        """Call `Network.classify` with one batch. One thread at a time: the network stores the lengths of its batch."""
        import torch

        from .clips import collate, crop, normalise

        longest = round(self.card.settings.seconds * self.rate)
        batch = collate([{"input_values": normalise(self.features, crop(w, longest)), "labels": 0} for w in waves])
        with self.lock, torch.inference_mode():
            return self.network.classify(batch["input_values"].to(self.device), batch["lengths"].to(self.device))


def _load_classifier(network: Any, folder: Path, card: CheckpointCard) -> None:
    """Load the classifier of a checkpoint's folder into a network. Raises ModelError if it cannot be read or used."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .network import classifier_state

    path = folder / ("model.safetensors" if card.settings.classifier == SEQUENCE else CLASSIFIER)
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error}). Copy the complete checkpoint again.") from error
    wanted = classifier_state(network)
    if {n: t.shape for n, t in wanted.items()} != {n: stored[n].shape for n in wanted if n in stored}:
        raise ModelError(f"{path}: does not hold the classifier that {CARD} describes. Copy the checkpoint again.")
    whole = network.encoder if network.classifier is None else network.classifier
    whole.load_state_dict({name: stored[name] for name in wanted}, strict=False)


def write_checkpoint(folder: Path, result: Finetuned) -> None:
    """Write the folder of a checkpoint, completely or not at all. Raises EncoderError if it cannot be written."""
    from safetensors.torch import save_file

    from .network import classifier_state

    network, card = result.network, result.card
    partial = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        setattr(network.base.config, TRAINED_ON, card.trained_on.sha256)
        with quiet():
            network.encoder.save_pretrained(partial)
            result.features.save_pretrained(partial)
        if network.classifier is not None:
            save_file(classifier_state(network), partial / CLASSIFIER)
        (partial / CARD).write_text(json.dumps(card.to_dict(), indent=1), encoding="utf-8")
        sync_files(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise EncoderError(f"cannot write {folder}: {error.strerror or error}. Make room, or choose --out.") from error
