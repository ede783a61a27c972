"""`head.skops` from a stranger: an estimator out of an archive of which nothing is believed.

skops writes an estimator as a zip of JSON and plain arrays, and reads it with a list of types that it may make. That
is not enough: some of its nodes make something else than the type that they name, and C libraries take shapes on trust.
So skops sees nothing but what was checked here and packed anew: the zip is measured before it is inflated, its schema
names only the parts that our heads consist of, and the arrays of libsvm and the trees of LightGBM fit together.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import ModelError
from embedcache.errors import first_line
from embedcache.files.untrusted import check_file

from ..heads import HOTTEST
from ._safe_lightgbm import sound_model

HEADS = (
    "classifiers.heads._calibrated.Calibrated",
    "classifiers.heads.best_layer.BestLayer",
    "classifiers.heads.knn.KNN",
    "classifiers.heads.lda.LDA",
    "classifiers.heads.attention.Attention",
    "classifiers.heads.cnn.CNN",
    "classifiers.heads.layer_cnn.LayerCNN",
    "classifiers.heads.layer_weighted.LayerWeighted",
    "classifiers.heads.lgbm.LGBM",
    "classifiers.heads.logreg.LogReg",
    "classifiers.heads.mlp.MLP",
    "classifiers.heads.ridge.Ridge",
    "classifiers.heads.stack.Stack",
    "classifiers.heads.svm.SVM",
)
BOOSTER, SVC = "lightgbm.basic.Booster", "sklearn.svm._classes.SVC"
NEIGHBOURS = "sklearn.neighbors._classification.KNeighborsClassifier"
# All that our heads consist of: the kinds of nodes in skops's schema, and the types that each may make. skops's own
# list is longer by all of scikit-learn, and some of its nodes make something else than the type that they name.
PARTS = {
    "DefaultDictNode": ("collections.defaultdict",),
    "DictNode": ("builtins.dict",),
    "JsonNode": ("builtins.str",),
    "ListNode": ("builtins.list",),
    "NdArrayNode": ("numpy.float32", "numpy.float64", "numpy.int64", "numpy.ndarray"),
    "ObjectNode": (
        *HEADS,
        BOOSTER,
        SVC,
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.RidgeClassifier",
        NEIGHBOURS,
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
    ),
    "TupleNode": ("builtins.tuple",),
    "TypeNode": ("builtins.str", "collections.OrderedDict"),
}
TRUSTED = (*HEADS, BOOSTER, "collections.OrderedDict", "collections.defaultdict")  # what of it skops must be told

# Sizes that no head of ours comes near. In bytes: an SVM of 32,000 support vectors of 1024 dimensions has 0.3 GB, trees
# for 8 labels have 3 MB of JSON, and a zip's directory some 70 a member.
MOST_BYTES, MOST_JSON, MOST_DIRECTORY = 1 << 29, 1 << 25, 1 << 16
MOST_NODES = 100_000  # some hundred, and one a number of a learning curve

SCHEMA = "schema.json"
MEMBER = re.compile(r"schema\.json|\d+\.npy")
ADVICE = "Fit the head again."

Node = dict[str, Any]
Members = dict[str, bytes]


def load_head(path: Path) -> Any:
    """The estimator in a file that skops wrote. Raises ModelError for anything that a head of ours has not."""
    import skops.io

    check_file(path, MOST_BYTES, ModelError, ADVICE)
    try:
        estimator = skops.io.load(_packed_anew(path), trusted=list(TRUSTED))
    except ModelError:
        raise
    except Exception as error:  # zipfile, numpy and skops raise anything for a file that was made to break them
        raise ModelError(f"{path}: cannot be loaded ({reason(error)}). {ADVICE}") from error
    kind = type(estimator)
    if f"{kind.__module__}.{kind.__qualname__}" not in HEADS:
        raise ModelError(f"{path}: is no head of ser: {kind.__name__}. Fit a head with `ser fit`.")
    return estimator


def _packed_anew(path: Path) -> io.BytesIO:
    """The archive with nothing in it but what was checked."""
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
    schema = json.loads(members.pop(SCHEMA))
    _check_nodes(path, schema, members)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as anew:
        for name, data in members.items():
            anew.writestr(name, data)
        anew.writestr(SCHEMA, json.dumps(schema))
    return packed


def _check_directory(path: Path) -> None:
    """zipfile makes an object of every entry in a zip's directory, whose size stands 10 bytes before the end.

    It stands elsewhere where the zip has a comment, or more entries than two bytes can count; skops writes neither.
    """
    with path.open("rb") as file:
        file.seek(-42, os.SEEK_END)
        end = file.read()
    elsewhere = end[-22:-18] != b"PK\5\6" or end[-2:] != bytes(2) or end.startswith(b"PK\6\7")
    if elsewhere or int.from_bytes(end[-10:-6], "little") > MOST_DIRECTORY:
        raise ValueError("it is no archive that skops writes")


def _members(archive: zipfile.ZipFile) -> Members:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if strange := [name for name in names if not MEMBER.fullmatch(name)]:
        raise ValueError(f"its archive holds {strange[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError("its archive holds two members of one name")
    # The other methods inflate as much as their data say, whatever the directory does.
    if not {entry.compress_type for entry in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError("its archive is compressed by another method than deflate")
    json_size = sum(entry.file_size for entry in entries if entry.filename == SCHEMA)
    if sum(entry.file_size for entry in entries) > MOST_BYTES or json_size > MOST_JSON:
        raise ValueError("its archive inflates to more than any head has")
    return {entry.filename: _inflated(archive, entry) for entry in entries}


def _inflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A member, by no more than it declares: `ZipFile.read` would inflate all that there is, and then cut it."""
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise ValueError(f"{entry.filename} has another size than its archive says")
    return data


def _check_nodes(path: Path, schema: Any, members: Members) -> None:
    """Hold a schema to our parts. Ids are taken out: by them one node could stand in for another that was checked."""
    nodes = list(islice(_nodes(schema), MOST_NODES + 1))
    if len(nodes) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES:,} parts")
    if strange := sorted({_name(node) for node in nodes if _name(node) not in PARTS.get(node["__loader__"], ())}):
        listed = ", ".join(strange)[:500]
        raise ModelError(f"{path}: holds types that a head of ser has not, and is not loaded: {listed}. {ADVICE}")
    if sum(len(members[node["file"]]) for node in nodes if "file" in node) > MOST_BYTES:
        raise ValueError("it names its arrays again and again")
    for node in nodes:
        node.pop("__id__", None)
        _check_part(node, members)


def _check_part(node: Node, members: Members) -> None:
    """What a part holds beside its types: libraries in C take it on trust, and so would a reader of probabilities."""
    name = _name(node)
    if name == BOOSTER:
        _mend_booster(_state(node))
    if name == SVC:
        _check_svc(_state(node), members)
    if name == NEIGHBOURS:
        _check_neighbours(_state(node))
    if name in HEADS:
        _check_temperature(_state(node))


def _nodes(schema: Any) -> Iterator[Node]:
    """Everything in a schema that skops could take for a node."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += part.values()
            if "__loader__" in part:
                yield part
        elif isinstance(part, list):
            waiting += part


def _name(node: Node) -> str:
    return f"{node['__module__']}.{node['__class__']}"


def _state(node: Node) -> Node:
    """The attributes of an object. Raises ValueError where skops would read them from elsewhere."""
    if node["content"]["__loader__"] != "DictNode":
        raise ValueError(f"the attributes of a {node['__class__']} are no plain dictionary")
    state: Node = node["content"]["content"]
    return state


def _array(node: Node, members: Members) -> NDArray[Any]:
    if (node["__loader__"], node["__class__"], node.get("type")) != ("NdArrayNode", "ndarray", "numpy"):
        raise ValueError("it has something else where an array belongs")
    array: NDArray[Any] = np.load(io.BytesIO(members[node["file"]]), allow_pickle=False)
    return array


def _value(node: Node) -> Any:
    if node["__loader__"] != "JsonNode":
        raise ValueError("it has something else where text or a number belongs")
    return json.loads(node["content"])


def _check_svc(state: Node, members: Members) -> None:
    """libsvm is given these arrays without their lengths, and would read beyond the ends of shorter ones."""
    counts = _array(state["_n_support"], members)
    n, classes = int(counts.sum()), len(counts)
    wanted = {
        "support_": (n,),
        "support_vectors_": (n, _value(state["n_features_in_"])),
        "_dual_coef_": (classes - 1, n),
        "_intercept_": (classes * (classes - 1) // 2,),
        "_probA": (0,),
        "_probB": (0,),
    }
    whole = all(_array(state[name], members).shape == shape for name, shape in wanted.items())
    ours = _value(state["kernel"]) == "rbf" and _value(state["_sparse"]) is False and "_impl" not in state
    if not (whole and ours and counts.min() >= 0):
        raise ValueError("the arrays of its SVC do not fit together")


def _check_temperature(state: Node) -> None:
    """One that no fit gives would turn probabilities round, or make them all the same."""
    hottest = HOTTEST * (1 + 1e-9)
    if "temperature_" in state and not 1 / hottest <= float(_value(state["temperature_"])) <= hottest:
        raise ValueError("its temperature is none that a fit gives")


def _check_neighbours(state: Node) -> None:
    """Of other settings scikit-learn has compiled code, which would count votes beyond the ends of its arrays."""
    ours = {"metric": "cosine", "effective_metric_": "cosine", "weights": "distance", "_fit_method": "brute"}
    if any(_value(state[name]) != value for name, value in ours.items()):
        raise ValueError("its nearest neighbours are not searched for as ours are")


def _mend_booster(state: Node) -> None:
    """Put the checked text of a LightGBM model where LightGBM reads it."""
    if "handle" in state:  # where it would look second
        raise ValueError("its Booster has two models")
    text = json.dumps(sound_model(_value(state["_handle"])))
    state["_handle"] = {"__module__": "builtins", "__class__": "str", "__loader__": "JsonNode", "content": text}


def reason(error: Exception) -> str:
    """What an error says, in a line."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return first_line(error)[:500]
