"""Safe loading of `head.skops`, the file of an estimator, from an untrusted source.

skops saves an estimator as a zip archive of JSON and plain arrays, and loads it with a list of trusted types. This is
not sufficient: some of its nodes create an object of another type than the one they name, and C libraries trust the
shapes of arrays. Therefore skops only loads an archive that this module has checked and packed again:

- The sizes in the archive are checked before anything is decompressed.
- The schema contains only the kinds of nodes and the types of which the heads of ser consist.
- The arrays of libsvm and the trees of LightGBM are consistent.
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

from ..heads import MAX_TEMPERATURE
from ._safe_lightgbm import checked_model

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
SAMPLE = "sklearn.kernel_approximation.Nystroem"
NEIGHBOURS = "sklearn.neighbors._classification.KNeighborsClassifier"
# The kinds of nodes in a schema of skops of which the heads of ser consist, each with the types that it may name. The
# list of skops also has all of scikit-learn, and kinds of nodes that create another type than the one they name.
NODE_TYPES = {
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
        SAMPLE,
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
# The types that skops does not trust itself.
TRUSTED = (*HEADS, BOOSTER, "collections.OrderedDict", "collections.defaultdict")

# Maximum sizes in bytes of all members, of the schema, and of the directory of an archive. No head comes near them: an
# SVM with 32,000 support vectors of 1024 dimensions has 0.3 GB, the trees for 26 labels have 16 MB of JSON, and the
# directory has about 70 bytes per member.
MAX_BYTES, MAX_JSON, MAX_DIRECTORY = 1 << 29, 1 << 25, 1 << 16
MAX_NODES = 100_000  # a head has some hundred nodes, and one for each number of a learning curve

SCHEMA = "schema.json"
MEMBER = re.compile(r"schema\.json|\d+\.npy")
ADVICE = "Fit the head again."

Node = dict[str, Any]
Members = dict[str, bytes]


def load_head(path: Path) -> Any:
    """Load the estimator of a file that `skops.io.dump` wrote.

    Raises ModelError if the file holds anything that no head of ser has.
    """
    import skops.io

    check_file(path, MAX_BYTES, ModelError, ADVICE)
    try:
        estimator = skops.io.load(_repack(path), trusted=list(TRUSTED))
    except ModelError:
        raise
    except Exception as error:  # a malicious file can raise any error in zipfile, numpy and skops
        raise ModelError(f"{path}: cannot be loaded ({reason(error)}). {ADVICE}") from error
    kind = type(estimator)
    if f"{kind.__module__}.{kind.__qualname__}" not in HEADS:
        raise ModelError(f"{path}: got an estimator of the type {kind.__name__}; wanted a head of ser. {ADVICE}")
    return estimator


def _repack(path: Path) -> io.BytesIO:
    """Return a new archive that contains only checked members and nodes."""
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
    schema = json.loads(members.pop(SCHEMA))
    _check_nodes(path, schema, members)
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(SCHEMA, json.dumps(schema))
    return repacked


def _check_directory(path: Path) -> None:
    """Raise ValueError if the directory of the archive is too large, before zipfile creates an object for each entry.

    The size of the directory is stored 10 bytes before the end of the file. It is stored elsewhere if the archive has a
    comment, or more entries than two bytes can count (zip64); skops writes neither.
    """
    with path.open("rb") as file:
        file.seek(-42, os.SEEK_END)
        end = file.read()
    elsewhere = end[-22:-18] != b"PK\5\6" or end[-2:] != bytes(2) or end.startswith(b"PK\6\7")
    if elsewhere or int.from_bytes(end[-10:-6], "little") > MAX_DIRECTORY:
        raise ValueError("it is not an archive as skops writes it")


def _members(archive: zipfile.ZipFile) -> Members:
    """Return the data of all members by name, after checking names, compression and declared sizes."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if unknown := [name for name in names if not MEMBER.fullmatch(name)]:
        raise ValueError(f"its archive holds the unknown member {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError("its archive holds two members with the same name")
    # Data of other methods decompress to any size, whatever size the directory declares.
    if not {entry.compress_type for entry in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError("its archive is compressed with a method other than deflate")
    json_size = sum(entry.file_size for entry in entries if entry.filename == SCHEMA)
    if sum(entry.file_size for entry in entries) > MAX_BYTES or json_size > MAX_JSON:
        raise ValueError("its archive decompresses to more bytes than any head has")
    return {entry.filename: _decompress(archive, entry) for entry in entries}


def _decompress(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the data of a member, reading at most one byte more than its declared size.

    `ZipFile.read` would decompress all data before it cuts them to the declared size.
    """
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise ValueError(f"{entry.filename} has a different size than its archive declares")
    return data


def _check_nodes(path: Path, schema: Any, members: Members) -> None:
    """Check all nodes of a schema, and remove their ids.

    skops loads nodes of the same id only once, so an unchecked object could take the place of a checked one.
    """
    nodes = list(islice(_nodes(schema), MAX_NODES + 1))
    if len(nodes) > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES:,} nodes")
    if unknown := sorted({_name(node) for node in nodes if _name(node) not in NODE_TYPES.get(node["__loader__"], ())}):
        listed = ", ".join(unknown)[:500]
        raise ModelError(f"{path}: is not loaded, because no head of ser contains the types {listed}. {ADVICE}")
    if sum(len(members[node["file"]]) for node in nodes if "file" in node) > MAX_BYTES:
        raise ValueError(f"its nodes refer to more than {MAX_BYTES:,} bytes of arrays")
    for node in nodes:
        node.pop("__id__", None)
        _check_values(node, members)


def _check_values(node: Node, members: Members) -> None:
    """Check the values of a node that C libraries would trust, and those that would distort probabilities."""
    name = _name(node)
    if name == BOOSTER:
        _check_booster(_state(node))
    if name == SVC:
        _check_svc(_state(node), members)
    if name == NEIGHBOURS:
        _check_neighbours(_state(node))
    if name == SAMPLE:
        _check_sample(_state(node))
    if name in HEADS:
        _check_temperature(_state(node))


def _nodes(schema: Any) -> Iterator[Node]:
    """Iterate over all dictionaries in a schema that skops could read as a node."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
            if "__loader__" in value:
                yield value
        elif isinstance(value, list):
            pending += value


def _name(node: Node) -> str:
    """Return the full name of the type of a node."""
    return f"{node['__module__']}.{node['__class__']}"


def _state(node: Node) -> Node:
    """Return the attributes of an object. Raises ValueError if skops would not read them from a plain dictionary."""
    if node["content"]["__loader__"] != "DictNode":
        raise ValueError(f"the attributes of a {node['__class__']} are not a plain dictionary")
    state: Node = node["content"]["content"]
    return state


def _array(node: Node, members: Members) -> NDArray[Any]:
    """Return the array of a node. Raises ValueError if the node is not a plain numpy array."""
    if (node["__loader__"], node["__class__"], node.get("type")) != ("NdArrayNode", "ndarray", "numpy"):
        raise ValueError("it has something else in the place of an array")
    array: NDArray[Any] = np.load(io.BytesIO(members[node["file"]]), allow_pickle=False)
    return array


def _value(node: Node) -> Any:
    """Return the value of a node of JSON. Raises ValueError for another kind of node."""
    if node["__loader__"] != "JsonNode":
        raise ValueError("it has something else in the place of a text or a number")
    return json.loads(node["content"])


def _check_svc(state: Node, members: Members) -> None:
    """Check the shapes of the arrays of an SVC.

    libsvm receives the arrays without their lengths, and would read past the end of an array that is too short.
    """
    counts = _array(state["_n_support"], members)
    n, classes = int(counts.sum()), len(counts)
    shapes = {
        "support_": (n,),
        "support_vectors_": (n, _value(state["n_features_in_"])),
        "_dual_coef_": (classes - 1, n),
        "_intercept_": (classes * (classes - 1) // 2,),
        "_probA": (0,),
        "_probB": (0,),
    }
    shapes_agree = all(_array(state[name], members).shape == shape for name, shape in shapes.items())
    same_kind = _value(state["kernel"]) == "rbf" and _value(state["_sparse"]) is False and "_impl" not in state
    if not (shapes_agree and same_kind and counts.min() >= 0):
        raise ValueError("the arrays of its SVC are inconsistent")


def _check_temperature(state: Node) -> None:
    """Check that a temperature is one that a fit can give.

    Others would reverse the order of the probabilities, or make all of them equal.
    """
    largest = MAX_TEMPERATURE * (1 + 1e-9)
    if "temperature_" in state and not 1 / largest <= float(_value(state["temperature_"])) <= largest:
        raise ValueError(f"its temperature is not between {1 / MAX_TEMPERATURE:g} and {MAX_TEMPERATURE:g}")


def _check_neighbours(state: Node) -> None:
    """Check the settings of a nearest-neighbour classifier.

    With other settings, scikit-learn uses compiled code that would count votes outside its arrays.
    """
    settings = {"metric": "cosine", "effective_metric_": "cosine", "weights": "distance", "_fit_method": "brute"}
    if any(_value(state[name]) != value for name, value in settings.items()):
        raise ValueError("its nearest neighbours have settings that no head of ser has")


def _check_sample(state: Node) -> None:
    """Check the settings of a sampled kernel: others would change the scores, or start any number of threads."""
    settings = {"kernel": "rbf", "n_jobs": None}
    if any(_value(state[name]) != value for name, value in settings.items()):
        raise ValueError("its sampled kernel has settings that no head of ser has")


def _check_booster(state: Node) -> None:
    """Replace the text of a LightGBM model by its checked text."""
    if "handle" in state:  # LightGBM reads this one if `_handle` is missing
        raise ValueError("its Booster has two models")
    text = json.dumps(checked_model(_value(state["_handle"])))
    state["_handle"] = {"__module__": "builtins", "__class__": "str", "__loader__": "JsonNode", "content": text}


def reason(error: Exception) -> str:
    """Return the message of an error in one line of at most 500 characters."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return first_line(error)[:500]
