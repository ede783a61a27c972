"""A Hugging Face encoder as one ONNX file: waveform in, the vector that a head reads out.

torch's exporter follows transformers' own forward once, with the number of samples left open. What the feature
extractor does before the network is part of the graph, and the time means after it are, too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoders._checkpoint import Checkpoint
from ..errors import EncoderError, first_line
from ..files.atomic import atomic_write

WAVEFORM, EMBEDDING = "waveform", "embedding"
VIEWS = ("pooled", "layers", "std")  # that have one row a clip
EXTRACTOR = "Wav2Vec2FeatureExtractor"  # the one that hands the waveform on; others make spectrograms outside the graph
MOST_BYTES = 2**31 - 2**26  # of weights: an ONNX file ends at 2 GiB, and its nodes need room
# Seconds of the waveform that is followed through the network; its length is left open as `Dim.DYNAMIC`. Under a named
# Dim with bounds, torch 2.13 takes for granted, without a word, that the length is a multiple of the hop.
TRACED = 1.37


class _Whole(torch.nn.Module):
    """waveform (1, samples) -> embedding (1, d): normalisation, network, time means."""

    def __init__(self, checkpoint: Checkpoint, view: str) -> None:
        super().__init__()
        self.model, self.normalised = checkpoint.model, checkpoint.normalised
        self.parts = view.split("+")

    def forward(self, waveform: Tensor) -> Tensor:
        wave = _normalise(waveform) if self.normalised else waveform
        states = self.model(wave, output_hidden_states=True).hidden_states  # n_layers x (1, T, dim)
        return torch.cat([_part(states, part) for part in self.parts], 1)


def _part(states: Sequence[Tensor], part: str) -> Tensor:
    """One of VIEWS out of hidden states (1, T, dim): (1, dim), or (1, n_layers * dim)."""
    if part == "pooled":
        return states[-1].mean(1)
    return torch.cat([_deviation(state) if part == "std" else state.mean(1) for state in states], 1)


def save_encoder(checkpoint: Checkpoint, view: str, path: Path) -> int:
    """Write the ONNX file of a checkpoint, for waveforms of any length that gives a frame; the opset that it is in.

    Raises EncoderError for a network whose input is no waveform, that is too large, or that torch cannot export.
    """
    _refuse(checkpoint, view)
    samples = round(TRACED * checkpoint.info.sample_rate)
    example = torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                _Whole(checkpoint, view).eval(),
                (example,),
                input_names=[WAVEFORM],
                dynamic_shapes={WAVEFORM: {1: torch.export.Dim.DYNAMIC}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            model = _cleaned(program)
    except Exception as error:  # for a network that it does not understand, the exporter raises anything
        raise EncoderError(
            f"{checkpoint.info.name}: cannot be exported by torch {torch.__version__} ({first_line(error)[:300]}). "
            "Export the head alone: leave --encoder out."
        ) from error
    with atomic_write(path, "wb", EncoderError, "Make room, or choose another --out.") as file:
        file.write(model.SerializeToString())
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _refuse(checkpoint: Checkpoint, view: str) -> None:
    name, features = checkpoint.info.name, type(checkpoint.features).__name__
    if features != EXTRACTOR:
        raise EncoderError(
            f"{name}: cannot be exported: its {features} prepares the audio outside of the network. Export the head "
            "alone, without --encoder, or fit one on wav2vec2, HuBERT or WavLM."
        )
    if not set(view.split("+")) <= set(VIEWS):
        raise EncoderError(
            f"{name}: the view '{view}' cannot be exported; wanted {', '.join(VIEWS)}, joined by + or not. Export the "
            "head alone, without --encoder, or fit one on such a view."
        )
    size = sum(4 * tensor.numel() for tensor in checkpoint.model.parameters())
    if size > MOST_BYTES:
        raise EncoderError(
            f"{name}: has {size / 1e9:.1f} GB of weights; one ONNX file holds {MOST_BYTES / 1e9:.1f} GB. Export the "
            "head alone, without --encoder."
        )


def _normalise(waveform: Tensor) -> Tensor:
    """Zero mean and unit variance, as Wav2Vec2FeatureExtractor has them; in float64, for the sums are long."""
    wide = waveform.double()
    centred = wide - wide.mean(1, keepdim=True)
    return (centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-7)).float()


def _deviation(state: Tensor) -> Tensor:  # (1, T, dim) -> (1, dim)
    return (state - state.mean(1, keepdim=True)).square().mean(1).sqrt()


def _cleaned(program: Any) -> Any:
    """The exporter's model under our names, without the paths and lines of the code that it was traced from."""
    graph = program.model.graph
    for node in graph:
        for value in node.outputs:
            if value.name == EMBEDDING:  # the exporter names values after operators, and WavLM looks one up
                value.name = f"{EMBEDDING}_of_table"
    graph.outputs[0].name = EMBEDDING
    model = program.model_proto
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *_ends(model)):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    return model


def _ends(model: Any) -> list[Any]:
    return [*model.graph.input, *model.graph.output]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that it would know, and on what it leaves as it is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
