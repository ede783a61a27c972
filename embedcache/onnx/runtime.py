"""ONNX, the extra [onnx]: whether it is here, running a file of it, and an encoder as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import encoders
from ..encoder import EncoderInfo
from ..errors import EncoderError, SerError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the last is what torch writes an encoder with


@dataclass(frozen=True)
class Session:
    """An ONNX file in onnxruntime, on the processor."""

    runtime: Any

    @classmethod
    def of(cls, path: Path) -> Session:
        """Load a file. Raises SerError where onnxruntime refuses it."""
        import onnxruntime

        try:
            return cls(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
        except Exception as error:  # onnxruntime has an exception a status, without a common base
            raise SerError(f"{path.name}: onnxruntime {version('onnxruntime')} cannot load it ({error}).") from error

    def __call__(self, values: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Every output for the one input."""
        outputs: list[NDArray[Any]] = self.runtime.run(None, {self.runtime.get_inputs()[0].name: values})
        return outputs


def need_onnx(packages: Sequence[str] = PACKAGES) -> None:
    """Raise SerError where a package of the extra [onnx] is missing."""
    if lacking := [package for package in packages if find_spec(package) is None]:
        raise SerError(f"--onnx needs {', '.join(lacking)}: `pip install 'ser[onnx]'`.")


def versions() -> dict[str, str]:
    """The versions that a file was written and checked with."""
    return {package: version(package) for package in (*PACKAGES, "torch", "transformers")}


def check_exportable(info: EncoderInfo) -> None:
    """Raise EncoderError for an encoder that is no network, or whose vectors an ONNX file would not give."""
    if not info.checkpoint and info.name != encoders.UNTRAINED:
        raise EncoderError(
            f"{info.name}: cannot be exported as ONNX: it is no network of a checkpoint, its vectors are computed by "
            "Python code. Export the head alone, without --encoder, and make its vectors with `ser`; or fit a head on "
            "a network, such as wav2vec2-base."
        )
    if info.precision != "fp32":
        raise EncoderError(
            f"{info.name}: the head was fitted on vectors in {info.precision}, an ONNX file computes in fp32, and its "
            "vectors would differ. Extract with --precision fp32 and fit again, or leave --encoder out."
        )


def save_encoder(info: EncoderInfo, view: str, path: Path) -> int:
    """Write the ONNX file of an encoder: waveform (1, samples) -> embedding (1, d). Gives its opset.

    Raises EncoderError for one that cannot be exported.
    """
    from ..encoders._checkpoint import open_checkpoint, untrained
    from . import encoder_graph as _onnx

    check_exportable(info)
    checkpoint = open_checkpoint(info.checkpoint, info.name, info.precision) if info.checkpoint else untrained("fp32")
    return _onnx.save_encoder(checkpoint, view, path)
