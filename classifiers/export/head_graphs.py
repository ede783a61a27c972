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
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from embedcache import ModelError

from ..heads import LEAST, Calibrated, FrameHead, NeuralHead, ScoreHead, innermost, names, stack
from ..heads.best_layer import BestLayer
from ..heads.knn import KNN
from ..heads.lgbm import LGBM
from ..heads.logreg import LogReg
from ..heads.stack import Stack
from .frame_head_graphs import frame_logits
from .graph_builder import EMBEDDING, FRAMES, Graph

Node = dict[str, Any]


def head_model(head: Any) -> Any:
    """A fitted head as an ONNX model: `embedding` or `frames` (n, d) -> `probabilities` (n, C), `label` (n,).

    Raises ModelError for a head of a type that has no graph here.
    """
    graph = Graph(input_name(head))
    labels = tuple(str(label) for label in head.classes_)
    return graph.model(probabilities(head, graph, graph.input), labels, int(head.n_features_in_))


def input_name(head: Any) -> str:
    """What the input of a head's graph is called: `frames` of a head over frames, calibrated or not."""
    return FRAMES if isinstance(innermost(head), FrameHead) else EMBEDDING


@singledispatch
def probabilities(head: Any, graph: Graph, x: str) -> str:
    """Add a head to a graph: x (n, d) float32 -> (n, C) float32, rows of sum 1. Register a function a type."""
    raise ModelError(
        f"a head of the type {type(head).__name__} cannot be exported; those of ser can: {', '.join(names())}. Fit one "
        "of them, or register a function for the type with `classifiers.export.onnx_export.probabilities`."
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
        cube = graph.reshape(h, 0, head.n_layers, -1)  # (n, L, D)
        h = graph.reshape(graph("MatMul", graph.constant(head.layer_weights_[None]), cube), 0, -1)
    for weight, bias in zip(head.coefs_[:-1], head.intercepts_[:-1], strict=True):
        h = graph("Relu", graph.linear(h, weight, bias))
    return graph.softmax(graph.linear(h, head.coefs_[-1], head.intercepts_[-1]))


@probabilities.register
def _(head: LogReg, graph: Graph, x: str) -> str:
    return graph.softmax(values(head.model_, graph, x))


@probabilities.register
def _(head: ScoreHead, graph: Graph, x: str) -> str:
    """In float64 from the scores on: a temperature below 1 makes a rounding larger."""
    return graph.single(graph.softmax(graph.double(values(head.model_, graph, x)), head.temperature_, np.float64))


@probabilities.register
def _(head: KNN, graph: Graph, x: str) -> str:
    """Class weights multiply the votes."""
    votes = graph("Mul", values(head.model_, graph, x), graph.constant(head.votes_, np.float64))
    return graph.single(graph("Div", votes, _row_sums(graph, votes)))


@probabilities.register
def _(head: BestLayer, graph: Graph, x: str) -> str:
    dim = head.n_features_in_ // head.n_layers
    return graph.softmax(values(head.model_, graph, graph.columns(x, head.layer_ * dim, (head.layer_ + 1) * dim)))


@probabilities.register
def _(head: Stack, graph: Graph, x: str) -> str:
    """The mean of the members' probabilities, or a regression on their logarithms."""
    said = [probabilities(member, graph, x) for member in head.members_]
    if head.final_ is None:
        return graph("Mean", *said)
    return graph.softmax(values(head.final_, graph, graph.logs(graph("Concat", *said, axis=1), stack.LEAST)))


@probabilities.register
def _(head: Calibrated, graph: Graph, x: str) -> str:
    logs = graph.logs(probabilities(head.model_, graph, x), LEAST)
    return graph.softmax(logs, head.temperature_)


@probabilities.register
def _(head: FrameHead, graph: Graph, x: str) -> str:
    return graph.single(graph.softmax(frame_logits(head, graph, x)))


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


@values.register(LogisticRegression)
@values.register(LinearDiscriminantAnalysis)
@values.register(RidgeClassifier)
def _(part: Any, graph: Graph, x: str) -> str:
    """(n, C) scores. Two classes share one decision value: of half of it, up and down, the softmax is its sigmoid."""
    coef, intercept = np.atleast_2d(part.coef_), np.atleast_1d(part.intercept_)  # of two classes, Ridge's are flat
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return graph.linear(x, coef.T, intercept)


@values.register
def _(part: KNeighborsClassifier, graph: Graph, x: str) -> str:
    """(n, C) votes, float64: 1 / distance of each of the nearest. Those at distance 0, where there are any, vote alone.

    A distance is 1 - cosine. In float64, for of two neighbours at nearly one distance only one may vote.
    """
    kept = graph.constant(part._fit_X, part._fit_X.dtype)
    turned = graph("Transpose", _unit(graph, graph.double(kept)), perm=[1, 0])  # (d, N)
    zero, one = graph.constant(0, np.float64), graph.constant(1, np.float64)
    away = graph("Max", graph("Sub", one, graph("MatMul", _unit(graph, graph.double(x)), turned)), zero)  # (n, N)
    k = graph.constant([part.n_neighbors], np.int64)
    distances, numbers = graph.many("TopK", 2, away, k, axis=1, largest=0)  # (n, k)
    same = graph("Equal", distances, zero)
    weights = graph("Div", one, graph("Where", same, one, distances))
    at_zero = graph.double(same)
    any_same = graph("Greater", _row_sums(graph, at_zero), zero)  # (n, 1)
    weights = graph.reshape(graph("Where", any_same, at_zero, weights), 0, 1, -1)  # (n, 1, k)
    labels = graph("Gather", graph.constant(np.eye(len(part.classes_))[part._y], np.float64), numbers)  # (n, k, C)
    return graph.reshape(graph("MatMul", weights, labels), 0, -1)


def _unit(graph: Graph, x: str) -> str:
    """Rows of length 1, float64; a row of zeros stays."""
    length = graph("Sqrt", _row_sums(graph, graph("Mul", x, x)))
    nothing = graph("Equal", length, graph.constant(0, np.float64))
    return graph("Div", x, graph("Where", nothing, graph.constant(1, np.float64), length))


def _row_sums(graph: Graph, x: str) -> str:
    """(n, d) -> (n, 1)."""
    return graph("ReduceSum", x, graph.constant([1], np.int64), keepdims=1)


@values.register
def _(part: SVC, graph: Graph, x: str) -> str:
    """(n, C) decision values, float64; those of two classes as `heads._scikit.scores_of` halves them."""
    kernel = _rbf(part, graph, graph.double(x))  # (n, S)
    if len(part.classes_) == 2:
        coef, intercept = part.dual_coef_[0], part.intercept_[0]
        return graph.linear(kernel, np.stack([-coef, coef], 1) / 2, np.array([-intercept, intercept]) / 2, np.float64)
    return _one_against_rest(graph, graph.linear(kernel, _pair_coefs(part), part.intercept_, np.float64), part)


def _rbf(part: SVC, graph: Graph, x: str) -> str:
    """exp(-gamma |x - s|^2) for every support vector s, float64: (n, S). The square is x.x - 2 x.s + s.s."""
    vectors, gamma = part.support_vectors_, part._gamma
    own = _row_sums(graph, graph("Mul", x, x))  # (n, 1)
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
