"""Write an encoder as one ONNX file, which turns a waveform into the vector that a head reads.

torch's exporter traces a torch module with a waveform of variable length. For a Hugging Face encoder that is
transformers' own forward pass, with the normalisation that the feature extractor does before the network, and the time
means after it. An encoder without weights may provide a module of its own, see `EncoderSpec.module`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..encoder import EncoderInfo
from ..encoders.checkpoint import Checkpoint
from ..errors import EncoderError, first_line
from ..files.atomic import atomic_write

WAVEFORM, EMBEDDING = "waveform", "embedding"
VIEWS = ("pooled", "layers", "std")  # views with one row for each clip
# The feature extractor that passes the waveform on. Others compute spectrograms, which happens outside the graph.
EXTRACTOR = "Wav2Vec2FeatureExtractor"
MOST_BYTES = 2**31 - 2**26  # maximum size of the weights: an ONNX file ends at 2 GiB, and its nodes need space too
# Length of the traced waveform, in seconds. The graph leaves the length open as `Dim.DYNAMIC`: with a named Dim that
# has bounds, torch 2.13 silently assumes that the length is a multiple of the hop.
TRACED = 1.37


class _EncoderModule(torch.nn.Module):
    """Normalisation, network and time means as one module: waveform (1, samples) -> embedding (1, d)."""

    def __init__(self, checkpoint: Checkpoint, view: str) -> None:
        super().__init__()
        self.model, self.normalised = checkpoint.model, checkpoint.normalised
        self.parts = view.split("+")

    def forward(self, waveform: Tensor) -> Tensor:
        wave = _normalise(waveform) if self.normalised else waveform
        states = self.model(wave, output_hidden_states=True).hidden_states  # n_layers x (1, T, D)
        return torch.cat([_pool(states, part) for part in self.parts], 1)


def _pool(states: Sequence[Tensor], view: str) -> Tensor:
    """Return a view of the hidden states (1, T, D): (1, D) for `pooled`, else (1, n_layers * D)."""
    if view == "pooled":
        return states[-1].mean(1)
    return torch.cat([_deviation(state) if view == "std" else state.mean(1) for state in states], 1)


def save_encoder(
    checkpoint: Checkpoint, view: str, path: Path, metadata: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Write a checkpoint as an ONNX file and return its opset version.

    The file takes waveforms of any length that gives at least one frame. `view` is one of `VIEWS`, or several joined by
    `+`; `metadata` are the texts of the file's `metadata_props`. Raises EncoderError if the network does not read
    waveforms, is too large, or cannot be exported by torch.
    """
    _check_exportable(checkpoint, view)
    return save_module(_EncoderModule(checkpoint, view), checkpoint.info, path, metadata)


def save_module(
    module: torch.nn.Module, info: EncoderInfo, path: Path, metadata: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Write a torch module, waveform (1, samples) to embedding (1, d), as an ONNX file and return its opset version.

    Raises EncoderError if the module cannot be exported by torch.
    """
    samples = round(TRACED * info.sample_rate)
    example = torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    try:
        with _quiet():
            module.eval()(example)  # constants that are made at the first call must not be made while torch traces
            program: Any = torch.onnx.export(
                module,
                (example,),
                input_names=[WAVEFORM],
                dynamic_shapes={WAVEFORM: {1: torch.export.Dim.DYNAMIC}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            model = _clean(program, metadata)
    except Exception as error:  # the exporter raises exceptions of any type
        raise EncoderError(
            f"{info.name}: cannot be exported by torch {torch.__version__} ({first_line(error)[:300]}). "
            "Export the head alone: leave --encoder out."
        ) from error
    with atomic_write(path, "wb", EncoderError, "Make room, or choose another --out.") as file:
        file.write(model.SerializeToString())
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _check_exportable(checkpoint: Checkpoint, view: str) -> None:
    name, extractor = checkpoint.info.name, type(checkpoint.features).__name__
    if extractor != EXTRACTOR:
        raise EncoderError(
            f"{name}: cannot be exported, because its {extractor} prepares the audio outside of the network. Export "
            "the head alone, without --encoder, or fit a head on wav2vec2, HuBERT or WavLM."
        )
    if not set(view.split("+")) <= set(VIEWS):
        raise EncoderError(
            f"{name}: the view '{view}' cannot be exported; wanted {', '.join(VIEWS)}, or several joined by +. Export "
            "the head alone, without --encoder, or fit a head on such a view."
        )
    size = sum(4 * tensor.numel() for tensor in checkpoint.model.parameters())
    if size > MOST_BYTES:
        raise EncoderError(
            f"{name}: has {size / 1e9:.1f} GB of weights; one ONNX file holds {MOST_BYTES / 1e9:.1f} GB. Export the "
            "head alone, without --encoder."
        )


def _normalise(waveform: Tensor) -> Tensor:
    """Return the waveform (1, samples) with zero mean and unit variance, as Wav2Vec2FeatureExtractor does.

    The sums are long, so they are computed in float64.
    """
    wide = waveform.double()
    centred = wide - wide.mean(1, keepdim=True)
    return (centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-7)).float()


def _deviation(state: Tensor) -> Tensor:  # (1, T, D) -> (1, D)
    return (state - state.mean(1, keepdim=True)).square().mean(1).sqrt()


def _clean(program: Any, metadata: Mapping[str, str]) -> Any:
    """Return the exported model with our metadata and names, without paths and line numbers of the traced code."""
    graph = program.model.graph
    for node in graph:
        for value in node.outputs:
            if value.name == EMBEDDING:  # the exporter names values after operators, and WavLM has an embedding table
                value.name = f"{EMBEDDING}_of_table"
    graph.outputs[0].name = EMBEDDING
    model = program.model_proto
    del model.graph.value_info[:]
    tensors = (*model.graph.initializer, *model.graph.input, *model.graph.output)
    for part in (model, model.graph, *model.graph.node, *tensors):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's notes on optional packages, and on operators that it does not optimise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
