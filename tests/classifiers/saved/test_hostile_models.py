"""Model folders from a stranger: every attack is made for real, and is refused by name before anything runs."""

import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.hostile import GIB, NO_FILE, Attack, Evil, edit, sparse

from classifiers import (
    Predictor,
    load_model,
)
from classifiers.checks import toy_task
from embedcache import ModelError


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
    with pytest.raises(ModelError, match=f"is not loaded, because no head of ser contains the types .*{called}"):
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


NO_ARCHIVE = "it is not an archive as skops writes it"
LABELS = "the head's labels are not those of model.json"
LOGISTIC = "sklearn.linear_model._logistic.LogisticRegression"
LOGREG = "classifiers.heads.logreg.LogReg"
# What is done to the folder of a logistic regression -> what is said of it.
ARCHIVES: dict[str, tuple[Attack, str]] = {
    "a pickle": (lambda f, c: (f / "head.skops").write_bytes(pickle.dumps(Evil(c)) + bytes(64)), NO_ARCHIVE),
    "a pickle as a member": (
        lambda f, c: pack(f, unpacked(f) | {"head.pkl": pickle.dumps(Evil(c))}),
        "its archive holds the unknown member 'head.pkl'",
    ),
    "a pickled array": (
        lambda f, c: array_changed(LOGISTIC, object_array(c), "coef_")(f, c),
        "Object arrays cannot be loaded",
    ),
    "a name that climbs out": (
        lambda f, c: pack(f, unpacked(f) | {"../../canary": b""}),
        "its archive holds the unknown member '../../canary'",
    ),
    "a name from the root": (
        lambda f, c: pack(f, unpacked(f) | {str(c): b""}),
        "its archive holds the unknown member '/",
    ),
    "two members of one name": (lambda f, c: doubled(f), "two members with the same name"),
    "a bomb that says so": (
        lambda f, c: lying(f, "9.npy", 4 * GIB - 1),
        "decompresses to more bytes than any head has",
    ),
    "a bomb that does not": (lambda f, c: lying(f, "9.npy", 10), "cannot be loaded"),
    "a bomb in another method": (lambda f, c: lying(f, "9.npy", 10, zipfile.ZIP_BZIP2), "a method other than deflate"),
    "a member that is smaller than it says": (lambda f, c: lying(f, "9.npy", 1 << 27), "has a different size than"),
    "a schema of 64 MB": (
        lambda f, c: lying(f, "schema.json", 1 << 26),
        "decompresses to more bytes than any head has",
    ),
    "ten thousand members": (lambda f, c: pack(f, unpacked(f) | {f"{n}.npy": b"" for n in range(10_000)}), NO_ARCHIVE),
    "a directory behind a comment": (lambda f, c: commented(f), NO_ARCHIVE),
    "no schema": (lambda f, c: pack(f, {"1.npy": npy(np.zeros(1))}), "cannot be loaded .*schema.json"),
    "a schema in brackets": (lambda f, c: pack(f, {"schema.json": b"[" * 100_000}), "maximum recursion depth exceeded"),
    "a schema that is a list": (lambda f, c: pack(f, {"schema.json": b"[1, 2]"}), "cannot be loaded"),
    "an array again and again": (
        lambda f, c: schema_changed(f, again_and_again),
        "refer to more than 536,870,912 bytes of arrays",
    ),
    "a flood of parts": (lambda f, c: schema_changed(f, flood), "more than 100,000 nodes"),
    "parts in parts": (lambda f, c: schema_changed(f, deep), "cannot be loaded"),
    "a part of itself": (lambda f, c: schema_changed(f, in_itself), "the head cannot predict"),
    "an array of 1e12": (array_changed(LOGISTIC, promised("(1000000000000,)"), "coef_"), "cannot be loaded"),
    "an array of -1": (array_changed(LOGISTIC, promised("(-1,)"), "coef_"), "cannot be loaded"),
    "labels that take no room": (array_changed(LOGREG, promised("(1000000000000,)", "|V0"), "classes_"), LABELS),
    "labels of another kind": (part_changed(classes_=plain({})), LABELS),
    "a million features": (
        part_changed(n_features_in_=plain(10**6)),
        "the head reads 1000000 values per clip; model.json has 6",
    ),
    "no model": (part_changed(model_=plain(None)), "the head cannot predict"),
    "weights of another shape": (array_changed(LOGISTIC, npy(np.zeros((1, 5))), "coef_"), "the head cannot predict"),
    "weights that are no numbers": (
        array_changed(LOGISTIC, npy(np.full((1, 6), np.nan)), "coef_"),
        "does not return a finite probability for each label",
    ),
    "a link to another file": (replaced(lambda p: p.symlink_to("/etc/passwd")), NO_ARCHIVE),
    "a link to a device": (replaced(lambda p: p.symlink_to("/dev/zero")), NO_FILE),
    "a pipe": (replaced(os.mkfifo), NO_FILE),
    "a terabyte": (
        replaced(lambda p: sparse(p, 1024 * GIB)),
        "has 1,099,511,627,776 bytes; wanted at most 536,870,912",
    ),
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
    with pytest.raises(ModelError, match="has two models|are not a plain dictionary"):
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
    with pytest.raises(ModelError, match="its SVC are inconsistent|in the place of an array"):
        load_model(folder)


CARDS = {
    "no labels": ({"labels": None}, "wrong type of labels"),
    "a word for labels": ({"labels": "left"}, "wrong type of labels"),
    "numbers for labels": ({"labels": [1, 2]}, "wrong type of labels"),
    "other labels": ({"labels": ["left", "wrong"]}, "the head's labels are not those of model.json, left, wrong"),
    "more labels": ({"labels": ["left", "right", "up"]}, LABELS),
    "a list for the view": ({"view": ["pooled"]}, "wrong type of view"),
    "view": ({"view": "frames:0+pooled"}, "has an invalid view: got the view 'frames:0\\+pooled'"),
    "frames": ({"view": "frames:0", "n_frames": 10**9}, "has 1000000000 frames per clip; wanted 1 to 100,000"),
    "frames of a head that reads none": ({"view": "frames"}, "the head reads 0 frames per clip; model.json has 1"),
    "a list for the encoder": ({"encoder_info": [1]}, "wrong type of encoder_info"),
    "a number for the checkpoint": ({"checkpoint": 3}, "wrong type of checkpoint"),
    "a word for a count": ({"n_clips": "many"}, "wrong type of n_clips"),
    "other dimensions": ({"encoder_info": {"dim": 768, "n_layers": 13}}, "reads 6 values per clip; model.json has 768"),
    "a checkpoint that climbs out": ({"checkpoint": "../../evil"}, "wanted a hub id or the absolute path of a folder"),
    "a checkpoint beside the model": ({"checkpoint": "evil"}, "wanted a hub id or the absolute path of a folder"),
    "a checkpoint here": ({"checkpoint": "."}, "wanted a hub id or the absolute path of a folder"),
    "a checkpoint above": ({"checkpoint": "../evil"}, "wanted a hub id or the absolute path of a folder"),
    "a checkpoint in three parts": ({"checkpoint": "a/b/c"}, "wanted a hub id or the absolute path of a folder"),
    "a path that climbs": ({"checkpoint": "/home/../etc"}, "wanted a hub id or the absolute path of a folder"),
    "an address": ({"checkpoint": "https://a.b/c"}, "wanted a hub id or the absolute path of a folder"),
    "an encoder that is a path": (
        {"encoder": "../evil"},
        "imported vectors of '../evil', which no encoder here computes",
    ),
    "an encoder that is a folder": ({"encoder": "m"}, "imported vectors of 'm', which no encoder here computes"),
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


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e308, float("nan"), 0.005])
def test_a_temperature_that_no_fit_gives_is_refused(models: dict[str, Path], tmp_path: Path, value: float) -> None:
    """A negative one would turn every answer round."""
    folder = shutil.copytree(models["svm"], tmp_path / "m")

    def change(schema: dict, parts: dict[str, bytes]) -> None:
        schema["content"]["content"]["temperature_"] = plain(value)

    schema_changed(folder, change)
    with pytest.raises(ModelError, match="its temperature is not between 0.01 and 100"):
        load_model(folder)
