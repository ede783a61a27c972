"""Heads as ONNX graphs: one function a type, found by `singledispatch`. What a new head needs is one more.

The graphs are built by hand from a few plain operators, so that they are small, can be read, and round as the heads
do. Where a rounding could be seen, the arithmetic is float64: libsvm counts votes, and a vote is all or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from itertools import combinations
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from embedcache import ModelError

from ._graph import EMBEDDING, Graph
from .heads._neural import NeuralHead
from .heads.lgbm import LGBM
from .heads.logreg import LogReg
from .heads.svm import SVM

Node = dict[str, Any]


def head_model(head: Any) -> Any:
    """A fitted head as an ONNX model: `embedding` (n, d) -> `probabilities` (n, C), `label` (n,).

    Raises ModelError for a head of a type that has no graph here.
    """
    graph = Graph()
    labels = tuple(str(label) for label in head.classes_)
    return graph.model(probabilities(head, graph, EMBEDDING), labels, int(head.n_features_in_))


@singledispatch
def probabilities(head: Any, graph: Graph, x: str) -> str:
    """Add a head to a graph: x (n, d) float32 -> (n, C) float32, rows of sum 1. Register a function a type."""
    have = sorted({kind.__name__ for kind in probabilities.registry if kind not in (object, NeuralHead)})
    raise ModelError(
        f"a head of the type {type(head).__name__} cannot be exported; {', '.join([*have, 'MLP', 'LayerWeighted'])} "
        "can. Fit one of those, or register a function for it with `classifiers.portable.probabilities`."
    )


@singledispatch
def values(part: Any, graph: Graph, x: str) -> str:
    """Add a part of scikit-learn to a graph: what `transform` or `decision_function` gives of x (n, d)."""
    raise ModelError(f"a part of the type {type(part).__name__} cannot be exported. Fit a built-in head.")


@probabilities.register
def _(head: NeuralHead, graph: Graph, x: str) -> str:
    """The layers are mixed as one product, (L,) x (n, L, D), in the order in which numpy sums them."""
    h = values(head.scaler_, graph, x)
    if head.n_layers > 1:
        cube = graph("Reshape", h, graph.constant([0, head.n_layers, -1], np.int64))  # (n, L, D)
        mixed = graph("MatMul", graph.constant(head.layer_weights_[None]), cube)  # (n, 1, D)
        h = graph("Reshape", mixed, graph.constant([0, -1], np.int64))
    for weight, bias in zip(head.coefs_[:-1], head.intercepts_[:-1], strict=True):
        h = graph("Relu", graph.linear(h, weight, bias))
    return graph.softmax(graph.linear(h, head.coefs_[-1], head.intercepts_[-1]))


@probabilities.register
def _(head: LogReg, graph: Graph, x: str) -> str:
    return graph.softmax(values(head.model_, graph, x))


@probabilities.register
def _(head: SVM, graph: Graph, x: str) -> str:
    return graph.single(graph.softmax(values(head.model_, graph, x), head.temperature_, np.float64))


@probabilities.register
def _(head: LGBM, graph: Graph, x: str) -> str:
    return graph.softmax(_boosted(head.booster_, graph, x))


@values.register
def _(part: Pipeline, graph: Graph, x: str) -> str:
    for _, step in part.steps:
        x = values(step, graph, x)
    return x


@values.register
def _(part: StandardScaler, graph: Graph, x: str) -> str:
    """Subtract, then divide, both in float32, as scikit-learn does: the same numbers to the last bit."""
    return graph("Div", graph("Sub", x, graph.constant(part.mean_)), graph.constant(part.scale_))


@values.register
def _(part: LogisticRegression, graph: Graph, x: str) -> str:
    """(n, C) logits. Two classes share one decision value: of half of it, up and down, the softmax is its sigmoid."""
    coef, intercept = part.coef_, part.intercept_
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return graph.linear(x, coef.T, intercept)


@values.register
def _(part: SVC, graph: Graph, x: str) -> str:
    """(n, C) decision values, float64; those of two classes as `heads.svm` halves them."""
    kernel = _rbf(part, graph, graph.double(x))  # (n, S)
    if len(part.classes_) == 2:
        coef, intercept = part.dual_coef_[0], part.intercept_[0]
        return graph.linear(kernel, np.stack([-coef, coef], 1) / 2, np.array([-intercept, intercept]) / 2, np.float64)
    return _one_against_rest(graph, graph.linear(kernel, _pair_coefs(part), part.intercept_, np.float64), part)


def _rbf(part: SVC, graph: Graph, x: str) -> str:
    """exp(-gamma |x - s|^2) for every support vector s, float64: (n, S). The square is x.x - 2 x.s + s.s."""
    vectors, gamma = part.support_vectors_, part._gamma
    own = graph("ReduceSum", graph("Mul", x, x), graph.constant([1], np.int64), keepdims=1)  # (n, 1)
    rest = graph.linear(x, 2 * gamma * vectors.T, -gamma * (vectors**2).sum(1), np.float64)
    return graph("Exp", graph("Sub", rest, graph("Mul", own, graph.constant(gamma, np.float64))))


def _pair_coefs(part: SVC) -> NDArray[np.float64]:
    """(S, pairs): what each support vector adds to each one-against-one decision, in libsvm's order of pairs.

    Row j - 1 of libsvm's coefficients is class i against class j for those vectors of i, row i for those of j > i.
    """
    ends = np.concatenate([[0], np.cumsum(part.n_support_)])
    pairs = list(combinations(range(len(part.classes_)), 2))
    coefs = np.zeros((int(ends[-1]), len(pairs)))
    for number, (i, j) in enumerate(pairs):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        coefs[of_i, number] = part.dual_coef_[j - 1, of_i]
        coefs[of_j, number] = part.dual_coef_[i, of_j]
    return coefs


def _one_against_rest(graph: Graph, pairs: str, part: SVC) -> str:
    """(n, pairs) -> (n, C), as scikit-learn's `_ovr_decision_function`: votes, and confidence between -1/3 and 1/3."""
    n = len(part.classes_)
    first, second = (np.eye(n)[list(side)] for side in zip(*combinations(range(n), 2), strict=True))  # (pairs, C)
    zero, one, three = (graph.constant(number, np.float64) for number in (0, 1, 3))
    lost = graph.double(graph("Less", pairs, zero))  # 1 where the second of the pair wins
    votes = graph.linear(lost, second - first, first.sum(0), np.float64)
    confidence = graph("MatMul", pairs, graph.constant(first - second, np.float64))
    bound = graph("Mul", graph("Add", graph("Abs", confidence), one), three)
    return graph("Add", votes, graph("Div", confidence, bound))


def _boosted(booster: lightgbm.Booster, graph: Graph, x: str) -> str:
    """(n, C) sums of leaves; of two classes, LightGBM sums for the second alone, and that of the first is 0."""
    dump = booster.dump_model()
    per_round = dump["num_tree_per_iteration"]
    first = 1 if per_round == 1 else 0
    columns: dict[str, list[Any]] = {}
    for number, tree in enumerate(dump["tree_info"]):
        for name, value in _rows(number, first + number % per_round, tree["tree_structure"]):
            columns.setdefault(name, []).append(value)
    return graph(
        "TreeEnsembleRegressor", x, domain="ai.onnx.ml", n_targets=first + per_round, post_transform="NONE", **columns
    )


def _rows(tree: int, target: int, root: Node) -> Iterator[tuple[str, Any]]:
    """A tree as the columns of TreeEnsembleRegressor: (column, value)."""
    nodes = list(_walk(root))
    numbers = {id(node): number for number, node in enumerate(nodes)}
    for number, node in enumerate(nodes):
        leaf = "leaf_value" in node
        yield "nodes_treeids", tree
        yield "nodes_nodeids", number
        yield "nodes_modes", "LEAF" if leaf else "BRANCH_LEQ"
        yield "nodes_featureids", 0 if leaf else node["split_feature"]
        yield "nodes_values", 0.0 if leaf else float(below(node["threshold"]))
        yield "nodes_truenodeids", 0 if leaf else numbers[id(node["left_child"])]
        yield "nodes_falsenodeids", 0 if leaf else numbers[id(node["right_child"])]
        if leaf:
            yield "target_treeids", tree
            yield "target_nodeids", number
            yield "target_ids", target
            yield "target_weights", float(node["leaf_value"])


def _walk(node: Node) -> Iterator[Node]:
    """A node and all below it. By a list, for a tree may be deeper than Python's stack."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if "leaf_value" not in node:
            waiting += [node["right_child"], node["left_child"]]


def splits(booster: lightgbm.Booster) -> dict[int, list[float]]:
    """The thresholds of all trees, by feature."""
    found: dict[int, list[float]] = {}
    for tree in booster.dump_model()["tree_info"]:
        for node in _walk(tree["tree_structure"]):
            if "threshold" in node:
                found.setdefault(node["split_feature"], []).append(node["threshold"])
    return found


def below(threshold: float) -> np.float32:
    """The largest float32 that is no larger: for an x of float32, x <= threshold exactly where x <= below(threshold).

    The nearest float32 may lie above the threshold, and then sends an x in between to the other side.
    """
    with np.errstate(over="ignore"):  # LightGBM's infinity is 1e300
        near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
