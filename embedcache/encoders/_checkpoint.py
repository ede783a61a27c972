"""Checkpoints on disk or on the hub: opened whole, refused by name where they are not, and named by their content.

A checkpoint from a stranger runs no code: settings that name code, other files or other checkpoints are refused, its
weights are safetensors or what torch's restricted reader takes, and a network that they cannot fill is never built.
Files on this machine are used without asking the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio.decode import pipeline
from ..encoder import EncoderInfo
from ..errors import EncoderError, first_line
from ..files.untrusted import read_json
from ..provenance import TRAINED_ON, of_checkpoint

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

SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
# Settings by which transformers runs other code, or reads other files than those of the checkpoint.
FOREIGN = ("auto_map", "compression_config", "quantization_config", "transformers_weights")
ADAPTER = "adapter_config.json"
MOST_BYTES = 1 << 24  # of a JSON file: Whisper's has 0.3 MB for its filters, an index some 100 bytes a tensor
MOST_ITEMS = 5_000  # of a list: a filter bank has a row a frequency
RATES = (1_000, 192_000)  # Hz
# What a setting may be at most, by what its name holds: transformers makes as many layers, labels and filters as it is
# told. The deepest network that it knows has 70 layers, the widest layer 24,576 numbers, the most tokens are 262,400.
MOST = {
    "layers": 1_000,
    "sampling_rate": RATES[1],
    **dict.fromkeys(("mel", "fft", "feature_size", "chunk_length", "win_length"), 4096),
    **dict.fromkeys(("token", "vocab", "position", "samples", "chunk_size"), 4_000_000),
}
MOST_ELSE = 100_000
LEAST = {"stride": 1, "attention_heads": 1}


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
    """The checkpoint in a local folder or on the hub. Raises EncoderError where it cannot be had or is not whole.

    One that was fine-tuned is whole only with the list of what it was trained on.
    """
    source, folder = locate(checkpoint)
    with quiet():
        model, features = _load(source, folder)
    of_checkpoint(folder, getattr(model.config, TRAINED_ON, ""))
    return _identified(name or Path(source).name, source, model, features, precision)


def untrained(precision: str, seed: int = 0) -> Checkpoint:
    """wav2vec2-base as its config makes it, with seeded random weights: a control, and a stand-in offline."""
    import torch

    with quiet():
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
        trained_on=getattr(model.config, TRAINED_ON, ""),
    )
    return Checkpoint(info, model.eval().requires_grad_(False), features)


def _load(checkpoint: str, folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    _refuse_foreign(checkpoint, folder)
    weights = _weight_files(folder)
    try:
        features = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _refuse_larger(checkpoint, folder, weights)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except EncoderError:
        raise
    except Exception as error:  # for files that were made to break them, transformers and torch raise anything
        raise EncoderError(
            f"{checkpoint}: cannot be loaded from {folder} ({_reason(error)}). Wanted what save_pretrained writes: "
            "config.json, preprocessor_config.json and model.safetensors."
        ) from error
    _refuse_other_tensors(checkpoint, model, report)
    _settle_unused(model, report["missing_keys"])
    rate = getattr(features, "sampling_rate", None)
    if not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise EncoderError(f"{checkpoint}: takes {rate} samples a second; wanted {RATES[0]:,} to {RATES[1]:,}.")
    return model, features


def _reason(error: Exception) -> str:
    from pickle import UnpicklingError

    if isinstance(error, UnpicklingError):  # torch's own words advise to run it
        return "its weights are a pickle of more than tensors, which is never run"
    return first_line(error)


def _refuse_foreign(checkpoint: str, folder: Path) -> None:
    """Refuse what transformers would follow out of the folder, and settings that would fill the memory."""
    if (folder / ADAPTER).exists():
        raise EncoderError(f"{checkpoint}: is an adapter ({ADAPTER}) to another checkpoint. Use a whole one.")
    for path in (folder / name for name in SETTINGS if (folder / name).exists()):
        for name, value in _settings(read_json(path, MOST_BYTES, EncoderError)):
            if fault := _fault(name, value):
                raise EncoderError(f"{path}: {fault}. Use another checkpoint, or take that out of the file.")


def _weight_files(folder: Path) -> list[Path]:
    """The files of the weights that transformers will take. Raises EncoderError for an index that leads elsewhere."""
    taken = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if taken is None or taken.suffix != ".json":
        return [taken] if taken else []
    index = read_json(taken, MOST_BYTES, EncoderError)
    named = index.get("weight_map") if isinstance(index, dict) else None
    inside = {path.name: path for path in folder.iterdir() if path.is_file()}
    if not isinstance(named, dict) or not all(isinstance(name, str) and name in inside for name in named.values()):
        raise EncoderError(f"{taken}: names weights that are no files of its folder. Use a whole checkpoint.")
    return [inside[name] for name in set(named.values())]


def _settings(content: Any) -> Iterator[tuple[str, Any]]:
    """Every setting at any depth, by name; the items of a list go by its name."""
    waiting = [("", content)]
    while waiting:
        name, value = waiting.pop()
        yield name, value
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]


def _fault(name: str, value: Any) -> str:
    if name in FOREIGN and value:
        return f"sets {name}, by which code or files from elsewhere would be used, which is never done"
    if name.endswith("_implementation") and "/" in str(value):
        return f"sets {name} to {value!r}: code from elsewhere, which is never run"
    if isinstance(value, list) and len(value) > MOST_ITEMS:
        return f"sets {name} to a list of {len(value):,}; at most {MOST_ITEMS:,} are taken"
    if type(value) is not int:
        return ""
    most = min((most for part, most in MOST.items() if part in name), default=MOST_ELSE)
    least = max((least for part, least in LEAST.items() if part in name), default=-most)
    return "" if least <= value <= most else f"sets {name} to {value:,}; wanted {least:,} to {most:,}"


def _refuse_larger(checkpoint: str, folder: Path, weights: Sequence[Path]) -> None:
    """Refuse a config whose network has more numbers than the weights have bytes: it would be filled at random.

    The network is made on torch's meta device, without memory for its numbers.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        network = AutoModel.from_config(config, trust_remote_code=False)
    numbers = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    held = sum(path.stat().st_size for path in weights)
    if weights and numbers > held:
        raise EncoderError(
            f"{checkpoint}: its config.json makes a network of {numbers:,} numbers, its weights have {held:,} bytes. "
            "Use the config that belongs to these weights."
        )


def _settle_unused(model: Any, missing: Sequence[str]) -> None:
    """Zero for tensors that the checkpoint lacks and only training uses: transformers would draw them at random.

    So facebook/wav2vec2-base-960h, which has no `masked_spec_embed`, is the same encoder each time.
    """
    import torch

    for name, tensor in model.named_parameters():
        if name.endswith(TRAINING_ONLY) and any(key.endswith(name) for key in missing):
            torch.nn.init.zeros_(tensor)


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

    reason = first_line(error)
    return (
        f"{checkpoint}: not in the cache {HF_HUB_CACHE}, and {ENDPOINT} cannot be reached ({reason}).\n"
        "Three ways out: --encoder FOLDER with a checkpoint copied from elsewhere (config.json, "
        "preprocessor_config.json and model.safetensors); --encoder mfcc, which needs no weights; or, as a control, "
        f"--encoder {UNTRAINED}, the same network with random ones."
    )


@contextmanager
def quiet() -> Iterator[None]:
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
