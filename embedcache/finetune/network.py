"""The network that is trained: an encoder and a classifier. The result for a clip does not depend on padding.

wav2vec2-base and HuBERT normalise their first convolution over time, padding included, so a clip's loss would depend on
the longest clip of its batch (huggingface/transformers#21534). Here that norm uses only the frames of the clip itself,
and transformers' attention mask excludes padding from all later steps. So a clip in a batch gets the same result as
alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.checkpoint import Checkpoint, quiet
from ..encoders.engine.convolutions import frames_of
from ..errors import EncoderError
from .settings import ALL, SEQUENCE, FinetuneSettings

FAMILIES = ("wav2vec2", "hubert", "wavlm")
ATTENTION = 128  # units of the attention over frames, as in the head `attention`
ParameterGroup = dict[str, Any]  # a group of parameters as torch's optimizers take it


class Network(nn.Module):
    """An encoder and a classifier: waveforms (n, S) and their lengths (n,) in samples -> logits (n, C)."""

    def __init__(self, encoder: Any, settings: FinetuneSettings, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = _sequence_classifier(encoder, labels) if settings.classifier == SEQUENCE else encoder
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
        return {"logits": self.classify(input_values, lengths)[0]}

    def classify(self, input_values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 logits (n, C) and frame weights (n, T), which are None with transformers' classifier."""
        norm = getattr(self.base.feature_extractor.conv_layers[0], "layer_norm", None)
        if isinstance(norm, MaskedGroupNorm):
            norm.frames = frames_of(self.base.config, lengths, 1)
        inside = torch.arange(input_values.shape[1], device=lengths.device) < lengths[:, None]
        output = self.encoder(input_values, attention_mask=inside.long())
        if self.classifier is None:
            return output.logits.float(), None
        logits, weights = self.classifier(output.last_hidden_state, frames_of(self.base.config, lengths))
        return logits.float(), weights


class Classifier(nn.Module):
    """Pooling over the frames of a clip, then layers: states (n, T, D) and frame counts (n,) -> logits (n, C)."""

    def __init__(self, encoder: Any, settings: FinetuneSettings, n_classes: int) -> None:
        super().__init__()
        dim = int(encoder.config.hidden_size)
        self.keys = nn.Linear(dim, ATTENTION) if settings.pooling == "attention" else None
        self.score = nn.Linear(ATTENTION, 1, bias=False) if settings.pooling == "attention" else None
        widths = (dim, *settings.hidden)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(settings.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights(states, frames)  # (n, T)
        return self.layers(torch.einsum("nt,ntd->nd", weights, states)), weights

    def weights(self, states: Tensor, frames: Tensor) -> Tensor:
        """Return the weight of each frame (n, T): the sum over a clip is 1, the weight of padding is 0."""
        inside = torch.arange(states.shape[1], device=frames.device) < frames[:, None]
        if self.keys is None or self.score is None:
            return inside.to(states.dtype) / frames[:, None]
        scores = self.score(self.keys(states).tanh())[..., 0].float()
        weights: Tensor = scores.masked_fill(~inside, -torch.inf).softmax(1)
        return weights.to(states.dtype)


class MaskedGroupNorm(nn.Module):
    """Group norm with one channel a group, over the first `frames` (n,) frames of each clip: (n, C, T) -> (n, C, T)."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.frames: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.frames is None or bool((self.frames == x.shape[2]).all()):
            return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)
        inside = (torch.arange(x.shape[2], device=x.device) < self.frames[:, None]).float()  # (n, T)
        count = self.frames[:, None, None].float()
        with torch.autocast(x.device.type, enabled=False):  # torch computes its own group norm in float32, too
            x = x.float()
            x = x - (x @ inside[:, :, None]) / count
            variance = (x.square() @ inside[:, :, None]) / count  # (n, C, 1)
            return torch.addcmul(self.bias[:, None], x, self.weight[:, None] * torch.rsqrt(variance + self.eps))


def build(checkpoint: Checkpoint, settings: FinetuneSettings, labels: tuple[str, ...]) -> Network:
    """Build the network around a checkpoint's model, which it modifies.

    Raises EncoderError for a checkpoint whose results would depend on padding, and for too large an N of `top:N`.
    """
    config, name = checkpoint.model.config, checkpoint.info.name
    if config.model_type not in FAMILIES or type(checkpoint.features).__name__ != "Wav2Vec2FeatureExtractor":
        raise EncoderError(
            f"{name}: is of the type {config.model_type}, which cannot be fine-tuned; wanted one of "
            f"{', '.join(FAMILIES)}. Use another checkpoint."
        )
    if getattr(config, "add_adapter", False) or getattr(config, "conv_pos_batch_norm", False):
        raise EncoderError(
            f"{name}: has an adapter or a batch norm after its convolutions, which depend on padding. Use a checkpoint "
            "without them."
        )
    if (settings.top or 0) > config.num_hidden_layers:
        blocks = config.num_hidden_layers
        raise EncoderError(
            f"{name}: has {blocks} blocks; got --unfreeze {settings.unfreeze}. Use top:{blocks} at most."
        )
    return Network(checkpoint.model, settings, labels)


def parameter_groups(network: Network, settings: FinetuneSettings, decayed: list[str]) -> list[ParameterGroup]:
    """Return the trained parameters, grouped by learning rate and weight decay.

    The learning rate of a block is `layer_decay` times that of the block above (layer-wise decay: Howard and Ruder
    2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555). The classifier has the full rate; everything below the
    first block has the lowest. Weight decay applies to the parameters named in `decayed`, which are neither norms nor
    biases.

    Example: `layer_decay` 0.5 and 2 blocks give the classifier lr, block 2 lr / 2, block 1 lr / 4, the rest lr / 8.
    """
    config = network.base.config
    top, stable = int(config.num_hidden_layers) + 1, bool(config.do_stable_layer_norm)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = settings.lr * settings.layer_decay ** (top - _depth(name, top, stable))
            decay = settings.weight_decay if name in decayed else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def classifier_state(network: Network) -> dict[str, Tensor]:
    """Return the tensors of the classifier, ours or transformers', by name."""
    of_encoder = {id(p) for p in network.base.parameters()}
    whole = network.classifier if network.classifier is not None else network.encoder
    return {name: p.detach().cpu().contiguous() for name, p in whole.named_parameters() if id(p) not in of_encoder}


def _depth(name: str, top: int, stable: bool) -> int:
    """Return the depth of a parameter: 0 below the first block, N in block N from 1, `top` above the last block.

    Example: "encoder.encoder.layers.3.attention.k_proj.weight" has depth 4, a parameter of the classifier `top`.
    """
    if ".encoder.layers." in name:
        return int(name.split(".encoder.layers.")[1].partition(".")[0]) + 1
    below = (".feature_extractor.", ".feature_projection.", ".masked_spec_embed", ".encoder.pos_conv_embed.")
    norm = ".encoder.layer_norm." in name  # above the last block in large networks, whose norms are "stable"
    return 0 if any(part in name for part in below) or (norm and not stable) else top


def _sequence_classifier(encoder: Any, labels: tuple[str, ...]) -> Any:
    """Return transformers' own classifier around an encoder."""
    from transformers import AutoModelForAudioClassification

    encoder.config.id2label = dict(enumerate(labels))
    encoder.config.label2id = {label: number for number, label in enumerate(labels)}
    with quiet():
        model = AutoModelForAudioClassification.from_config(encoder.config)
    setattr(model, model.base_model_prefix, encoder)
    return model


def _checkpoint_blocks(encoder: Any) -> None:
    """Store only the input of each block, and compute the rest of it again in the backward pass."""
    # transformers has renamed the method: the new name first.
    enable = getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def _mask_frames(config: Any, share: float) -> None:
    """Mask this share of the frames in training, and no dimension, whatever the checkpoint was trained with."""
    config.apply_spec_augment, config.mask_feature_prob = share > 0, 0.0
    config.mask_time_prob, config.mask_time_min_masks = share, 0


def _mask_norm(encoder: Any) -> None:
    """Replace the encoder's group norm, if it has one. Layer norms do not depend on padding."""
    first = encoder.feature_extractor.conv_layers[0]
    if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        first.layer_norm = MaskedGroupNorm(first.layer_norm)


def _freeze(encoder: Any, settings: FinetuneSettings) -> None:
    """Freeze every part of the encoder that `unfreeze` does not name."""
    encoder.requires_grad_(settings.top is None)
    for block in _last_blocks(encoder, settings.top):
        block.requires_grad_(True)
    if settings.unfreeze != ALL:
        encoder.feature_extractor._freeze_parameters()


def _last_blocks(encoder: Any, count: int | None) -> Iterator[nn.Module]:
    return iter(encoder.encoder.layers[-count:] if count else ())
