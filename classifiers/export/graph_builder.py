"""An ONNX graph under construction: constants, nodes, and the few shapes of arithmetic that heads share.

Values are float32 unless a function says otherwise; (n, d) and the like are shapes, n the rows of a batch. The opsets
are old on purpose: every runtime since 2022 reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import __version__

OPSET, ML_OPSET = 17, 3  # of ai.onnx and ai.onnx.ml
IR_VERSION = 8  # that of opset 17; onnx's own newest is refused by older runtimes
EMBEDDING, FRAMES = "embedding", "frames"  # the input: one vector a clip, or the frames of a clip
PROBABILITIES, LABEL = "probabilities", "label"


@dataclass
class Graph:
    """Nodes and constants so far. Values go by their names; `graph("Relu", x)` adds a node and names its output."""

    input: str = EMBEDDING
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def __call__(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.many(op, 1, *inputs, domain=domain, **attributes)[0]

    def many(self, op: str, n_outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs."""
        from onnx import helper

        name = f"{op.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{number}" for number in range(1, n_outputs))]
        self.nodes.append(helper.make_node(op, inputs, outputs, name, domain=domain, **attributes))
        return tuple(outputs)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add numbers, or with `dtype=object` strings."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def double(self, x: str) -> str:
        """The value as float64."""
        from onnx import TensorProto

        return self("Cast", x, to=TensorProto.DOUBLE)

    def single(self, x: str) -> str:
        """The value as float32."""
        from onnx import TensorProto

        return self("Cast", x, to=TensorProto.FLOAT)

    def reshape(self, x: str, *shape: int) -> str:
        """The value in another shape: 0 keeps a size, one -1 is what is left."""
        return self("Reshape", x, self.constant(shape, np.int64))

    def columns(self, x: str, begin: int, end: int) -> str:
        """x (n, d) -> (n, end - begin)."""
        return self("Slice", x, *(self.constant([number], np.int64) for number in (begin, end, 1)))

    def logs(self, proba: str, least: float) -> str:
        """The natural logarithm, of `least` where the value is smaller."""
        return self("Log", self("Max", proba, self.constant(least)))

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any], dtype: Any = np.float32) -> str:
        """x (n, in), weight (in, out), bias (out,) -> (n, out)."""
        return self("Gemm", x, self.constant(weight, dtype), self.constant(bias, dtype))

    def softmax(self, logits: str, temperature: float = 1.0, dtype: Any = np.float32) -> str:
        """(n, C), of float32 or float64 -> the same, rows of sum 1."""
        scaled = logits if temperature == 1.0 else self("Div", logits, self.constant(temperature, dtype))
        return self("Softmax", scaled, axis=1)

    def model(self, probabilities: str, labels: tuple[str, ...], dim: int) -> Any:
        """The whole model: the input (n, dim); `probabilities` (n, C) and `label` (n,) out.

        The labels, in the order of the columns, also stand in its metadata, as JSON.
        """
        from onnx import TensorProto, helper

        said = helper.make_node("Identity", [probabilities], [PROBABILITIES], PROBABILITIES)
        best = self("ArgMax", probabilities, axis=1, keepdims=0)
        names = self.constant([label.encode() for label in labels], object)
        chosen = helper.make_node("Gather", [names, best], [LABEL], LABEL)
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [*self.nodes, said, chosen],
            "head",
            [value(self.input, TensorProto.FLOAT, ["n", dim])],
            [value(PROBABILITIES, TensorProto.FLOAT, ["n", len(labels)]), value(LABEL, TensorProto.STRING, ["n"])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ser", producer_version=__version__
        )
        helper.set_model_props(model, {"labels": json.dumps(labels, ensure_ascii=False)})
        return model
