"""Folders from a stranger: every attack is made for real against the real loader, and gets a sentence for an answer.

A payload that ran would leave a canary file. What would fill the memory runs in a process that may not have any.
"""

import csv
import functools
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.places import REPOSITORY
from helpers.sounds import noise, write

from classifiers import (
    ModelCard,
    Predictor,
    Task,
    compare,
    head,
    load_model,
    load_predictions,
    save_model,
    save_predictions,
)
from classifiers.checks import toy_task
from embedcache import Artifacts, DataError, EncoderError, Manifest, ModelError, add_keys, datasets, load_encoder
from embedcache.encoders._lazy import LazyEncoder
from embedcache.files import stamps

GIB = 1 << 30
Attack = Callable[..., object]


class Evil:
    """Unpickled, it would touch the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """What no attack may bring into being."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file that is large and takes no room."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- model folders ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound model folders of three heads, to be copied and spoilt."""
    task, place, saved = toy_task(), tmp_path_factory.mktemp("models"), {}
    for name in ("logreg", "svm", "lgbm"):
        card = ModelCard(
            name, "mfcc", "", "f" * 64, {"dim": 6, "n_layers": 1}, "pooled", ("left", "right"), "toy", 160, 8
        )
        saved[name] = save_model(place / name, head(name).fit(task.X, task.y), card)
    return saved


def unpacked(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "head.skops") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(folder: Path, parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(folder / "head.skops", "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def schema_changed(folder: Path, change: Callable[[dict, dict[str, bytes]], object]) -> None:
    """Change the schema of a head, and its arrays."""
    parts = unpacked(folder)
    schema = json.loads(parts["schema.json"])
    change(schema, parts)
    pack(folder, parts | {"schema.json": json.dumps(schema).encode()})


def node(loader: str, name: str, **more: object) -> dict:
    module, _, kind = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": kind, **more}


def plain(value: object) -> dict:
    return node("JsonNode", "builtins.str", content=json.dumps(value))


def several(loader: str, name: str, *items: dict) -> dict:
    return node(loader, name, content=list(items))


def mapping(**items: dict) -> dict:
    types = [node("TypeNode", "builtins.str") for _ in items]
    return node("DictNode", "builtins.dict", content=items, key_types=several("ListNode", "builtins.list", *types))


def found(schema: dict, name: str) -> dict:
    """The attributes of the one object of a type."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if f"{part.get('__module__')}.{part.get('__class__')}" == name:
                return part["content"]["content"]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    raise AssertionError(f"no {name}")


def npy(array: object, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


TOUCH = several("TupleNode", "builtins.tuple", plain("touch CANARY"))
NO_ITEMS = several("TupleNode", "builtins.tuple")
CALL = {"func": node("FunctionNode", "os.system"), "args": TOUCH, "kwds": mapping(), "namespace": plain(None)}
DISGUISED = {**CALL, "func": node("TypeNode", "builtins.str")}
# Nodes of every kind that skops makes something with, in the place of a head's model.
FOREIGN_NODES = {
    "a function": node("FunctionNode", "os.system"),
    "a function of protocol 0": node("FunctionNode", "a.b", content={"module_path": "os", "function": "system"}),
    "a builtin": node("TypeNode", "builtins.eval"),
    "a call": node("ConstructorFromReduceNode", "os.system", content=TOUCH),
    "a call of ours": node("ConstructorFromReduceNode", "lightgbm.basic.Booster", content=TOUCH),
    "a partial": node("PartialNode", "functools.partial", content=CALL),
    "a partial in disguise": node("PartialNode", "collections.OrderedDict", content=DISGUISED),
    "a method": node("MethodNode", "builtins.str", content={"func": "format", "obj": plain("x")}),
    "an operator": node("OperatorFuncNode", "operator.methodcaller", attrs=TOUCH),
    "a class of the standard library": node("ObjectNode", "subprocess.Popen", content=mapping()),
    "a transformer with a function": node(
        "ObjectNode",
        "sklearn.preprocessing._function_transformer.FunctionTransformer",
        content=mapping(func=node("FunctionNode", "numpy.add")),
    ),
    "trees of scikit-learn": node(
        "TreeNode", "sklearn.tree._tree.Tree", content=mapping(), __reduce__={"args": NO_ITEMS}
    ),
    "a loss": node("LossNode", "lightgbm.basic.Booster", content=mapping(), __reduce__={"args": TOUCH}),
    "a generator": node(
        "RandomGeneratorNode",
        "numpy.random.Generator",
        content={"bit_generator": mapping(bit_generator=plain("seed")), "seed_seq": mapping()},
    ),
    "a sparse matrix": node("SparseMatrixNode", "scipy.sparse.spmatrix", type="scipy", file="schema.json"),
    "a mask": node("MaskedArrayNode", "numpy.ma.MaskedArray", content={"data": plain(1), "mask": plain(1)}),
    "bytes": node("BytesNode", "builtins.bytes", file="schema.json"),
    "a dtype": node("DTypeNode", "numpy.dtype", content=plain(1)),
    "a named type under an array": node("NdArrayNode", "lightgbm.basic.Booster", type="numpy", file="1.npy"),
}


@pytest.mark.parametrize("name", FOREIGN_NODES)
def test_a_part_that_no_head_has_is_refused_by_name(
    models: dict[str, Path], tmp_path: Path, canary: Path, name: str
) -> None:
    folder = shutil.copytree(models["logreg"], tmp_path / "m")
    part = json.loads(json.dumps(FOREIGN_NODES[name]).replace("CANARY", str(canary)))

    def change(schema: dict, parts: dict) -> None:
        schema["content"]["content"]["model_"] = part
        parts["1.npy"] = npy(np.zeros(1))
        if name.endswith("protocol 0"):
            schema["protocol"] = 0

    schema_changed(folder, change)
    called = f"{part['__module__']}.{part['__class__']}"
    with pytest.raises(ModelError, match=f"holds types that a head of ser has not, and is not loaded: .*{called}"):
        load_model(folder)


def lying(folder: Path, name: str, size: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    """A member of 64 MB of zeros that says it has `size` bytes, in both of its headers."""
    parts = unpacked(folder)
    pack(folder, parts | {name: bytes(1 << 26)}, method)
    data = bytearray((folder / "head.skops").read_bytes())
    for mark, at_size, at_name in ((b"PK\3\4", 22, 30), (b"PK\1\2", 24, 46)):
        at = data.rfind(mark)
        while data[at + at_name : at + at_name + len(name)] != name.encode():
            at = data.rfind(mark, 0, at)
        data[at + at_size : at + at_size + 4] = struct.pack("<I", size)
    (folder / "head.skops").write_bytes(data)


def doubled(folder: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(folder / "head.skops", "a") as archive:
        archive.writestr("schema.json", "{}")


def commented(folder: Path) -> None:
    """What zipfile finds first says that there is a comment, so that it looks further back, for another directory."""
    with (folder / "head.skops").open("ab") as file:
        file.write(b"PK\5\6" + bytes(16) + b"\1\0")


def array_changed(name: str, data: bytes, attribute: str) -> Attack:
    """Another .npy in the place of one attribute of an object."""

    def change(schema: dict, parts: dict) -> None:
        parts[found(schema, name)[attribute]["file"]] = data

    return lambda folder, canary: schema_changed(folder, change)


def part_changed(**parts: dict) -> Attack:
    """Other attributes of the head."""
    return lambda folder, canary: schema_changed(folder, lambda schema, _: schema["content"]["content"].update(parts))


def again_and_again(schema: dict, parts: dict) -> None:
    parts["7.npy"] = npy(np.zeros(1 << 20))
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="7.npy")
    schema["content"]["content"]["more"] = several("ListNode", "builtins.list", *[array] * 100)
    schema["content"]["key_types"]["content"].append(node("TypeNode", "builtins.str"))


def flood(schema: dict, parts: dict) -> None:
    schema["content"]["content"]["model_"] = several("ListNode", "builtins.list", *[plain(0)] * 100_001)


def deep(schema: dict, parts: dict) -> None:
    part = plain(0)
    for _ in range(400):
        part = several("ListNode", "builtins.list", part)
    schema["content"]["content"]["model_"] = part


def in_itself(schema: dict, parts: dict) -> None:
    schema["content"]["content"]["model_"] = {**several("ListNode", "builtins.list"), "__id__": schema["__id__"]}


def object_array(canary: Path) -> bytes:
    return npy(np.array([Evil(canary)], dtype=object), allow_pickle=True)


def promised(shape: str, descr: str = "<f8") -> bytes:
    """A .npy that promises more than it holds."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def replaced(make: Callable[[Path], object]) -> Attack:
    """Another thing in the place of head.skops."""

    def attack(folder: Path, canary: Path) -> None:
        (folder / "head.skops").unlink()
        make(folder / "head.skops")

    return attack


NO_ARCHIVE, NO_FILE = "it is no archive that skops writes", "it is a folder, a pipe or a device"
LABELS = "the head's labels are not those of model.json"
LOGISTIC = "sklearn.linear_model._logistic.LogisticRegression"
LOGREG = "classifiers.heads.logreg.LogReg"
# What is done to the folder of a logistic regression -> what is said of it.
ARCHIVES: dict[str, tuple[Attack, str]] = {
    "a pickle": (lambda f, c: (f / "head.skops").write_bytes(pickle.dumps(Evil(c)) + bytes(64)), NO_ARCHIVE),
    "a pickle as a member": (
        lambda f, c: pack(f, unpacked(f) | {"head.pkl": pickle.dumps(Evil(c))}),
        "its archive holds 'head.pkl'",
    ),
    "a pickled array": (
        lambda f, c: array_changed(LOGISTIC, object_array(c), "coef_")(f, c),
        "Object arrays cannot be loaded",
    ),
    "a name that climbs out": (
        lambda f, c: pack(f, unpacked(f) | {"../../canary": b""}),
        "its archive holds '../../canary'",
    ),
    "a name from the root": (lambda f, c: pack(f, unpacked(f) | {str(c): b""}), "its archive holds '/"),
    "two members of one name": (lambda f, c: doubled(f), "two members of one name"),
    "a bomb that says so": (lambda f, c: lying(f, "9.npy", 4 * GIB - 1), "inflates to more than any head has"),
    "a bomb that does not": (lambda f, c: lying(f, "9.npy", 10), "cannot be loaded"),
    "a bomb in another method": (lambda f, c: lying(f, "9.npy", 10, zipfile.ZIP_BZIP2), "another method than deflate"),
    "a member that is smaller than it says": (lambda f, c: lying(f, "9.npy", 1 << 27), "has another size than"),
    "a schema of 64 MB": (lambda f, c: lying(f, "schema.json", 1 << 26), "inflates to more than any head has"),
    "ten thousand members": (lambda f, c: pack(f, unpacked(f) | {f"{n}.npy": b"" for n in range(10_000)}), NO_ARCHIVE),
    "a directory behind a comment": (lambda f, c: commented(f), NO_ARCHIVE),
    "no schema": (lambda f, c: pack(f, {"1.npy": npy(np.zeros(1))}), "cannot be loaded .*schema.json"),
    "a schema in brackets": (lambda f, c: pack(f, {"schema.json": b"[" * 100_000}), "maximum recursion depth exceeded"),
    "a schema that is a list": (lambda f, c: pack(f, {"schema.json": b"[1, 2]"}), "cannot be loaded"),
    "an array again and again": (lambda f, c: schema_changed(f, again_and_again), "its arrays again and again"),
    "a flood of parts": (lambda f, c: schema_changed(f, flood), "more than 100,000 parts"),
    "parts in parts": (lambda f, c: schema_changed(f, deep), "cannot be loaded"),
    "a part of itself": (lambda f, c: schema_changed(f, in_itself), "the head does not predict"),
    "an array of 1e12": (array_changed(LOGISTIC, promised("(1000000000000,)"), "coef_"), "cannot be loaded"),
    "an array of -1": (array_changed(LOGISTIC, promised("(-1,)"), "coef_"), "cannot be loaded"),
    "labels that take no room": (array_changed(LOGREG, promised("(1000000000000,)", "|V0"), "classes_"), LABELS),
    "labels of another kind": (part_changed(classes_=plain({})), LABELS),
    "a million features": (
        part_changed(n_features_in_=plain(10**6)),
        "the head reads 1000000 numbers a clip, model.json says 6",
    ),
    "no model": (part_changed(model_=plain(None)), "the head does not predict"),
    "weights of another shape": (array_changed(LOGISTIC, npy(np.zeros((1, 5))), "coef_"), "the head does not predict"),
    "weights that are no numbers": (
        array_changed(LOGISTIC, npy(np.full((1, 6), np.nan)), "coef_"),
        "does not give a probability for each label",
    ),
    "a link to another file": (replaced(lambda p: p.symlink_to("/etc/passwd")), NO_ARCHIVE),
    "a link to a device": (replaced(lambda p: p.symlink_to("/dev/zero")), NO_FILE),
    "a pipe": (replaced(os.mkfifo), NO_FILE),
    "a terabyte": (replaced(lambda p: sparse(p, 1024 * GIB)), "has 1,099,511,627,776 bytes; at most 536,870,912"),
    "an empty file": (replaced(Path.touch), "cannot be loaded"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_lies_is_refused(models: dict[str, Path], tmp_path: Path, canary: Path, name: str) -> None:
    attack, said = ARCHIVES[name]
    folder = shutil.copytree(models["logreg"], tmp_path / "m")
    attack(folder, canary)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=said) as error:
        load_model(folder)
    assert str(folder) in str(error.value)
    assert "root:" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_inflated(models: dict[str, Path], tmp_path: Path, method: int) -> None:
    """64 MB behind a declared 10 bytes: `ZipFile.read` inflates them all before it cuts."""
    folder = shutil.copytree(models["logreg"], tmp_path / "m")
    parts = unpacked(folder)
    lying(folder, next(name for name in parts if name != "schema.json"), 10, method)
    tracemalloc.start()
    with pytest.raises(ModelError):
        load_model(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


BOOSTER, SVC = "lightgbm.basic.Booster", "sklearn.svm._classes.SVC"


def trees_changed(folder: Path, change: Callable[[str], str]) -> None:
    """Another text of trees for LightGBM."""

    def edited(schema: dict, parts: dict) -> None:
        handle = found(schema, BOOSTER)["_handle"]
        text = change(json.loads(handle["content"]))
        assert text != json.loads(handle["content"])
        handle["content"] = json.dumps(text)

    schema_changed(folder, edited)


def first(field: str, value: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """Change a field of the first tree."""

    def change(text: str) -> str:
        head, mark, tree = text.partition(f"\n{field}=")
        line, end, tail = tree.partition("\n")
        return f"{head}{mark}{' '.join(value(line.split()))}{end}{tail}"

    return change


TREES: dict[str, Callable[[str], str]] = {
    # each of these made the process crash, corrupted its heap, or never ended
    "more trees an iteration than classes": first("num_tree_per_iteration", lambda v: ["100"]),
    "no trees an iteration": first("num_tree_per_iteration", lambda v: ["0"]),
    "ten million classes to normalise": first("objective", lambda v: ["multiclass", "num_class:10000000"]),
    "a feature beyond the last": first("split_feature", lambda v: ["500000000", *v[1:]]),
    "a feature before the first": first("split_feature", lambda v: ["-1", *v[1:]]),
    "a branch to nowhere": first("left_child", lambda v: ["300000000", *v[1:]]),
    "a leaf that is not there": first("left_child", lambda v: ["-300000000", *v[1:]]),
    "a circle": first("left_child", lambda v: ["0", *v[1:]]),
    "a split on sets": first("decision_type", lambda v: ["1", *v[1:]]),
    "sets": first("num_cat", lambda v: ["1"]),
    "linear leaves": first("is_linear", lambda v: ["1"]),
    "two billion leaves": first("num_leaves", lambda v: ["2000000000"]),
    "fewer thresholds than splits": first("threshold", lambda v: v[1:]),
    "fewer values than leaves": first("leaf_value", lambda v: v[1:]),
    "a threshold that is no number": first("threshold", lambda v: ["0x;", *v[1:]]),
    "fewer features than named": first("max_feature_idx", lambda v: ["1000000"]),
    "no objective": lambda text: text.replace("objective=", "x="),
    "garbage": lambda text: "garbage",
    "nothing": lambda text: "",
    "no trees": lambda text: text.partition("Tree=")[0],
}


@pytest.mark.parametrize("name", TREES)
def test_trees_that_would_break_lightgbm_are_refused(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(models["lgbm"], tmp_path / "m")
    trees_changed(folder, TREES[name])
    with pytest.raises(ModelError, match="head.skops: cannot be loaded"):
        load_model(folder)


def test_sizes_of_trees_that_lie_are_not_believed(models: dict[str, Path], tmp_path: Path) -> None:
    """LightGBM would take them for places in its memory."""
    folder = shutil.copytree(models["lgbm"], tmp_path / "m")
    trees_changed(folder, first("tree_sizes", lambda sizes: ["99999999999", *sizes[1:]]))
    X = toy_task().X
    sound, spoilt = (load_model(place)[0].predict_proba(X) for place in (models["lgbm"], folder))
    np.testing.assert_array_equal(spoilt, sound)


def behind_another_name(booster: dict) -> None:
    """`handle`, where LightGBM looks second, with no type for `_handle`, so that this one is not made."""
    handle = booster.pop("_handle")
    booster |= {"handle": handle, "_handle": plain("garbage")}


def in_another_dictionary(booster: dict) -> None:
    booster["main"] = mapping(_handle=plain("garbage"))
    booster["default_factory"] = plain(None)


@pytest.mark.parametrize(
    ("change", "loader"), [(behind_another_name, "DictNode"), (in_another_dictionary, "DefaultDictNode")]
)
def test_trees_are_looked_at_where_lightgbm_will_find_them(
    models: dict[str, Path], tmp_path: Path, change: Callable[[dict], None], loader: str
) -> None:
    folder = shutil.copytree(models["lgbm"], tmp_path / "m")

    def edited(schema: dict, parts: dict) -> None:
        change(found(schema, BOOSTER))
        state = found(schema, "classifiers.heads.lgbm.LGBM")["booster_"]["content"]
        names = {"DictNode": "builtins.dict", "DefaultDictNode": "collections.defaultdict"}
        state["__loader__"] = loader
        state["__module__"], _, state["__class__"] = names[loader].partition(".")

    schema_changed(folder, edited)
    with pytest.raises(ModelError, match="has two models|are no plain dictionary"):
        load_model(folder)


def test_a_part_cannot_stand_in_for_another(models: dict[str, Path], tmp_path: Path) -> None:
    """By skops's ids, a part that was checked would be dropped for an earlier one of the same id that was not."""
    folder = shutil.copytree(models["lgbm"], tmp_path / "m")

    def edited(schema: dict, parts: dict) -> None:
        state = schema["content"]["content"]
        checked = state["booster_"]["content"]
        other = json.loads(json.dumps(checked))
        text = first("leaf_value", lambda values: ["99", *values[1:]])(
            json.loads(checked["content"]["_handle"]["content"])
        )
        other["content"]["_handle"] = plain(text.replace("tree_sizes=", "x="))
        del state["max_bin"]
        schema["content"]["content"] = {"max_bin": other, **state}

    schema_changed(folder, edited)
    X = toy_task().X
    sound, spoilt = (load_model(place)[0].predict_proba(X) for place in (models["lgbm"], folder))
    np.testing.assert_array_equal(spoilt, sound)


SHAPES = {
    "fewer weights": ("_dual_coef_", npy(np.zeros((1, 1)))),
    "fewer vectors": ("support_vectors_", npy(np.zeros((1, 6)))),
    "narrower vectors": ("support_vectors_", npy(np.zeros((69, 1)))),
    "more classes": ("_n_support", npy(np.ones(20_000, np.int32))),
    "a negative count": ("_n_support", npy(np.array([-5, 1000], np.int32))),
    "fewer intercepts": ("_intercept_", npy(np.zeros(0))),
    "probabilities that were not fitted": ("_probA", npy(np.zeros(1))),
    "another kernel": ("kernel", plain("poly")),
    "sparse arrays": ("_sparse", plain(True)),
    "another machine": ("_impl", plain("nu_svr")),
    "a list for an array": ("_dual_coef_", several("ListNode", "builtins.list", plain(1.0))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_arrays_that_libsvm_would_read_beyond_are_refused(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(models["svm"], tmp_path / "m")
    attribute, value = SHAPES[name]

    def change(schema: dict, parts: dict) -> None:
        svc = found(schema, SVC)
        if isinstance(value, bytes):
            parts[svc[attribute]["file"]] = value
        else:
            svc[attribute] = value

    schema_changed(folder, change)
    with pytest.raises(ModelError, match="its SVC do not fit together|where an array belongs"):
        load_model(folder)


CARDS = {
    "no labels": ({"labels": None}, "labels of another type"),
    "a word for labels": ({"labels": "left"}, "labels of another type"),
    "numbers for labels": ({"labels": [1, 2]}, "labels of another type"),
    "other labels": ({"labels": ["left", "wrong"]}, "the head's labels are not those of model.json, left, wrong"),
    "more labels": ({"labels": ["left", "right", "up"]}, LABELS),
    "a list for the view": ({"view": ["pooled"]}, "view of another type"),
    "view": ({"view": "frames:0+pooled"}, "has no view that a head reads: got the view 'frames:0\\+pooled'"),
    "frames": ({"view": "frames:0", "n_frames": 10**9}, "has 1000000000 frames a clip; wanted 1 to 100,000"),
    "frames of a head that reads none": ({"view": "frames"}, "the head reads 0 frames a clip, model.json says 1"),
    "a list for the encoder": ({"encoder_info": [1]}, "encoder_info of another type"),
    "a number for the checkpoint": ({"checkpoint": 3}, "checkpoint of another type"),
    "a word for a count": ({"n_clips": "many"}, "n_clips of another type"),
    "other dimensions": ({"encoder_info": {"dim": 768, "n_layers": 13}}, "reads 6 numbers a clip, model.json says 768"),
    "a checkpoint that climbs out": ({"checkpoint": "../../evil"}, "wanted a hub id or a folder's whole path"),
    "a checkpoint beside the model": ({"checkpoint": "evil"}, "wanted a hub id or a folder's whole path"),
    "a checkpoint here": ({"checkpoint": "."}, "wanted a hub id or a folder's whole path"),
    "a checkpoint above": ({"checkpoint": "../evil"}, "wanted a hub id or a folder's whole path"),
    "a checkpoint in three parts": ({"checkpoint": "a/b/c"}, "wanted a hub id or a folder's whole path"),
    "a path that climbs": ({"checkpoint": "/home/../etc"}, "wanted a hub id or a folder's whole path"),
    "an address": ({"checkpoint": "https://a.b/c"}, "wanted a hub id or a folder's whole path"),
    "an encoder that is a path": ({"encoder": "../evil"}, "of '../evil', which is no encoder here; have mfcc"),
    "an encoder that is a folder": ({"encoder": "m"}, "of 'm', which is no encoder here; have mfcc"),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_lies_is_refused(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = shutil.copytree(models["logreg"], tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    change, said = CARDS[name]
    edit(folder / "model.json", lambda card: card.update(change))
    with pytest.raises(ModelError, match=said):
        Predictor.load(folder)


@pytest.mark.parametrize("checkpoint", ["some/tiny", "facebook/wav2vec2-base", "/home/me/my nets/net"])
def test_cards_as_ser_writes_them_are_taken(models: dict[str, Path], tmp_path: Path, checkpoint: str) -> None:
    folder = shutil.copytree(models["logreg"], tmp_path / "m")
    edit(folder / "model.json", lambda card: card.update(checkpoint=checkpoint, encoder="net"))
    assert load_model(folder)[1].checkpoint == checkpoint


def test_links_inside_a_model_folder_are_followed(models: dict[str, Path], tmp_path: Path) -> None:
    """What they lead to is held to the same rules: a store of models may be a farm of links."""
    (tmp_path / "m").mkdir()
    for name in ("model.json", "head.skops"):
        (tmp_path / "m" / name).symlink_to(models["logreg"] / name)
    assert load_model(tmp_path / "m")[1].head == "logreg"


# --- checkpoints ------------------------------------------------------------------------------------------------------


def settings(**changes: object) -> Attack:
    return lambda folder, canary: edit(folder / "config.json", lambda config: config.update(changes))


def features(**changes: object) -> Attack:
    return lambda folder, canary: edit(folder / "preprocessor_config.json", lambda config: config.update(changes))


def pickled(make: Callable[[Path], bytes]) -> Attack:
    """Weights as a pickle, of the size of real ones."""

    def attack(folder: Path, canary: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(make(canary))

    return attack


def torch_saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save({"padding": torch.zeros(50_000), "payload": content}, file)
    return file.getvalue()


def tensors(header: object, length: int | None = None) -> Attack:
    """Weights whose safetensors header is another, before as many bytes as real ones have."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()

    def attack(folder: Path, canary: Path) -> None:
        start = struct.pack("<Q", len(text) if length is None else length)
        (folder / "model.safetensors").write_bytes(start + text + bytes(200_000))

    return attack


def one(**more: object) -> dict:
    return {"a": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000], **more}}


def sharded(where: Callable[[Path], str]) -> Attack:
    """The weights lie elsewhere, and an index leads there."""

    def attack(folder: Path, canary: Path) -> None:
        from safetensors import safe_open

        other = shutil.move(folder / "model.safetensors", canary.parent / "other.safetensors")
        with safe_open(other, "pt") as file:
            index = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), where(canary.parent))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return attack


def remote(name: str, part: str) -> Attack:
    """A network of its own, in a file that would touch the canary."""

    def attack(folder: Path, canary: Path) -> None:
        (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
        edit(folder / name, lambda config: config.update(auto_map={part: "evil.Evil"}))

    return attack


def instead(name: str, make: Callable[[Path], object]) -> Attack:
    def attack(folder: Path, canary: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return attack


PICKLE = "its weights are a pickle of more than tensors, which is never run"
ELSEWHERE = "names weights that are no files of its folder"
CHECKPOINTS: dict[str, tuple[Attack, str]] = {
    "a pickle": (pickled(lambda c: pickle.dumps(Evil(c), protocol=2) + bytes(200_000)), PICKLE),
    "a pickle from torch.save": (pickled(lambda c: torch_saved(Evil(c))), PICKLE),
    "a partial in a pickle": (pickled(lambda c: torch_saved(functools.partial(os.system, f"touch {c}"))), PICKLE),
    "a broken pickle": (pickled(lambda c: b"\x80\x02" + bytes(200_000)), PICKLE),
    "a header of 2**60 bytes": (tensors(b"{}", 2**60), "header too large"),
    "tensors beyond the file": (tensors(one(shape=[5_000_000], data_offsets=[0, 20_000_000])), "not fully covered"),
    "tensors that overlap": (tensors({**one(), "b": one(data_offsets=[4, 200_004])["a"]}), "invalid offset"),
    "tensors that end before they begin": (tensors(one(data_offsets=[200_000, 0])), "invalid offset"),
    "more numbers than can be counted": (tensors(one(shape=[2**62, 2**62])), "overflow"),
    "numbers of no kind": (tensors(one(dtype="EVIL")), "unknown variant"),
    "a header in brackets": (tensors(b"[" * 90_000), "invalid type"),
    "weights that climb out": (sharded(lambda place: "../other.safetensors"), ELSEWHERE),
    "weights from the root": (sharded(lambda place: str(place / "other.safetensors")), ELSEWHERE),
    "weights from the settings": (settings(transformers_weights="../x.safetensors"), "sets transformers_weights"),
    "an index that is a list": (
        instead("model.safetensors", lambda p: p.with_name("model.safetensors.index.json").write_text("[]")),
        ELSEWHERE,
    ),
    "remote code": (remote("config.json", "AutoModel"), "config.json: sets auto_map, by which code"),
    "remote code for features": (remote("preprocessor_config.json", "AutoFeatureExtractor"), "sets auto_map"),
    "kernels from the hub": (
        settings(attn_implementation="kernels-community/x"),
        "code from elsewhere, which is never",
    ),
    "kernels below": (settings(text_config={"_attn_implementation": "a/b"}), "code from elsewhere, which is never run"),
    "quantised weights": (settings(quantization_config={"quant_method": "x"}), "sets quantization_config"),
    "an adapter": (instead("adapter_config.json", lambda p: p.write_text("{}")), "is an adapter"),
    "a billion layers": (settings(num_hidden_layers=10**9), "sets num_hidden_layers to 1,000,000,000"),
    "a billion labels": (settings(num_labels=10**9), "sets num_labels to 1,000,000,000"),
    "a wider network than its weights": (
        settings(hidden_size=64_000, intermediate_size=64_000),
        r"makes a network of 65,\d+,\d+,\d+ numbers, its weights have \d+,\d+ bytes",
    ),
    "ten thousand convolutions": (settings(conv_dim=[1] * 10_000), "to a list of 10,000"),
    "steps of nothing": (settings(conv_stride=[0] * 7), "sets conv_stride to 0; wanted 1 to"),
    "words for numbers": (settings(num_hidden_layers="many"), "cannot be loaded from"),
    "numbers without an end": (settings(hidden_size=float("inf")), "cannot be loaded from"),
    "a list for a name": (settings(model_type=["a"]), "cannot be loaded from"),
    "null for a config": (instead("config.json", lambda p: p.write_text("null")), "cannot be loaded from"),
    "a list for features": (instead("preprocessor_config.json", lambda p: p.write_text("[]")), "cannot be loaded from"),
    "a config in brackets": (instead("config.json", lambda p: p.write_text("[" * 100_000)), "cannot be read as JSON"),
    "a config of 1 GB": (instead("config.json", lambda p: sparse(p, GIB)), "has 1,073,741,824 bytes; at most"),
    "features of 1 GB": (instead("preprocessor_config.json", lambda p: sparse(p, GIB)), "has 1,073,741,824 bytes"),
    "a pipe": (instead("config.json", os.mkfifo), NO_FILE),
    "a filter bank of 37 GB": (
        features(feature_extractor_type="WhisperFeatureExtractor", n_fft=100_000, feature_size=100_000),
        "wanted -4,096 to 4,096",
    ),
    "no samples a second": (features(sampling_rate=0), "takes 0 samples a second; wanted 1,000 to 192,000"),
    "a word of samples a second": (features(sampling_rate="fast"), "takes fast samples a second"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_lies_is_refused(checkpoint: Path, tmp_path: Path, canary: Path, name: str) -> None:
    attack, said = CHECKPOINTS[name]
    folder = shutil.copytree(checkpoint, tmp_path / "net")
    attack(folder, canary)
    with pytest.raises(EncoderError, match=said) as error:
        load_encoder(str(folder))
    assert str(folder) in str(error.value)


def test_an_index_of_other_weights_than_are_taken_does_no_harm(checkpoint: Path, tmp_path: Path) -> None:
    """Hub repositories hold weights twice; of the pickles, only the index is downloaded."""
    folder = shutil.copytree(checkpoint, tmp_path / "net")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    assert load_encoder(str(folder)).info.fingerprint == load_encoder(str(checkpoint)).info.fingerprint


@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert", "WavLM", "Whisper", "Data2VecAudio", "SEWD", "Wav2Vec2Bert"])
def test_no_family_s_own_settings_are_refused(family: str) -> None:
    import transformers

    from embedcache.encoders._checkpoint import _fault, _settings

    config = json.loads(getattr(transformers, f"{family}Config")().to_json_string(use_diff=False))
    assert [fault for name, value in _settings(config) if (fault := _fault(name, value))] == []


def test_what_a_stranger_remembers_of_an_encoder_is_not_believed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "GRAIN_NS", 0)
    folder, memory = shutil.copytree(checkpoint, tmp_path / "net"), tmp_path / "encoders.json"
    load_encoder(str(folder), memory=memory)
    (entry,) = json.loads(memory.read_text()).values()
    info = json.loads(entry["info"])
    assert isinstance(load_encoder(str(folder), memory=memory), LazyEncoder)
    lies = [
        {"info": json.dumps({**info, **change})}
        for change in ({"name": "../../x"}, {"name": ".."}, {"n_layers": 10**12}, {"n_layers": "3"}, {"dim": None})
    ]
    for lie in (*lies, {"info": "[" * 100_000}, {"shortest": float("nan")}, {"longest": float("inf")}, {"views": 3}):
        memory.write_text(json.dumps({f"{folder} fp32": {**entry, **lie}}))
        assert not isinstance(load_encoder(str(folder), memory=memory), LazyEncoder)


# --- tables and runs --------------------------------------------------------------------------------------------------


def table(path: Path, *paths: str) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *((p, "sad", "ann") for p in paths)])
    return path


@pytest.mark.parametrize(
    "path", ["../secret.wav", "a/../../secret.wav", "/etc/passwd", "/dev/zero", "/", "..", ".", "deep/../../secret.wav"]
)
def test_a_table_names_no_file_outside_its_folder(tmp_path: Path, path: str) -> None:
    write(tmp_path / "secret.wav", noise(0.1))
    write(tmp_path / "mine" / "1.wav", noise(0.1))
    listed = table(tmp_path / "mine" / "my.csv", "1.wav", path)
    with pytest.raises(DataError, match=r"(?s)row 3: .* lies outside .*The CSV belongs into the folder") as error:
        datasets.get("folder").manifest(listed)
    assert "row 2" not in str(error.value)


def test_a_table_names_files_inside_its_folder_in_any_way(tmp_path: Path) -> None:
    """Links are the doing of who has the folder, not of who wrote the table; a step back behind one is the table's."""
    place = tmp_path / "mine"
    write(tmp_path / "elsewhere" / "deep" / "2.wav", noise(0.1))
    write(tmp_path / "elsewhere" / "secret.wav", noise(0.1))
    write(place / "a" / "1.wav", noise(0.1))
    (place / "linked").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "alias").symlink_to(place)
    ways = ["a/1.wav", "./a/../a/1.wav", str(place / "a" / "1.wav"), str(tmp_path / "alias" / "a" / "1.wav")]
    clips = datasets.get("folder").manifest(table(place / "my.csv", *ways, "linked/2.wav")).clips
    assert {clip.path for clip in clips} == {str(place / "a" / "1.wav"), str(tmp_path / "elsewhere" / "deep" / "2.wav")}
    with pytest.raises(DataError, match="row 2: linked/../secret.wav lies outside"):
        datasets.get("folder").manifest(table(place / "my.csv", "linked/../secret.wav"))


def test_links_in_a_circle_are_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "1.wav").symlink_to("2.wav")
    (tmp_path / "2.wav").symlink_to("1.wav")
    (clip,) = add_keys(datasets.get("folder").manifest(table(tmp_path / "my.csv", "1.wav"))).clips
    assert "cannot be read: Too many levels of symbolic links" in clip.extra["skipped"]


def wide(path: Path) -> None:
    """A header of 100,000 columns over 100,000 rows of one cell: 10 billion cells in 1 MB."""
    names = ",".join(f"c{n}" for n in range(100_000))
    path.write_text(f"path,label,speaker,{names}\n" + "x\n" * 100_000)


TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a NUL": (lambda p: table(p, "a\0b.wav"), "the path holds a NUL character"),
    "a cell of 100,000 characters": (lambda p: table(p, "a" * 100_000), "a cell has 100,000 characters, at most 8,192"),
    "a cell of 1 MB": (lambda p: table(p, "a" * 1_000_000), "field larger than field limit"),
    "a line that never ends": (lambda p: p.write_text('path,label,speaker\n"' + "x" * 1_000_000), "field larger"),
    "many columns": (wide, "row 2: no label"),
    "a gigabyte": (lambda p: sparse(p, GIB), "has 1,073,741,824 bytes; at most"),
    "no text": (lambda p: p.write_bytes(b"\xff\xfe\0"), "cannot be read as CSV"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_absurd_size_or_kind_is_refused(tmp_path: Path, name: str) -> None:
    make, said = TABLES[name]
    make(tmp_path / "my.csv")
    with pytest.raises(DataError, match=said):
        datasets.get("folder").scan(tmp_path / "my.csv")


COLUMNS = "dataset,clip_id,path,label,speaker,gender,key,seconds"


@pytest.mark.parametrize("name", ["../../x", "..", "/x", "a/b", "a\\b", "a\0b"])
def test_the_name_of_a_dataset_is_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text(f"{COLUMNS}\n{name},a,a.wav,l,s,,k,1\n")
    with pytest.raises(DataError, match="wanted a name without /"):
        Manifest.from_csv(tmp_path / "m.csv")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e400"])
def test_a_clip_lasts_a_number_of_seconds(tmp_path: Path, seconds: str) -> None:
    (tmp_path / "m.csv").write_text(f"{COLUMNS}\nd,a,a.wav,l,s,,k,{seconds}\n")
    with pytest.raises(DataError, match="no number of seconds"):
        Manifest.from_csv(tmp_path / "m.csv")


def test_the_paths_of_an_extracted_manifest_are_opened_by_nobody(artifacts: Artifacts, tree: Path) -> None:
    """They lead anywhere, for the recordings may lie anywhere; comparing needs vectors alone."""
    before = Task.load(artifacts=artifacts)
    path = artifacts.manifest("ravdess")
    rows = list(csv.DictReader(path.open(newline="")))
    pipe = tree / "pipe"
    os.mkfifo(pipe)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "path": str(pipe)} for row in rows)
    np.testing.assert_array_equal(Task.load(artifacts=artifacts).X, before.X)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run folder."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_predictions(folder, compare(toy_task(), ["logreg"], "random", n_folds=2, jobs=1), {})
    return folder


def facts(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "run.json", lambda run: run["heads"][0].update(changes))


def rows(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / "predictions.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return attack


def cell(number: int, value: str) -> Callable[[Path], None]:
    """Another value in the first row."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")
        cells[number] = value
        return [lines[0], ",".join(cells), *lines[2:]]

    return rows(change)


def crowd(lines: list[str]) -> list[str]:
    """100,000 speakers of one clip each."""
    before, after = lines[1].split(",")[:2], lines[1].split(",")[3:]
    return [lines[0], *(",".join([*before, f"s{n}", *after]) for n in range(100_000))]


RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a probability of NaN": (cell(9, "nan"), "not between 0 and 1"),
    "a probability of infinity": (cell(9, "inf"), "not between 0 and 1"),
    "a probability of 7": (cell(9, "7"), "not between 0 and 1"),
    "a probability that is a word": (cell(9, "sure"), "is no run that can be read"),
    "labels of another kind": (facts(labels={"left": 1}), "run.json says labels of a head"),
    "labels twice": (facts(labels=["left", "right", "left"]), "run.json says labels of a head"),
    "seconds of NaN": (facts(fit_seconds=float("nan")), "run.json says fit_seconds of a head"),
    "seconds without an end": (facts(predict_ms=float("inf")), "run.json says predict_ms of a head"),
    "seconds of 1e400": (facts(fit_seconds=10**400), "run.json says fit_seconds of a head"),
    "seconds that are a word": (facts(fit_seconds="long"), "run.json says fit_seconds of a head"),
    "a number for a name": (facts(fingerprint=3), "run.json says fingerprint of a head"),
    "a list for a name": (facts(head=["logreg"]), "run.json says head of a head"),
    "a word for skipped clips": (facts(skipped="abc"), "run.json says skipped of a head"),
    "a list for parameters": (facts(params=[1]), "run.json says params of a head"),
    "curves of another kind": (facts(histories=[1]), "run.json says histories of a head"),
    "one head twice": (
        lambda f: edit(f / "run.json", lambda run: run["heads"].append(run["heads"][0])),
        "predictions.csv has no rows of",
    ),
    "heads that are none": (lambda f: edit(f / "run.json", lambda run: run.update(heads=["a"])), "is no run that can"),
    "a list": (lambda f: (f / "run.json").write_text("[]"), "is no run that can be read"),
    "brackets": (lambda f: (f / "run.json").write_text("[" * 100_000), "is no run that can be read"),
    "a gigabyte": (lambda f: sparse(f / "run.json", GIB), "has 1,073,741,824 bytes; at most"),
    "a gigabyte of rows": (lambda f: sparse(f / "predictions.csv", GIB), "has 1,073,741,824 bytes; at most"),
    "a hundred thousand speakers": (rows(crowd), "100,000 speakers, 1 folds and 2 labels: too many"),
    "one long name among many": (
        rows(lambda lines: [lines[0], *lines[1:] * 500, lines[1].replace(",", "," + "x" * 8000, 1)]),
        "one whose clip_id is too long for so many",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_lies_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    attack, said = RUNS[name]
    folder = shutil.copytree(run, tmp_path / "run")
    attack(folder)
    with pytest.raises(DataError, match=said) as error:
        load_predictions(folder)
    assert str(folder) in str(error.value)


# --- memory -----------------------------------------------------------------------------------------------------------

# Each line reads one file with no more than 100 MB above what the libraries take, and says what came of it.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy, soundfile, soxr
from classifiers import load_model, load_predictions
from embedcache import KeyMemo, Recording, SerError
place = Path(sys.argv[1])
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 100 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
def say(path, read):
    try:
        print(path.name, "|", read(path))
    except Exception as error:
        print(path.name, "|", type(error).__name__, error)
for path in sorted((place / "sound").iterdir()):
    say(path, lambda path: Recording.load(path).waveform(16_000).shape)
say(place / "keys.json", lambda path: KeyMemo(path)._known)
say(place / "model", load_model)
say(place / "run", load_predictions)
"""


def wav(rate: int = 16_000, channels: int = 1, declared: int = 0, data: bytes = b"") -> bytes:
    """A header that declares so many bytes, and the bytes that there are."""
    frame = 2 * channels
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * frame % 2**32, frame, 16)
    size = declared or len(data)
    return (
        b"RIFF"
        + struct.pack("<I", min(size + 36, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def flac(path: Path, frames: int, rate: int = 48_000, channels: int = 2) -> None:
    """A tenth of a second whose STREAMINFO promises `frames`."""
    import soundfile

    soundfile.write(path, noise(0.1, rate, channels=channels), rate, format="FLAC")
    data = bytearray(path.read_bytes())
    word = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    path.write_bytes(data[:18] + word.to_bytes(8, "big") + data[26:])


def ogg(path: Path, frames: int) -> None:
    """A second whose last page promises `frames`."""
    import soundfile

    soundfile.write(path, noise(1.0), 16_000, format="OGG")
    data = bytearray(path.read_bytes())
    at = data.rfind(b"OggS")
    data[at + 6 : at + 14], data[at + 22 : at + 26] = struct.pack("<q", frames), bytes(4)
    sum_ = 0
    for byte in data[at:]:
        sum_ ^= byte << 24
        for _ in range(8):
            sum_ = (sum_ << 1 ^ 0x04C11DB7 if sum_ & 1 << 31 else sum_ << 1) & 0xFFFFFFFF
    data[at + 22 : at + 26] = struct.pack("<I", sum_)
    path.write_bytes(data)


TEN_HOURS, HOUR = 36_000, 3540


def test_nothing_that_promises_much_is_given_memory(models: dict[str, Path], run: Path, tmp_path: Path) -> None:
    place = tmp_path / "sound"
    place.mkdir()
    sparse(place / "10h.wav", 44 + 2 * 16_000 * TEN_HOURS, wav(declared=2 * 16_000 * TEN_HOURS))
    (place / "10h-lie.wav").write_bytes(wav(declared=2 * 16_000 * TEN_HOURS, data=bytes(1000)))
    flac(place / "10h.flac", 48_000 * TEN_HOURS)
    flac(place / "59min-of-8.flac", 192_000 * HOUR, 192_000, 8)
    flac(place / "largest.flac", 2**36 - 1)
    ogg(place / "10h.ogg", 16_000 * TEN_HOURS)
    ogg(place / "largest.ogg", 2**62)
    (place / "1hz.wav").write_bytes(wav(rate=1, data=bytes(6000)))
    (place / "2ghz.wav").write_bytes(wav(rate=2**31 - 1, data=bytes(6000)))
    sparse(place / "100gb.wav", 100 * GIB, b"RIFF")
    (place / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(place / "pipe.wav")
    write(place / "sound.wav", noise(0.5))
    sparse(tmp_path / "keys.json", GIB)
    sparse(shutil.copytree(models["logreg"], tmp_path / "model") / "model.json", GIB)
    sparse(shutil.copytree(run, tmp_path / "run") / "run.json", GIB)
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, env=there, timeout=60
    )
    said = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    wanted = {
        "10h.wav": "lasts 36000 s; a clip may last 3600 s. Cut it into utterances",
        "10h-lie.wav": "is truncated: its header declares 36000.00 s, it holds 0.03 s",
        "10h.flac": "lasts 36000 s",
        "59min-of-8.flac": "has 8 channels of 679,680,000 samples; all together may have 400,000,000",
        "largest.flac": "lasts 1431656 s",
        "10h.ogg": "lasts 36000 s",
        "largest.ogg": "lasts 288230376151712 s",
        "1hz.wav": "has 1 samples a second; wanted 100 to 768,000",
        "2ghz.wav": "has 2,147,483,647 samples a second; wanted 100 to 768,000",
        "100gb.wav": "has 107,374,182,400 bytes; at most 1,600,000,000 are read",
        "zero.wav": "it is a folder, a pipe or a device; wanted a file",
        "pipe.wav": "it is a folder, a pipe or a device; wanted a file",
        "sound.wav": "(8000,)",
        "keys.json": "{}",
        "model": "model.json: has 1,073,741,824 bytes; at most 1,048,576 are read",
        "run": "run.json: has 1,073,741,824 bytes; at most 67,108,864 are read",
    }
    assert sorted(said) == sorted(wanted), done.stderr
    for name, words in wanted.items():
        assert words in said[name]
        assert ("Error" in said[name]) == (name not in ("sound.wav", "keys.json"))
        assert "MemoryError" not in said[name]


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e308, float("nan"), 0.005])
def test_a_temperature_that_no_fit_gives_is_refused(models: dict[str, Path], tmp_path: Path, value: float) -> None:
    """A negative one would turn every answer round."""
    folder = shutil.copytree(models["svm"], tmp_path / "m")

    def change(schema: dict, parts: dict[str, bytes]) -> None:
        schema["content"]["content"]["temperature_"] = plain(value)

    schema_changed(folder, change)
    with pytest.raises(ModelError, match="its temperature is none that a fit gives"):
        load_model(folder)
