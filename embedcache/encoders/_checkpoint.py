"""Checkpoints on disk or on the hub: opened whole, refused by name where they are not, and named by their content.

Remote code is never run. Files on this machine are used without asking the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio import pipeline
from ..encoder import EncoderInfo
from ..errors import EncoderError

RECIPE = 1
UNTRAINED = "wav2vec2-base-untrained"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# What a config says about training, tasks and files; the forward pass does not depend on it.
IRRELEVANT = (
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "id2label",
    "label2id",
    "processor_class",
)
# Tensors that only training uses: checkpoints may lack them.
TRAINING_ONLY = ("masked_spec_embed",)


@dataclass(frozen=True)
class Checkpoint:
    """A frozen model in float32, its feature extractor, and what identifies them."""

    info: EncoderInfo
    model: Any
    features: Any

    @property
    def normalised(self) -> bool:
        """Whether the waveform is brought to zero mean and unit variance first."""
        return _normalises(self.features)


def open_checkpoint(checkpoint: str, name: str, precision: str) -> Checkpoint:
    """The checkpoint in a local folder or on the hub. Raises EncoderError where it cannot be had or is not whole."""
    source, folder = locate(checkpoint)
    with _quiet():
        model, features = _load(source, folder)
    return _identified(name or Path(source).name, source, model, features, precision)


def untrained(precision: str, seed: int = 0) -> Checkpoint:
    """wav2vec2-base as its config makes it, with seeded random weights: a control, and a stand-in offline."""
    import torch

    with _quiet():
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Wav2Vec2Model(Wav2Vec2Config())
    return _identified(UNTRAINED, "", model, Wav2Vec2FeatureExtractor(), precision)


def locate(checkpoint: str) -> tuple[str, Path]:
    """What a checkpoint is called in a fingerprint's company, and the folder of its files."""
    if Path(checkpoint).is_dir():
        folder = Path(checkpoint).resolve()
        return str(folder), folder
    return checkpoint, _hub_folder(checkpoint)


def files_here(checkpoint: str) -> list[Path]:
    """The files of a checkpoint that is on this machine, in the order of their names."""
    folder = Path(checkpoint).resolve() if Path(checkpoint).is_dir() else _cached_folder(checkpoint)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder else []


def is_cached(checkpoint: str) -> bool:
    """Whether a hub checkpoint's config and weights lie in the local Hugging Face cache."""
    return _cached_folder(checkpoint) is not None


def _normalises(features: Any) -> bool:
    return bool(getattr(features, "do_normalize", False))


def _identified(name: str, checkpoint: str, model: Any, features: Any, precision: str) -> Checkpoint:
    if getattr(model.config, "is_encoder_decoder", False):
        if model.config.model_type != "whisper":
            kind = model.config.model_type
            raise EncoderError(f"{checkpoint}: is an encoder-decoder ({kind}); of these, Whisper alone is taken apart.")
        model = model.get_encoder()
    normalised = "zero mean, unit variance" if _normalises(features) else "as it is"
    info = EncoderInfo(
        name=name,
        checkpoint=checkpoint,
        weights_sha256=_weights_sha256(name, model, features),
        sample_rate=int(features.sampling_rate),
        n_layers=int(model.config.num_hidden_layers) + 1,
        dim=int(model.config.hidden_size),
        precision=precision,
        preprocessing=f"{pipeline()}; {type(features).__name__}, {normalised}",
        recipe_version=RECIPE,
    )
    return Checkpoint(info, model.eval().requires_grad_(False), features)


def _load(checkpoint: str, folder: Path) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor, AutoModel

    try:
        features = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"{checkpoint}: cannot be loaded from {folder} ({reason}). Wanted what save_pretrained writes: "
            "config.json, preprocessor_config.json and model.safetensors."
        ) from error
    _refuse_other_tensors(checkpoint, model, report)
    return model, features


def _refuse_other_tensors(checkpoint: str, model: Any, report: Any) -> None:
    """A network that is not the one of the config. Heads for training or for a task may lie beside it."""
    lacking = [key for key in report["missing_keys"] if not key.endswith(TRAINING_ONLY)]
    if lacking:
        raise EncoderError(
            f"{checkpoint}: lacks {len(lacking)} tensors, {sorted(lacking)[0]} first; they would be random. "
            "Use a whole checkpoint."
        )
    parts = {name for name, _ in model.named_children()}
    prefix = f"{model.base_model_prefix}."
    extra = [key for key in report["unexpected_keys"] if key.removeprefix(prefix).partition(".")[0] in parts]
    if extra:
        raise EncoderError(
            f"{checkpoint}: holds {len(extra)} tensors that its config.json has no place for, {sorted(extra)[0]} "
            "first; the network would be another. Use the config that belongs to these weights."
        )


def _weights_sha256(name: str, model: Any, features: Any) -> str:
    """SHA-256 over both configs and every tensor with its name. Raises EncoderError for NaN or infinite weights."""
    configs = [{k: v for k, v in part.to_dict().items() if k not in IRRELEVANT} for part in (model.config, features)]
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        if not bool(tensor.isfinite().all()):
            raise EncoderError(f"{name}: tensor {key} holds NaN or infinite weights. Use a sound checkpoint.")
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{key}{values.dtype}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


def _hub_folder(checkpoint: str) -> Path:
    """The checkpoint's files on this machine: from the cache without asking the network, else downloaded."""
    cached = _cached_folder(checkpoint)
    return cached if cached is not None else _download(checkpoint)


def _cached_folder(checkpoint: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(checkpoint, "config.json")
    except HFValidationError:  # no hub id: `_download` says so
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    whole = (folder / "preprocessor_config.json").exists() and any((folder / name).exists() for name in WEIGHTS)
    return folder if whole else None


def _download(checkpoint: str) -> Path:
    """Fetch config and weights into the Hugging Face cache. Asks once, so that offline it fails at once."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        files = {sibling.rfilename for sibling in HfApi().model_info(checkpoint, timeout=10).siblings or ()}
        weights = "*.safetensors*" if any(file.endswith(".safetensors") for file in files) else "pytorch_model*.bin*"
        return Path(snapshot_download(checkpoint, allow_patterns=["*.json", weights]))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderError(
            f"{checkpoint}: no such checkpoint on the hub, and no such folder here. `ser encoders` lists the names."
        ) from error
    except (OSError, HfHubHTTPError, *_network_errors()) as error:
        raise EncoderError(_unreachable(checkpoint, error)) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when there is no network: its HTTP library's own error, whichever that is."""
    import huggingface_hub.utils._http as http

    library = getattr(http, "httpx", None) or getattr(http, "httpx2", None)
    return (library.HTTPError,) if library else ()


def _unreachable(checkpoint: str, error: Exception) -> str:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{checkpoint}: not in the cache {HF_HUB_CACHE}, and {ENDPOINT} cannot be reached ({reason}).\n"
        "Two ways out: --encoder FOLDER with a checkpoint copied from elsewhere (config.json, preprocessor_config.json "
        f"and model.safetensors), or --encoder {UNTRAINED}, the same network with random weights, as a control."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes on tensors that a frozen encoder does not use."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
