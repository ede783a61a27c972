"""An ONNX graph under construction: constants, nodes, and the arithmetic that several heads need.

Values are float32, unless a docstring says otherwise. Shapes are in parentheses; n is the number of rows of a batch.
The opsets are old, so that every runtime since 2022 can read the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import __version__

OPSET, ML_OPSET = 17, 3  # opset versions of the domains ai.onnx and ai.onnx.ml
IR_VERSION = 8  # that of opset 17; older runtimes refuse the newest, which onnx writes by default
EMBEDDING, FRAMES = "embedding", "frames"  # names of the input: one vector per clip, or the frames of each clip
PROBABILITIES, LABEL = "probabilities", "label"  # names of the outputs


@dataclass
class Graph:
    """The nodes and constants that were added so far.

    Values are referred to by their names, which are strings: `y = graph("Relu", x)` adds a node that computes Relu of
    the value named by `x`, and returns the name of the result. Operators are documented at
    https://onnx.ai/onnx/operators.
    """

    input: str = EMBEDDING  # name of the input
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def __call__(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.many(op, 1, *inputs, domain=domain, **attributes)[0]

    def many(self, op: str, n_outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs, and return their names."""
        from onnx import helper

        name = f"{op.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{number}" for number in range(1, n_outputs))]
        self.nodes.append(helper.make_node(op, inputs, outputs, name, domain=domain, **attributes))
        return tuple(outputs)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add an array of numbers, or of bytes with `dtype=object`, and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def double(self, x: str) -> str:
        """Convert x to float64."""
        from onnx import TensorProto

        return self("Cast", x, to=TensorProto.DOUBLE)

    def single(self, x: str) -> str:
        """Convert x to float32."""
        from onnx import TensorProto

        return self("Cast", x, to=TensorProto.FLOAT)

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape x. A size of 0 keeps that axis of x; a size of -1, at most one, is computed from the others."""
        return self("Reshape", x, self.constant(shape, np.int64))

    def columns(self, x: str, begin: int, end: int) -> str:
        """Slice the columns begin … end - 1: x (n, d) -> (n, end - begin)."""
        return self("Slice", x, *(self.constant([number], np.int64) for number in (begin, end, 1)))

    def logs(self, proba: str, minimum: float) -> str:
        """Take the natural logarithm of max(proba, minimum), element by element."""
        return self("Log", self("Max", proba, self.constant(minimum)))

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any], dtype: Any = np.float32) -> str:
        """Apply a linear layer: x (n, in) @ weight (in, out) + bias (out,) -> (n, out)."""
        return self("Gemm", x, self.constant(weight, dtype), self.constant(bias, dtype))

    def softmax(self, logits: str, temperature: float = 1.0, dtype: Any = np.float32) -> str:
        """Compute the softmax of logits / temperature over the columns: (n, C) -> (n, C), with rows that sum to 1.

        `dtype` is the type of the logits, float32 or float64.
        """
        scaled = logits if temperature == 1.0 else self("Div", logits, self.constant(temperature, dtype))
        return self("Softmax", scaled, axis=1)

    def model(self, probabilities: str, labels: tuple[str, ...], dim: int) -> Any:
        """Return the ONNX model of the graph, with one input and two outputs.

        The input is `embedding` or `frames` (n, dim). The outputs are `probabilities` (n, C) and `label` (n,), a
        string.
        """
        from onnx import TensorProto, helper

        output = helper.make_node("Identity", [probabilities], [PROBABILITIES], PROBABILITIES)
        best = self("ArgMax", probabilities, axis=1, keepdims=0)  # (n,)
        names = self.constant([label.encode() for label in labels], object)
        label = helper.make_node("Gather", [names, best], [LABEL], LABEL)
        value = helper.make_tensor_value_info
        inputs = [value(self.input, TensorProto.FLOAT, ["n", dim])]
        outputs = [value(PROBABILITIES, TensorProto.FLOAT, ["n", len(labels)]), value(LABEL, TensorProto.STRING, ["n"])]
        opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
        return self.as_model("head", [output, label], inputs, outputs, opsets)

    def as_model(
        self, name: str, last: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], opsets: Mapping[str, int]
    ) -> Any:
        """Return the ONNX model of the graph and of the nodes `last`, which name its outputs."""
        from onnx import helper

        graph = helper.make_graph([*self.nodes, *last], name, inputs, outputs, self.constants)
        versions = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return helper.make_model(
            graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="ser", producer_version=__version__
        )


def with_metadata(model: Any, texts: Mapping[str, str]) -> Any:
    """Return an ONNX model with these texts as its only metadata, key -> text."""
    from onnx import helper

    helper.set_model_props(model, dict(texts))
    return model
