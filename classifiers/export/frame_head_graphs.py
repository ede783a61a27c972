"""The networks over frames as ONNX: what `heads._torch_frames` computes, mask by mask.

Frames behind a clip's end come in as NaN. They are counted in the graph, so that clips of any length go through it side
by side; from there on they are zero, or have no weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..heads import FrameHead
from .graph_builder import Graph

EPS = 1e-5  # of torch's batch norm

Weights = Mapping[str, NDArray[Any]]
Layer = tuple[NDArray[Any], NDArray[Any]]  # what to multiply by, and what to add


@dataclass(frozen=True)
class Clips:
    """Frames in a graph: what they are called, how many of them each clip has (n, 1), and their shape."""

    x: str
    lengths: str
    n_frames: int
    dim: int


def frame_logits(head: FrameHead, graph: Graph, x: str) -> str:
    """x (n, L * T * D) with NaN behind a clip's end -> (n, C), in float64 where the head is, too."""
    clips = _mixed(head, graph, x)
    conv = head.kind == "conv"
    h = graph.double((_convolved if conv else _attended)(head.weights_, graph, clips))  # (n, features)
    *hidden, last = _tail_of_conv(head.weights_) if conv else _tail_of_attention(head.weights_)
    for weight, bias in hidden:
        h = graph("Relu", graph.linear(h, weight.T, bias, np.float64))
    return graph.linear(h, last[0].T, last[1], np.float64)


def _mixed(head: FrameHead, graph: Graph, x: str) -> Clips:
    """(n, T, D): standardised, layers weighted as they were learned, zeros behind a clip's end."""
    n_layers, n_frames = head.n_layers, head.n_frames
    mean, scale = (graph.constant(a.reshape(n_layers, 1, -1)) for a in (head.scaler_.mean_, head.scaler_.scale_))
    dim = head.n_features_in_ // (n_layers * n_frames)
    cube = graph.reshape(x, 0, n_layers, n_frames, dim)
    scaled = graph("Div", graph("Sub", cube, mean), scale)
    frames = graph("Where", graph("IsNaN", cube), graph.constant(0), scaled)
    if n_layers > 1:
        flat = graph.reshape(frames, 0, n_layers, n_frames * dim)
        frames = graph("MatMul", graph.constant(head.layer_weights_[None]), flat)
    return Clips(graph.reshape(frames, 0, n_frames, dim), _lengths(graph, x, n_frames, dim), n_frames, dim)


def _lengths(graph: Graph, x: str, n_frames: int, dim: int) -> str:
    """(n, 1) int64: the frames of the first layer whose first number is there."""
    from onnx import TensorProto

    first = graph("Gather", x, graph.constant(np.arange(n_frames) * dim, np.int64), axis=1)  # (n, T)
    real = graph("Cast", graph("Not", graph("IsNaN", first)), to=TensorProto.INT64)
    return graph("ReduceSum", real, graph.constant([1], np.int64), keepdims=1)


def _real(graph: Graph, clips: Clips) -> str:
    """(n, T): whether a frame is one that its clip has."""
    return graph("Less", graph.constant(np.arange(clips.n_frames)[None], np.int64), clips.lengths)


def _convolved(weights: Weights, graph: Graph, clips: Clips) -> str:
    """(n, T, D) -> (n, features)."""
    clips = Clips(graph.reshape(clips.x, 0, 1, clips.n_frames, clips.dim), clips.lengths, clips.n_frames, clips.dim)
    for number in range(sum(name.endswith(".conv.weight") for name in weights)):
        clips = _block(weights, graph, clips, f"body.blocks.{number}")
    return graph.reshape(clips.x, 0, -1)


def _block(weights: Weights, graph: Graph, clips: Clips, name: str) -> Clips:
    """(n, K, T, D) -> (n, K', T // 2, D // 2): convolution with its norm in it, pooling, ReLU; an axis of one stays.

    What stands behind a clip's end is made zero before pooling and after it: either would bring it back.
    """
    x = _silent(graph, clips, _convolution(weights, graph, clips.x, name))
    pool = [min(2, clips.n_frames), min(2, clips.dim)]
    x = graph("Relu", graph("MaxPool", x, kernel_shape=pool, strides=pool))
    halved = graph("Div", clips.lengths, graph.constant(pool[0], np.int64))
    lengths = graph("Max", halved, graph.constant(1, np.int64))
    pooled = Clips(x, lengths, clips.n_frames // pool[0], clips.dim // pool[1])
    return Clips(_silent(graph, pooled, x), lengths, pooled.n_frames, pooled.dim)


def _silent(graph: Graph, clips: Clips, x: str) -> str:
    """x (n, K, T, D) with zeros behind a clip's end."""
    mask = graph.reshape(graph.single(_real(graph, clips)), 0, 1, clips.n_frames, 1)
    return graph("Mul", x, mask)


def _convolution(weights: Weights, graph: Graph, x: str, name: str) -> str:
    """(n, K, T, D) -> (n, K', T, D): of an even kernel there is one zero more behind than in front."""
    weight = weights[f"{name}.conv.weight"]  # (K', K, along T, along D)
    scale, shift = _norm(weights, f"{name}.norm")
    front = [(size - 1) // 2 for size in weight.shape[2:]]
    behind = [size - 1 - before for size, before in zip(weight.shape[2:], front, strict=True)]
    folded = graph.constant(weight * scale[:, None, None, None])
    return graph("Conv", x, folded, graph.constant(shift), pads=[*front, *behind])


def _attended(weights: Weights, graph: Graph, clips: Clips) -> str:
    """(n, T, D) -> (n, D): the frames, weighted by a softmax over those that a clip has."""
    keys, bias, score = (
        graph.constant(weights[f"body.{name}"].T) for name in ("keys.weight", "keys.bias", "score.weight")
    )
    hidden = graph("Tanh", graph("Add", graph("MatMul", clips.x, keys), bias))
    scores = graph.reshape(graph("MatMul", hidden, score), 0, clips.n_frames)
    shares = graph.softmax(graph("Where", _real(graph, clips), scores, graph.constant(-np.inf)))
    return graph.reshape(graph("MatMul", graph.reshape(shares, 0, 1, clips.n_frames), clips.x), 0, -1)


def _tail_of_conv(weights: Weights) -> list[Layer]:
    """Its layers, with a ReLU between two; the norm is part of the first."""
    (weight, bias), (scale, shift) = _linear(weights, 0), _norm(weights, "tail.2")
    return [(weight * scale[:, None], bias * scale + shift), _linear(weights, 5)]


def _tail_of_attention(weights: Weights) -> list[Layer]:
    return [_linear(weights, number) for number in (0, 3, 6)]


def _linear(weights: Weights, number: int) -> Layer:
    """(out, in) and (out,)."""
    return weights[f"tail.{number}.weight"], weights[f"tail.{number}.bias"]


def _norm(weights: Weights, name: str) -> Layer:
    """A batch norm as it predicts, float64."""
    weight, bias, mean, var = (np.float64(weights[f"{name}.{part}"]) for part in ("weight", "bias", "mean", "var"))
    scale = weight / np.sqrt(var + EPS)
    return scale, bias - mean * scale
