"""Checkpoints, which are loaded from a folder, checked, and identified by their content. `hub` finds the folder.

A checkpoint from an unknown source cannot run code. Settings that name code, other files or other checkpoints are
refused; weights must be safetensors, or a file that torch's restricted unpickler accepts; and a network that the weight
files cannot fill is never built.
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
from .contamination import find_published
from .engine.memory import explain_load
from .hub import (
    CONFIG,
    FEATURES,
    FILES,
    MAX_JSON_BYTES,
    PROCESSOR,
    UNTRAINED,
    WEIGHTS,
    locate,
    name_of,
    refuse_incomplete,
)

RECIPE = 1  # `recipe_version` of the encoders; raise it with any change of this code that changes numbers
# What is pooled, by model type, where an earlier version pooled something else under the same fingerprint.
OWN_FRAMES = {"audio-spectrogram-transformer": "; frames of the clip"}
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
# Tensors that transformers computes from the config or does not use. A checkpoint may lack them. Running means and
# variances are not among them: training measures them.
COMPUTED = ("inv_freq", "num_batches_tracked")
# Most numbers that transformers may compute from the config in addition to the weights, 0.3 GB. The tables of relative
# positions of wav2vec2-conformer and wav2vec2-bert have 10 million.
MAX_COMPUTED = 1 << 26

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # how transformers may read a folder
SETTINGS_FILES = (CONFIG, FEATURES, PROCESSOR)
# Settings that make transformers run other code, or read files outside the checkpoint.
FOREIGN = ("auto_map", "compression_config", "quantization_config", "transformers_weights")
ADAPTER = "adapter_config.json"
ADVICE_JSON = "Copy or download it again; an editor must save it as UTF-8, without a byte order mark."
MAX_ITEMS = 5_000  # of a list in a JSON file; a filter bank has one row for each frequency
USE = "Use a speech encoder with its own feature extractor."
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

    `name` is the encoder's name; if it is empty, it is that of `name_of`.

    Raises EncoderError if the checkpoint cannot be found or downloaded, or is not complete. A fine-tuned checkpoint is
    complete only with the list of the clips on which it was trained.
    """
    source, folder = locate(checkpoint)
    with quiet():
        model, extractor = _load(source, folder)
    # Raises EncoderError if the list is missing.
    read_checkpoint_training_list(folder, getattr(model.config, TRAINED_ON, ""))
    return _identify(name or name_of(source), source, model, extractor, precision)


def emotion_labels(checkpoint: Checkpoint) -> list[str]:
    """Return the labels of the checkpoint's classifier if they are emotions; none if the leak check knows its training.

    Classifiers of other checkpoints are left out: transformers gives every config the labels `LABEL_0`, `LABEL_1`.
    """
    names = list(map(str, (getattr(checkpoint.model.config, "id2label", None) or {}).values()))
    known = checkpoint.info.trained_on or find_published(checkpoint.info.checkpoint)
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
    for size in ("num_hidden_layers", "hidden_size"):
        if not isinstance(getattr(model.config, size, None), int):
            raise EncoderError(f"{checkpoint}: its config.json has no {size}; wanted a speech encoder. {USE}")
    normalised = "zero mean, unit variance" if _normalises(extractor) else "as it is"  # enters the fingerprint
    pooled = OWN_FRAMES.get(model.config.model_type, "")
    info = EncoderInfo(
        name=name,
        checkpoint=checkpoint,
        weights_sha256=_weights_sha256(name, model, extractor),
        sample_rate=int(extractor.sampling_rate),
        n_layers=int(model.config.num_hidden_layers) + 1,
        dim=int(model.config.hidden_size),
        precision=precision,
        preprocessing=f"{pipeline()}; {type(extractor).__name__}, {normalised}{pooled}",
        recipe_version=RECIPE,
        trained_on=getattr(model.config, TRAINED_ON, ""),
        tensors_sha256=tensors_sha256(model),
    )
    return Checkpoint(info, model.eval().requires_grad_(False), extractor)


def _load(checkpoint: str, folder: Path) -> tuple[Any, Any]:
    """Return the model and the feature extractor in a folder. Raises EncoderError if they are not complete and safe."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    refuse_incomplete(checkpoint, folder)
    _refuse_foreign(checkpoint, folder)
    weights = _weight_files(folder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, **LOCAL)
        config = _load_config(folder)
        _refuse_larger(checkpoint, config, weights)
        options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **LOCAL}
        with explain_load(checkpoint, torch.device("cpu")):
            model, report = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, **options)
    except EncoderError:
        raise
    except Exception as error:  # transformers and torch raise exceptions of any type for malicious files
        raise EncoderError(
            f"{checkpoint}: cannot be loaded from {folder} ({_reason(error)}). Wanted the files that save_pretrained "
            f"writes: {FILES}. Copy or download them again."
        ) from error
    _refuse_other_tensors(checkpoint, model, report)
    _zero_unused(model, report["missing_keys"])
    _check_rate(checkpoint, getattr(extractor, "sampling_rate", None))
    return model, extractor


def _load_config(folder: Path) -> Any:
    """Return the config in a folder, without the implementation of attention that it may name.

    The name is that of the machine on which the checkpoint was saved: FlashAttention is missing on most others, and
    implementations round differently. Without it, transformers uses the same one for all checkpoints of a family.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **LOCAL)
    config._attn_implementation = None
    return config


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
        for name, value in _walk_settings(read_json(path, MAX_JSON_BYTES, EncoderError, ADVICE_JSON)):
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


def _refuse_larger(checkpoint: str, config: Any, weights: Sequence[Path]) -> None:
    """Raise EncoderError if the config describes a network of more numbers than the weight files have bytes.

    transformers would fill such a network with random numbers. Tables that it computes are not in the weight files, and
    have a limit of their own.
    """
    numbers, computed = _count_numbers(config)
    size = sum(path.stat().st_size for path in weights)
    if weights and numbers > size:
        raise EncoderError(
            f"{checkpoint}: its config.json describes a network of {numbers:,} numbers, but its weight files have only "
            f"{size:,} bytes. Use the config.json that belongs to these weights."
        )
    if computed > MAX_COMPUTED:
        raise EncoderError(
            f"{checkpoint}: its config.json describes tables of {computed:,} numbers, which are not in its weight "
            f"files; wanted at most {MAX_COMPUTED:,}. Use another checkpoint."
        )


def _count_numbers(config: Any) -> tuple[int, int]:
    """Return how many numbers of a network are in its weight files, and how many are computed from its config.

    The network is built on torch's meta device, which allocates no memory for its numbers.
    """
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        network = AutoModel.from_config(config, trust_remote_code=False)
    saved = network.state_dict()
    sizes = {name: tensor.numel() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    computed = sum(size for name, size in sizes.items() if name not in saved)
    return sum(sizes.values()) - computed, computed


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

    The heads of pretraining or of a task are accepted: they are tensors outside the parts of the network. Tables that
    are computed from the config are accepted, too: some versions of transformers save them, others do not.
    """
    missing = [key for key in report["missing_keys"] if not key.endswith((*TRAINING_ONLY, *COMPUTED))]
    if missing:
        raise EncoderError(
            f"{checkpoint}: lacks {len(missing)} tensors of its network (first: '{min(missing)}'), which would be "
            "random. Use a complete checkpoint."
        )
    # transformers draws tensors of other sizes at random, so none of them may be left.
    if others := sorted((name, *map(tuple, sizes)) for name, *sizes in report["mismatched_keys"]):
        name, size, wanted = others[0]
        raise EncoderError(
            f"{checkpoint}: {len(others)} tensors have other sizes than its config.json describes (first: '{name}' is "
            f"{size}, wanted {wanted}). Use the config.json that belongs to these weights."
        )
    parts = {name for name, _ in model.named_children()}
    tables = {name for name, _ in model.named_buffers()}
    unexpected = [key.removeprefix(f"{model.base_model_prefix}.") for key in report["unexpected_keys"]]
    extra = [key for key in unexpected if key.partition(".")[0] in parts and key not in tables]
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
