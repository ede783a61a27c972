"""The encoder and the classifier on it, blind to padding.

wav2vec2-base and HuBERT normalise their first convolution over time, padding included, so that a clip's loss would
depend on the longest clip of its batch (huggingface/transformers#21534). Here the norm takes the frames that a clip
has; all later steps are made blind by transformers' attention mask. A batch gives each clip what it gets alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders._checkpoint import Checkpoint, quiet
from ..encoders._convolutions import frames_of
from ..errors import EncoderError
from .settings import ALL, SEQUENCE, FinetuneSettings

FAMILIES = ("wav2vec2", "hubert", "wavlm")
ATTENTION = 128  # units of the attention over frames, as in the head of that name
ParameterGroup = dict[str, Any]  # of parameters, as torch's optimizers take them


class Network(nn.Module):
    """(n, S) samples and their (n,) lengths -> logits (n, C)."""

    def __init__(self, encoder: Any, settings: FinetuneSettings, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = _sequence(encoder, labels) if settings.classifier == SEQUENCE else encoder
        self.classifier = None if settings.classifier == SEQUENCE else Classifier(encoder, settings, len(labels))
        _mask_norm(self.base)
        _mask_frames(self.base.config, settings.spec_augment)
        if settings.spec_augment and not hasattr(self.base, "masked_spec_embed"):
            self.base.masked_spec_embed = nn.Parameter(torch.zeros(self.base.config.hidden_size))
        _freeze(self.base, settings)
        if settings.gradient_checkpointing:
            _checkpoint_blocks(self.encoder)

    @property
    def base(self) -> Any:
        """The encoder without transformers' classifier."""
        return getattr(self.encoder, self.encoder.base_model_prefix, self.encoder)

    def forward(self, input_values: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return {"logits": self.heard(input_values, lengths)[0]}

    def heard(self, input_values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (n, C) float32, and how much each frame counts (n, T); None where transformers' classifier decides."""
        norm = getattr(self.base.feature_extractor.conv_layers[0], "layer_norm", None)
        if isinstance(norm, MaskedGroupNorm):
            norm.frames = frames_of(self.base.config, lengths, 1)
        inside = torch.arange(input_values.shape[1], device=lengths.device) < lengths[:, None]
        said = self.encoder(input_values, attention_mask=inside.long())
        if self.classifier is None:
            return said.logits.float(), None
        logits, weights = self.classifier(said.last_hidden_state, frames_of(self.base.config, lengths))
        return logits.float(), weights


class Classifier(nn.Module):
    """(n, T, D) and (n,) frames -> logits (n, C): the mean, or attention, over a clip's frames, then hidden layers."""

    def __init__(self, encoder: Any, settings: FinetuneSettings, n_classes: int) -> None:
        super().__init__()
        dim = int(encoder.config.hidden_size)
        self.keys = nn.Linear(dim, ATTENTION) if settings.pooling == "attention" else None
        self.score = nn.Linear(ATTENTION, 1, bias=False) if settings.pooling == "attention" else None
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((dim, *settings.hidden)):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(settings.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear((dim, *settings.hidden)[-1], n_classes))

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights(states, frames)  # (n, T)
        return self.layers(torch.einsum("nt,ntd->nd", weights, states)), weights

    def weights(self, states: Tensor, frames: Tensor) -> Tensor:
        """(n, T): how much each frame counts, sum 1; 0 behind a clip's end."""
        inside = torch.arange(states.shape[1], device=frames.device) < frames[:, None]
        if self.keys is None or self.score is None:
            return inside.to(states.dtype) / frames[:, None]
        scores = self.score(self.keys(states).tanh())[..., 0].float()
        counted: Tensor = scores.masked_fill(~inside, -torch.inf).softmax(1)
        return counted.to(states.dtype)


class MaskedGroupNorm(nn.Module):
    """One group a channel, over the first `frames` (n,) of each clip: (n, C, t) -> (n, C, t)."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.frames: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.frames is None or bool((self.frames == x.shape[2]).all()):
            return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)
        inside = (torch.arange(x.shape[2], device=x.device) < self.frames[:, None]).float()  # (n, t)
        count = self.frames[:, None, None].float()
        with torch.autocast(x.device.type, enabled=False):  # as torch has it with its own norm
            x = x.float()
            x = x - (x @ inside[:, :, None]) / count
            variance = (x.square() @ inside[:, :, None]) / count  # (n, C, 1)
            return torch.addcmul(self.bias[:, None], x, self.weight[:, None] * torch.rsqrt(variance + self.eps))


def build(checkpoint: Checkpoint, settings: FinetuneSettings, labels: tuple[str, ...]) -> Network:
    """The network over a checkpoint, whose model it takes. Raises EncoderError for one that it cannot be blind with."""
    config, name = checkpoint.model.config, checkpoint.info.name
    if config.model_type not in FAMILIES or type(checkpoint.features).__name__ != "Wav2Vec2FeatureExtractor":
        raise EncoderError(f"{name}: is {config.model_type}; fine-tuning knows {', '.join(FAMILIES)}.")
    if getattr(config, "add_adapter", False) or getattr(config, "conv_pos_batch_norm", False):
        raise EncoderError(f"{name}: has an adapter or a batch norm behind its convolutions. Use a plain checkpoint.")
    if (settings.top or 0) > config.num_hidden_layers:
        raise EncoderError(f"{name}: has {config.num_hidden_layers} blocks; got --unfreeze {settings.unfreeze}.")
    return Network(checkpoint.model, settings, labels)


def groups(network: Network, settings: FinetuneSettings, decayed: list[str]) -> list[ParameterGroup]:
    """The parameters that are trained, each block at its own rate: `layer_decay` times that of the block above.

    The classifier has the full rate, what lies below the first block the lowest (layer-wise decay: Howard and Ruder
    2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555). Norms and biases, which are not `decayed`, are not
    pulled to zero.
    """
    config = network.base.config
    top, stable = int(config.num_hidden_layers) + 1, bool(config.do_stable_layer_norm)
    made: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = settings.lr * settings.layer_decay ** (top - _depth(name, top, stable))
            decay = settings.weight_decay if name in decayed else 0.0
            made.setdefault((rate, decay), []).append(parameter)
    return [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in made.items()]


def classifier_state(network: Network) -> dict[str, Tensor]:
    """The tensors that are no encoder's, by name."""
    own = {id(p) for p in network.base.parameters()}
    whole = network.classifier if network.classifier is not None else network.encoder
    return {name: p.detach().cpu().contiguous() for name, p in whole.named_parameters() if id(p) not in own}


def _depth(name: str, top: int, stable: bool) -> int:
    """0 below the first block, then the number of the block, from 1; `top` for what stands on the last one."""
    if ".encoder.layers." in name:
        return int(name.split(".encoder.layers.")[1].partition(".")[0]) + 1
    below = (".feature_extractor.", ".feature_projection.", ".masked_spec_embed", ".encoder.pos_conv_embed.")
    norm = ".encoder.layer_norm." in name  # of large networks, with "stable" norms, it stands on the last block
    return 0 if any(part in name for part in below) or (norm and not stable) else top


def _sequence(encoder: Any, labels: tuple[str, ...]) -> Any:
    """transformers' own classifier, around an encoder that is there already."""
    from transformers import AutoModelForAudioClassification

    encoder.config.id2label = dict(enumerate(labels))
    encoder.config.label2id = {label: number for number, label in enumerate(labels)}
    with quiet():
        made = AutoModelForAudioClassification.from_config(encoder.config)
    setattr(made, made.base_model_prefix, encoder)
    return made


def _checkpoint_blocks(encoder: Any) -> None:
    """Keep what enters each block, and compute what is inside again on the way back."""
    enable = getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)  # its new name
    enable({"use_reentrant": False})


def _mask_frames(config: Any, share: float) -> None:
    """Mask this share of the frames in training, and no dimension, whatever the checkpoint was trained with."""
    config.apply_spec_augment, config.mask_feature_prob = share > 0, 0.0
    config.mask_time_prob, config.mask_time_min_masks = share, 0


def _mask_norm(encoder: Any) -> None:
    """Make the encoder's group norm blind to padding. Layer norms, which others have, are."""
    first = encoder.feature_extractor.conv_layers[0]
    if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        first.layer_norm = MaskedGroupNorm(first.layer_norm)


def _freeze(encoder: Any, settings: FinetuneSettings) -> None:
    """Let learn what `unfreeze` says, and nothing else of the encoder."""
    encoder.requires_grad_(settings.top is None)
    for block in _last(encoder, settings.top):
        block.requires_grad_(True)
    if settings.unfreeze != ALL:
        encoder.feature_extractor._freeze_parameters()


def _last(encoder: Any, count: int | None) -> Iterator[nn.Module]:
    return iter(encoder.encoder.layers[-count:] if count else ())
