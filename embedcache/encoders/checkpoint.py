"""Checkpoints in a local folder or on the Hugging Face hub: they are loaded, checked and identified by their content.

A checkpoint from an unknown source cannot run code. Settings that name code, other files or other checkpoints are
refused; weights must be safetensors, or a file that torch's restricted unpickler accepts; and a network that the weight
files cannot fill is never built. Files on this machine are used without a network request.
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
from ..provenance import TRAINED_ON, read_checkpoint_training_list
from .contamination import published

RECIPE = 1  # `recipe_version` of the encoders; raise it with any change of this code that changes numbers
UNTRAINED = "wav2vec2-base-untrained"
# Files that hold weights, in the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Settings about training, tasks and files; the forward pass does not depend on them, and neither does the fingerprint.
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
# Tensors that only training uses. A checkpoint may lack them.
TRAINING_ONLY = ("masked_spec_embed",)

SETTINGS_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
# Settings that make transformers run other code, or read files outside the checkpoint.
FOREIGN = ("auto_map", "compression_config", "quantization_config", "transformers_weights")
ADAPTER = "adapter_config.json"
MAX_JSON_BYTES = 1 << 24  # Whisper's filters take 0.3 MB; a weight index takes about 100 bytes a tensor
MAX_ITEMS = 5_000  # of a list in a JSON file; a filter bank has one row for each frequency
EMOTIONS = ("ang", "hap", "sad", "fear", "disg", "surp", "calm", "joy", "arousal", "valence")  # starts of labels
RATES = (1_000, 192_000)  # lowest and highest sampling rate, in Hz
# Largest value of a setting whose name contains the key. transformers creates as many layers, labels and filters as the
# settings request. Its deepest network has 70 layers, its widest layer 24,576 numbers, and its largest vocabulary
# 262,400 tokens.
MAX_VALUES = {
    "layers": 1_000,
    "sampling_rate": RATES[1],
    **dict.fromkeys(("mel", "fft", "feature_size", "chunk_length", "win_length"), 4096),
    **dict.fromkeys(("token", "vocab", "position", "samples", "chunk_size"), 4_000_000),
}
MAX_OTHER_VALUES = 100_000
MIN_VALUES = {"stride": 1, "attention_heads": 1}  # smallest value of a setting whose name contains the key


@dataclass(frozen=True)
class Checkpoint:
    """A frozen model in float32, its feature extractor, and the facts that identify them."""

    info: EncoderInfo
    model: Any
    features: Any  # the feature extractor

    @property
    def normalised(self) -> bool:
        """Whether each waveform is brought to zero mean and unit variance first."""
        return _normalises(self.features)


def open_checkpoint(checkpoint: str, name: str, precision: str) -> Checkpoint:
    """Load the checkpoint in a local folder or on the hub.

    `name` is the encoder's name; if it is empty, the last part of the folder or hub id is used.

    Raises EncoderError if the checkpoint cannot be found or downloaded, or is not complete. A fine-tuned checkpoint is
    complete only with the list of the clips on which it was trained.
    """
    source, folder = locate(checkpoint)
    with quiet():
        model, extractor = _load(source, folder)
    # Raises EncoderError if the list is missing.
    read_checkpoint_training_list(folder, getattr(model.config, TRAINED_ON, ""))
    return _identify(name or Path(source).name, source, model, extractor, precision)


def emotion_labels(checkpoint: Checkpoint) -> list[str]:
    """Return the labels of the checkpoint's classifier if they are emotions; none if the leak check knows its training.

    Classifiers of other checkpoints are left out: transformers gives every config the labels `LABEL_0`, `LABEL_1`.
    """
    names = list(map(str, (getattr(checkpoint.model.config, "id2label", None) or {}).values()))
    known = checkpoint.info.trained_on or checkpoint.info.checkpoint in published()
    are_emotions = sum(name.lower().startswith(EMOTIONS) for name in names) >= 2
    return names if are_emotions and not known else []


def untrained(precision: str, seed: int = 0) -> Checkpoint:
    """Return wav2vec2-base with random weights: a control, and a replacement for a checkpoint when offline."""
    import torch

    with quiet():
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Wav2Vec2Model(Wav2Vec2Config())
    return _identify(UNTRAINED, "", model, Wav2Vec2FeatureExtractor(), precision)


def locate(checkpoint: str) -> tuple[str, Path]:
    """Return where a checkpoint comes from (its absolute folder or its hub id) and the folder of its files."""
    if Path(checkpoint).is_dir():
        folder = Path(checkpoint).resolve()
        return str(folder), folder
    return checkpoint, _hub_folder(checkpoint)


def local_files(checkpoint: str) -> list[Path]:
    """Return the files of a checkpoint on this machine, sorted by name; none if it is not on this machine."""
    folder = Path(checkpoint).resolve() if Path(checkpoint).is_dir() else _cached_folder(checkpoint)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder else []


def is_cached(checkpoint: str) -> bool:
    """Whether the config and the weights of a hub checkpoint are in the local Hugging Face cache."""
    return _cached_folder(checkpoint) is not None


def _normalises(extractor: Any) -> bool:
    return bool(getattr(extractor, "do_normalize", False))


def _identify(name: str, checkpoint: str, model: Any, extractor: Any, precision: str) -> Checkpoint:
    """Freeze a model and describe it. Of an encoder-decoder, only Whisper's encoder is taken."""
    if getattr(model.config, "is_encoder_decoder", False):
        if model.config.model_type != "whisper":
            raise EncoderError(
                f"{checkpoint}: is an encoder-decoder of type '{model.config.model_type}'; only 'whisper' is "
                "supported. Use a checkpoint of an encoder, or of Whisper."
            )
        model = model.get_encoder()
    normalised = "zero mean, unit variance" if _normalises(extractor) else "as it is"  # enters the fingerprint
    info = EncoderInfo(
        name=name,
        checkpoint=checkpoint,
        weights_sha256=_weights_sha256(name, model, extractor),
        sample_rate=int(extractor.sampling_rate),
        n_layers=int(model.config.num_hidden_layers) + 1,
        dim=int(model.config.hidden_size),
        precision=precision,
        preprocessing=f"{pipeline()}; {type(extractor).__name__}, {normalised}",
        recipe_version=RECIPE,
        trained_on=getattr(model.config, TRAINED_ON, ""),
        tensors_sha256=tensors_sha256(model),
    )
    return Checkpoint(info, model.eval().requires_grad_(False), extractor)


def _load(checkpoint: str, folder: Path) -> tuple[Any, Any]:
    """Return the model and the feature extractor in a folder. Raises EncoderError if they are not complete and safe."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    _refuse_foreign(checkpoint, folder)
    weights = _weight_files(folder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _refuse_larger(checkpoint, folder, weights)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
        )
    except EncoderError:
        raise
    except Exception as error:  # transformers and torch raise exceptions of any type for malicious files
        raise EncoderError(
            f"{checkpoint}: cannot be loaded from {folder} ({_reason(error)}). Wanted the files that save_pretrained "
            "writes: config.json, preprocessor_config.json and model.safetensors. Copy or download them again."
        ) from error
    _refuse_other_tensors(checkpoint, model, report)
    _zero_unused(model, report["missing_keys"])
    _check_rate(checkpoint, getattr(extractor, "sampling_rate", None))
    return model, extractor


def _reason(error: Exception) -> str:
    from pickle import UnpicklingError

    if isinstance(error, UnpicklingError):  # torch's own message advises to run the pickle
        return "its weights are a pickle that holds more than tensors, which ser never loads"
    return first_line(error)


def _check_rate(checkpoint: str, rate: Any) -> None:
    if not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise EncoderError(
            f"{checkpoint}: its sampling_rate is {rate!r}; wanted a whole number of {RATES[0]:,} to {RATES[1]:,} Hz. "
            "Use another checkpoint."
        )


def _refuse_foreign(checkpoint: str, folder: Path) -> None:
    """Raise EncoderError for settings that lead transformers out of the folder, or would fill the memory."""
    if (folder / ADAPTER).exists():
        raise EncoderError(
            f"{checkpoint}: is an adapter ({ADAPTER}) for another checkpoint; wanted a complete checkpoint. Merge the "
            "adapter into its base model, or use another checkpoint."
        )
    for path in (folder / name for name in SETTINGS_FILES if (folder / name).exists()):
        for name, value in _walk_settings(read_json(path, MAX_JSON_BYTES, EncoderError)):
            if fault := _find_fault(name, value):
                raise EncoderError(f"{path}: {fault}. Use another checkpoint, or remove this setting from the file.")


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files that transformers will read. Raises EncoderError if an index names other folders."""
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None or first.suffix != ".json":
        return [first] if first else []
    index = read_json(first, MAX_JSON_BYTES, EncoderError)
    names = index.get("weight_map") if isinstance(index, dict) else None
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    if not isinstance(names, dict) or not all(isinstance(name, str) and name in files for name in names.values()):
        raise EncoderError(
            f"{first}: its 'weight_map' does not name files of the same folder. Use a complete checkpoint."
        )
    return [files[name] for name in set(names.values())]


def _walk_settings(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of every setting at any depth; the items of a list have the name of the list.

    Example: {"a": {"b": [1, 2]}} yields ("", {…}), ("a", {…}), ("b", [1, 2]), ("b", 2), ("b", 1).
    """
    waiting = [("", content)]
    while waiting:
        name, value = waiting.pop()
        yield name, value
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]


def _find_fault(name: str, value: Any) -> str:
    """Return what is wrong with a setting, in a few words; empty if nothing is."""
    if name in FOREIGN and value:
        return f"sets '{name}', which would use code or files from outside the checkpoint"
    if name.endswith("_implementation") and "/" in str(value):
        return f"sets '{name}' to {value!r}, which would run code from outside the checkpoint"
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        return f"sets '{name}' to a list of {len(value):,} items; wanted at most {MAX_ITEMS:,}"
    if type(value) is not int:
        return ""
    most = min((most for part, most in MAX_VALUES.items() if part in name), default=MAX_OTHER_VALUES)
    least = max((least for part, least in MIN_VALUES.items() if part in name), default=-most)
    return "" if least <= value <= most else f"sets '{name}' to {value:,}; wanted {least:,} to {most:,}"


def _refuse_larger(checkpoint: str, folder: Path, weights: Sequence[Path]) -> None:
    """Raise EncoderError if the config describes a network of more numbers than the weight files have bytes.

    transformers would fill such a network with random numbers. The network is built on torch's meta device, which
    allocates no memory for its numbers.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        network = AutoModel.from_config(config, trust_remote_code=False)
    numbers = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    size = sum(path.stat().st_size for path in weights)
    if weights and numbers > size:
        raise EncoderError(
            f"{checkpoint}: its config.json describes a network of {numbers:,} numbers, but its weight files have only "
            f"{size:,} bytes. Use the config.json that belongs to these weights."
        )


def _zero_unused(model: Any, missing: Sequence[str]) -> None:
    """Set the tensors to zero that the checkpoint lacks and only training uses; transformers draws them at random.

    This makes facebook/wav2vec2-base-960h, which has no `masked_spec_embed`, the same encoder each time.
    """
    import torch

    for name, tensor in model.named_parameters():
        if name.endswith(TRAINING_ONLY) and any(key.endswith(name) for key in missing):
            torch.nn.init.zeros_(tensor)


def _refuse_other_tensors(checkpoint: str, model: Any, report: Any) -> None:
    """Raise EncoderError if the weight files lack tensors of the network, or hold tensors for which it has no place.

    The heads of pretraining or of a task are accepted: they are tensors outside the parts of the network.
    """
    missing = [key for key in report["missing_keys"] if not key.endswith(TRAINING_ONLY)]
    if missing:
        raise EncoderError(
            f"{checkpoint}: lacks {len(missing)} tensors of its network (first: '{min(missing)}'), which would be "
            "random. Use a complete checkpoint."
        )
    parts = {name for name, _ in model.named_children()}
    prefix = f"{model.base_model_prefix}."
    extra = [key for key in report["unexpected_keys"] if key.removeprefix(prefix).partition(".")[0] in parts]
    if extra:
        raise EncoderError(
            f"{checkpoint}: holds {len(extra)} tensors that its config.json does not describe (first: '{min(extra)}'), "
            "so the network would be a different one. Use the config.json that belongs to these weights."
        )


def _weights_sha256(name: str, model: Any, extractor: Any) -> str:
    """Return the SHA-256 of both configs and of every tensor with its name.

    Raises EncoderError for NaN or infinite weights.
    """
    configs = [
        {key: value for key, value in part.to_dict().items() if key not in IRRELEVANT}
        for part in (model.config, extractor)
    ]
    for key, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise EncoderError(
                f"{name}: the tensor '{key}' holds NaN or infinite weights; wanted finite ones. Copy or download the "
                "checkpoint again."
            )
    return _digest_of_tensors(model, json.dumps(configs, sort_keys=True, default=str))


def tensors_sha256(model: Any) -> str:
    """Return the SHA-256 of every tensor with its name: the same for a network under another configuration."""
    return _digest_of_tensors(model, "")


def _digest_of_tensors(model: Any, before: str) -> str:
    """Return the SHA-256 of a text, followed by every tensor with its name."""
    digest = hashlib.sha256(before.encode())
    for key, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{key}{values.dtype}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


def _hub_folder(checkpoint: str) -> Path:
    """Return the folder of a hub checkpoint's files, which are downloaded only if the cache does not hold them."""
    cached = _cached_folder(checkpoint)
    return cached if cached is not None else _download(checkpoint)


def _cached_folder(checkpoint: str) -> Path | None:
    """Return the folder in the Hugging Face cache, or None if it does not hold the whole checkpoint."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(checkpoint, "config.json")
    except HFValidationError:  # not a hub id, which `_download` reports
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    complete = (folder / "preprocessor_config.json").exists() and any((folder / name).exists() for name in WEIGHTS)
    return folder if complete else None


def _download(checkpoint: str) -> Path:
    """Download config and weights into the Hugging Face cache.

    The first request has a timeout of 10 s and is not repeated, so that the download fails at once when offline.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        files = {sibling.rfilename for sibling in HfApi().model_info(checkpoint, timeout=10).siblings or ()}
        weights = "*.safetensors*" if any(file.endswith(".safetensors") for file in files) else "pytorch_model*.bin*"
        return Path(snapshot_download(checkpoint, allow_patterns=["*.json", weights]))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderError(
            f"{checkpoint}: no such checkpoint on the hub, and no such folder here. `ser encoders` lists the built-in "
            "names."
        ) from error
    except (OSError, HfHubHTTPError, *_network_errors()) as error:
        raise EncoderError(*_unreachable(checkpoint, error)) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the base class of the errors that the hub's HTTP library raises without a network connection."""
    import huggingface_hub.utils._http as http

    library = getattr(http, "httpx", None) or getattr(http, "httpx2", None)
    return (library.HTTPError,) if library else ()


def _unreachable(checkpoint: str, error: Exception) -> tuple[str, str]:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    reason = first_line(error)
    return (
        f"{checkpoint}: not in the cache {HF_HUB_CACHE}, and {ENDPOINT} cannot be reached ({reason}).",
        "Use one of: --encoder FOLDER with a checkpoint copied from another machine (config.json, "
        "preprocessor_config.json and model.safetensors); --encoder mfcc, which needs no weights; or, as a control, "
        f"--encoder {UNTRAINED}, the network of wav2vec2-base with random weights.",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars, and its notes on tensors that a frozen encoder does not use."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
