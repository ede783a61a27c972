"""ONNX files: check that the extra [onnx] is installed, run a file in onnxruntime, write an encoder as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import encoders
from ..encoder import VIEWS, EncoderInfo
from ..errors import EncoderError, SerError
from ..text import install_hint

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # torch needs onnxscript to write an encoder


@dataclass(frozen=True)
class Session:
    """An ONNX file that is loaded in onnxruntime and runs on the CPU."""

    runtime: Any

    @classmethod
    def of(cls, path: Path) -> Session:
        """Load a file. Raises SerError if onnxruntime cannot load it."""
        import onnxruntime

        try:
            return cls(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
        except Exception as error:  # onnxruntime has one exception for each status, and no common base class
            raise SerError(f"{path.name}: onnxruntime {version('onnxruntime')} cannot load it ({error}).") from error

    def __call__(self, values: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return all outputs for the only input."""
        outputs: list[NDArray[Any]] = self.runtime.run(None, {self.runtime.get_inputs()[0].name: values})
        return outputs


def need_onnx(packages: Sequence[str] = PACKAGES) -> None:
    """Raise SerError if one of the packages is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SerError(f"`ser export` needs {', '.join(missing)}. Install it: {install_hint('onnx')}")


def versions() -> dict[str, str]:
    """Return the versions of the packages that write and check an ONNX file."""
    return {package: version(package) for package in (*PACKAGES, "torch", "transformers")}


def check_exportable(info: EncoderInfo) -> None:
    """Raise EncoderError if an encoder has no torch module, or if an ONNX file would compute other vectors."""
    if not info.checkpoint and info.name != encoders.UNTRAINED and not _module_of(info):
        raise EncoderError(
            f"{info.name}: cannot be exported as ONNX, because it is a program and not a network with a checkpoint. "
            "Export the head alone, without --encoder, and compute its vectors with `ser`; or fit a head on "
            "functionals, or on a network such as wav2vec2-base."
        )
    if info.precision != "fp32":
        raise EncoderError(
            f"{info.name}: the head was fitted on vectors in {info.precision}, but an ONNX file computes in fp32, so "
            "its vectors would differ. Extract with --precision fp32 and fit again, or leave --encoder out."
        )


def save_encoder(info: EncoderInfo, view: str, path: Path, metadata: Mapping[str, str] = MappingProxyType({})) -> int:
    """Write an encoder as an ONNX file, waveform (1, samples) to embedding (1, d), and return its opset version.

    `metadata` becomes the file's `metadata_props`, key -> text. Raises EncoderError if the encoder cannot be exported.
    """
    from ..encoders.checkpoint import open_checkpoint, untrained
    from . import encoder_graph

    check_exportable(info)
    if module := _module_of(info):
        if view not in VIEWS:
            raise EncoderError(
                f"{info.name}: the view '{view}' cannot be exported; wanted {' or '.join(VIEWS)}. Export the head "
                "alone, without --encoder, or fit a head on such a view."
            )
        return encoder_graph.save_module(module(), info, path, metadata)
    checkpoint = open_checkpoint(info.checkpoint, info.name, info.precision) if info.checkpoint else untrained("fp32")
    return encoder_graph.save_encoder(checkpoint, view, path, metadata)


def _module_of(info: EncoderInfo) -> Callable[[], Any] | None:
    """Return what makes the torch module of an encoder without a checkpoint; None if it has no module."""
    spec = None if info.checkpoint else encoders.find(info.name)
    return spec.module if spec else None
