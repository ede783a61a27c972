"""Any Hugging Face speech encoder, clip by clip: the oracle that faster engines are held to.

One waveform goes through the checkpoint's own feature extractor and `AutoModel`, alone, so that nothing is padded and
no clip can change another's vector. `layers` is the mean over time of every hidden state, `pooled` that of the last.
Remote code is never run. Files on this machine are used without asking the network.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Waveform, pipeline
from ..encoder import Batch, EncoderInfo, EncoderSpec, Vectors, pick_device
from ..errors import AudioError, EncoderError

RECIPE = 1
LONGEST = 120.0  # seconds; the first convolution of wav2vec2-base then takes about 3 GB
ONE_FRAME = 400  # samples, where a config does not say: 25 ms at 16 kHz, the window of every family here
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
class HuggingFaceEncoder:
    """A frozen model and its feature extractor."""

    info: EncoderInfo
    model: Any
    features: Any
    device: Any
    longest: float = LONGEST

    @property
    def shortest(self) -> float:
        """Seconds of audio that give one frame: the receptive field of the convolutions."""
        samples, config = 1, self.model.config
        layers = zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True)
        for kernel, stride in reversed(list(layers)):
            samples = (samples - 1) * stride + kernel
        return (samples if samples > 1 else ONE_FRAME) / self.info.sample_rate

    def encode(self, waveforms: Sequence[Waveform], views: Sequence[str]) -> Batch:
        """`pooled` (n, dim) and `layers` (n, n_layers, dim), float32."""
        empty = np.empty((0, self.info.n_layers, self.info.dim), np.float32)
        layers = np.stack([self._layers(wave) for wave in waveforms]) if waveforms else empty
        made = {"layers": layers, "pooled": np.ascontiguousarray(layers[:, -1])}
        return {view: made[view] for view in views}

    def _layers(self, wave: Waveform) -> Vectors:
        """(n_layers, dim): the mean over time of every hidden state of one clip."""
        import torch

        rate = self.info.sample_rate
        if len(wave) < self.shortest * rate:
            raise AudioError(
                f"a waveform of {len(wave)} samples, {self.info.name} needs {self.shortest * rate:.0f} for one frame."
            )
        inputs = self.features(wave, sampling_rate=rate, return_tensors="pt").to(self.device)
        with torch.inference_mode(), _full_float32():
            states = self.model(**inputs, output_hidden_states=True).hidden_states  # n_layers x (1, T, dim)
            means = torch.cat([state.mean(dim=1) for state in states])
        vectors: Vectors = means.float().cpu().numpy()
        return vectors


def load_checkpoint(checkpoint: str, device: str = "auto", name: str = "") -> HuggingFaceEncoder:
    """The encoder in a local folder or on the hub. Raises EncoderError where it cannot be had or is not whole."""
    place = pick_device(device)
    checkpoint = str(Path(checkpoint).resolve()) if Path(checkpoint).is_dir() else checkpoint
    folder = Path(checkpoint) if Path(checkpoint).is_dir() else _hub_folder(checkpoint)
    with _quiet():
        model, features = _load(checkpoint, folder)
    return _encoder(name or _name(checkpoint), checkpoint, model, features, place)


def is_cached(checkpoint: str) -> bool:
    """Whether a hub checkpoint's config and weights lie in the local Hugging Face cache."""
    return _cached_folder(checkpoint) is not None


def load_untrained(device: str = "auto", seed: int = 0) -> HuggingFaceEncoder:
    """wav2vec2-base as its config makes it, with seeded random weights: a control, and a stand-in offline."""
    import torch

    place = pick_device(device)
    with _quiet():
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Wav2Vec2Model(Wav2Vec2Config())
    return _encoder(UNTRAINED, "", model, Wav2Vec2FeatureExtractor(), place)


def _encoder(name: str, checkpoint: str, model: Any, features: Any, place: Any) -> HuggingFaceEncoder:
    if getattr(model.config, "is_encoder_decoder", False):
        raise EncoderError(f"{checkpoint}: is an encoder-decoder ({model.config.model_type}); wanted a speech encoder.")
    normalised = "zero mean, unit variance" if getattr(features, "do_normalize", False) else "as it is"
    info = EncoderInfo(
        name=name,
        checkpoint=checkpoint,
        weights_sha256=_weights_sha256(name, model, features),
        sample_rate=int(features.sampling_rate),
        n_layers=int(model.config.num_hidden_layers) + 1,
        dim=int(model.config.hidden_size),
        precision="fp32",
        preprocessing=f"{pipeline()}; {type(features).__name__}, {normalised}",
        recipe_version=RECIPE,
    )
    return HuggingFaceEncoder(info, model.eval().requires_grad_(False).to(place), features, place)


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
    lacking = [key for key in report["missing_keys"] if not key.endswith(TRAINING_ONLY)]
    if lacking:
        raise EncoderError(
            f"{checkpoint}: lacks {len(lacking)} tensors, {sorted(lacking)[0]} first; they would be random. "
            "Use a whole checkpoint."
        )
    return model, features


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

    config = try_to_load_from_cache(checkpoint, "config.json")
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


def _name(checkpoint: str) -> str:
    """`facebook/wav2vec2-base` -> `wav2vec2-base`; a folder gives its own name."""
    return Path(checkpoint).name


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


@contextmanager
def _full_float32() -> Iterator[None]:
    """Convolutions in real float32 on CUDA, where cuDNN would round their inputs to 10 bits (TF32)."""
    import torch

    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


UNTRAINED = "wav2vec2-base-untrained"

# name, checkpoint, what it is, licence
HUB = (
    ("wav2vec2-base", "facebook/wav2vec2-base", "wav2vec 2.0, 95 M weights, 960 h of English", "Apache-2.0"),
    ("wav2vec2-base-960h", "facebook/wav2vec2-base-960h", "the same, fine-tuned to transcribe", "Apache-2.0"),
    ("wav2vec2-large", "facebook/wav2vec2-large", "wav2vec 2.0, 317 M weights, 960 h of English", "Apache-2.0"),
    ("hubert-base", "facebook/hubert-base-ls960", "HuBERT, 95 M weights, 960 h of English", "Apache-2.0"),
    ("hubert-large", "facebook/hubert-large-ll60k", "HuBERT, 317 M weights, 60,000 h of English", "Apache-2.0"),
    ("wavlm-base", "microsoft/wavlm-base", "WavLM, 95 M weights, 960 h of English", "see the model's card"),
    ("wavlm-base-plus", "microsoft/wavlm-base-plus", "WavLM, 95 M weights, 94,000 h", "see the model's card"),
    ("wavlm-large", "microsoft/wavlm-large", "WavLM, 317 M weights, 94,000 h", "see the model's card"),
)

encoder = (
    *(
        EncoderSpec(name, about, functools.partial(load_checkpoint, checkpoint, name=name), checkpoint, licence)
        for name, checkpoint, about, licence in HUB
    ),
    EncoderSpec(UNTRAINED, "wav2vec2-base with seeded random weights: a control, and offline", load_untrained),
)
