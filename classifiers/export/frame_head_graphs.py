"""The networks over frames, `cnn`, `attention` and `layer_cnn`, as ONNX graphs. See `heads._torch_frames`.

The input has NaN after the last frame of each clip. The graph counts the frames of each clip, so a batch can have clips
of different lengths. Padding is then set to zero wherever it could influence a frame, and gets no attention.

Shapes: n clips, L layers, T frames, D dimensions, K channels, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..heads import FrameHead
from .graph_builder import Graph

EPS = 1e-5  # torch's default for batch norm; it is added to the variance

Weights = Mapping[str, NDArray[Any]]  # trained weights by their names in torch, see `FrameHead.weights_`
Layer = tuple[NDArray[Any], NDArray[Any]]  # weight and bias of a linear layer, or scale and shift of a norm


@dataclass(frozen=True)
class Clips:
    """Clips in a graph: the names of two values, and the sizes that are known when the graph is built."""

    x: str  # (n, T, D), or (n, K, T, D) between convolutions
    lengths: str  # (n, 1) number of frames of each clip, int64
    n_frames: int  # T
    dim: int  # D


def frame_logits(head: FrameHead, graph: Graph, x: str) -> str:
    """Add a network over frames: x (n, L * T * D), with NaN after the last frame of each clip, -> logits (n, C).

    From the pooled features on, values are float64, as in the head.
    """
    clips = _mix_layers(head, graph, x)
    if head.kind == "conv":
        features, layers = _convolve(head.weights_, graph, clips), _conv_tail(head.weights_)
    else:
        features, layers = _attend(head.weights_, graph, clips), _attention_tail(head.weights_)
    h = graph.double(features)  # (n, features)
    *hidden, last = layers
    for weight, bias in hidden:
        h = graph("Relu", graph.linear(h, weight.T, bias, np.float64))
    return graph.linear(h, last[0].T, last[1], np.float64)


def _mix_layers(head: FrameHead, graph: Graph, x: str) -> Clips:
    """Standardise, set padding to zero, and sum over layers with the learned weights: (n, L * T * D) -> (n, T, D)."""
    n_layers, n_frames = head.n_layers, head.n_frames
    mean, scale = (graph.constant(a.reshape(n_layers, 1, -1)) for a in (head.scaler_.mean_, head.scaler_.scale_))
    dim = head.n_features_in_ // (n_layers * n_frames)
    cube = graph.reshape(x, 0, n_layers, n_frames, dim)  # (n, L, T, D)
    scaled = graph("Div", graph("Sub", cube, mean), scale)
    frames = graph("Where", graph("IsNaN", cube), graph.constant(0), scaled)
    if n_layers > 1:
        flat = graph.reshape(frames, 0, n_layers, n_frames * dim)
        frames = graph("MatMul", graph.constant(head.layer_weights_[None]), flat)  # (1, L) @ (n, L, T * D)
    return Clips(graph.reshape(frames, 0, n_frames, dim), _count_frames(graph, x, n_frames, dim), n_frames, dim)


def _count_frames(graph: Graph, x: str, n_frames: int, dim: int) -> str:
    """Count the frames of each clip: x (n, L * T * D) -> (n, 1), int64.

    A frame is padding if its first value in the first layer is NaN. These values are the columns 0, D, 2 D, ….
    """
    from onnx import TensorProto

    first = graph("Gather", x, graph.constant(np.arange(n_frames) * dim, np.int64), axis=1)  # (n, T)
    real = graph("Cast", graph("Not", graph("IsNaN", first)), to=TensorProto.INT64)
    return graph("ReduceSum", real, graph.constant([1], np.int64), keepdims=1)


def _real_frames(graph: Graph, clips: Clips) -> str:
    """Return a mask (n, T), bool, that is false for padding: for lengths 1 and 3, [[1, 0, 0], [1, 1, 1]]."""
    return graph("Less", graph.constant(np.arange(clips.n_frames)[None], np.int64), clips.lengths)


def _convolve(weights: Weights, graph: Graph, clips: Clips) -> str:
    """Apply all blocks: (n, T, D) -> (n, features)."""
    clips = replace(clips, x=graph.reshape(clips.x, 0, 1, clips.n_frames, clips.dim))  # one channel
    for number in range(sum(name.endswith(".conv.weight") for name in weights)):
        clips = _block(weights, graph, clips, f"body.blocks.{number}")
    return graph.reshape(clips.x, 0, -1)


def _block(weights: Weights, graph: Graph, clips: Clips, name: str) -> Clips:
    """Apply convolution with norm, max-pooling and ReLU: (n, K, T, D) -> (n, K', T // 2, D // 2).

    An axis of size 1 is not pooled. Padding is set to zero before pooling, because a window can have the last frame of
    a clip and a frame of padding, and again after pooling, because the number of frames is rounded down: the pooled
    frame of such a window is padding.
    """
    x = _zero_padding(graph, clips, _convolution(weights, graph, clips.x, name))
    pool = [min(2, clips.n_frames), min(2, clips.dim)]
    x = graph("Relu", graph("MaxPool", x, kernel_shape=pool, strides=pool))
    halved = graph("Div", clips.lengths, graph.constant(pool[0], np.int64))  # integer division
    lengths = graph("Max", halved, graph.constant(1, np.int64))  # a clip keeps at least one frame
    pooled = Clips(x, lengths, clips.n_frames // pool[0], clips.dim // pool[1])
    return replace(pooled, x=_zero_padding(graph, pooled, x))


def _zero_padding(graph: Graph, clips: Clips, x: str) -> str:
    """Set x (n, K, T, D) to zero after the last frame of each clip."""
    mask = graph.reshape(graph.single(_real_frames(graph, clips)), 0, 1, clips.n_frames, 1)
    return graph("Mul", x, mask)


def _convolution(weights: Weights, graph: Graph, x: str, name: str) -> str:
    """Apply a convolution that keeps T and D, with its batch norm: (n, K, T, D) -> (n, K', T, D).

    The norm is folded into the weights of the convolution. For an even kernel, torch pads one zero more at the end of
    an axis than at its start: a kernel of size 4 has 1 zero before and 2 after.
    """
    weight = weights[f"{name}.conv.weight"]  # (K', K, size along T, size along D)
    scale, shift = _norm(weights, f"{name}.norm")
    before = [(size - 1) // 2 for size in weight.shape[2:]]
    after = [size - 1 - pad for size, pad in zip(weight.shape[2:], before, strict=True)]
    folded = graph.constant(weight * scale[:, None, None, None])
    return graph("Conv", x, folded, graph.constant(shift), pads=[*before, *after])


def _attend(weights: Weights, graph: Graph, clips: Clips) -> str:
    """Sum the frames of each clip, weighted by attention: (n, T, D) -> (n, D). Padding gets the weight 0."""
    keys, bias, score = (
        graph.constant(weights[f"body.{name}"].T) for name in ("keys.weight", "keys.bias", "score.weight")
    )
    hidden = graph("Tanh", graph("Add", graph("MatMul", clips.x, keys), bias))  # (n, T, attention units)
    scores = graph.reshape(graph("MatMul", hidden, score), 0, clips.n_frames)  # (n, T)
    shares = graph.softmax(graph("Where", _real_frames(graph, clips), scores, graph.constant(-np.inf)))
    return graph.reshape(graph("MatMul", graph.reshape(shares, 0, 1, clips.n_frames), clips.x), 0, -1)


def _conv_tail(weights: Weights) -> list[Layer]:
    """Return the two linear layers after the convolutions, with the batch norm folded into the first.

    The tail in torch is: 0 linear, 1 dropout, 2 norm, 3 ReLU, 4 dropout, 5 linear.
    """
    (weight, bias), (scale, shift) = _linear(weights, 0), _norm(weights, "tail.2")
    return [(weight * scale[:, None], bias * scale + shift), _linear(weights, 5)]


def _attention_tail(weights: Weights) -> list[Layer]:
    """Return the three linear layers after the attention. The tail in torch has ReLU and dropout between them."""
    return [_linear(weights, number) for number in (0, 3, 6)]


def _linear(weights: Weights, number: int) -> Layer:
    """Return weight (out, in) and bias (out,) of a linear layer of the tail."""
    return weights[f"tail.{number}.weight"], weights[f"tail.{number}.bias"]


def _norm(weights: Weights, name: str) -> Layer:
    """Return scale (K,) and shift (K,) of a trained batch norm, which computes x * scale + shift; float64."""
    weight, bias, mean, var = (np.float64(weights[f"{name}.{part}"]) for part in ("weight", "bias", "mean", "var"))
    scale = weight / np.sqrt(var + EPS)
    return scale, bias - mean * scale
