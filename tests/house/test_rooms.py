"""The rooms of the house: imports run downwards, folders stay small, private stays private, help is light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.places import REPOSITORY

import classifiers
import embedcache
from benchmarks.structure import cycles, import_graph, imports, modules, modules_by_folder, room, rooms

FILES = modules(REPOSITORY)
GRAPH = import_graph(REPOSITORY)
HEAVY = ("torch", "transformers", "sklearn", "h5py")

# From the bottom up. A room may import those below it. A module that lies in a package itself is a room of its own.
ORDER = [
    *("embedcache._version", "embedcache.text", "embedcache.errors", "embedcache.configuration"),
    *("embedcache.registry", "embedcache.progress", "embedcache.files", "embedcache.artifacts"),
    *("embedcache.manifest", "embedcache.terminal", "embedcache.audio", "embedcache.dataset", "embedcache.encoder"),
    *("embedcache.checks", "embedcache.datasets", "embedcache.synthetic", "embedcache.provenance"),
    *("embedcache.auditing", "embedcache.download", "embedcache.encoders", "embedcache.checking"),
    *("embedcache.cache", "embedcache.exchange"),
    "embedcache.onnx",
    *("embedcache.finetune", "embedcache.__main__", "embedcache"),
    *(
        "classifiers.parallel",
        "classifiers.data",
        "classifiers.protocols",
        "classifiers.heads",
        "classifiers.adaptation",
        "classifiers.metrics",
        "classifiers.evaluation",
        "classifiers.checks",
        "classifiers.saved",
    ),
    *(
        "classifiers.inference",
        "classifiers.reporting",
        "classifiers.citing",
        "classifiers.workflows",
        "classifiers.export",
    ),
    *(
        "classifiers.tracking",
        "classifiers.reproduction",
        "classifiers.serving",
        "classifiers.demo",
        "classifiers.__main__",
        "classifiers",
        "cli",
    ),
]

# Folders that are lists of plug-ins: their public modules are the plug-ins, and do not count as modules to know.
PLUGINS = {"embedcache/datasets", "embedcache/encoders", "classifiers/heads"}
MOST_MODULES = 14


def test_no_module_and_no_room_imports_itself_in_a_circle() -> None:
    assert cycles(GRAPH) == []
    assert cycles(rooms(GRAPH)) == []


def test_every_room_is_in_the_order_once() -> None:
    assert sorted(ORDER) == sorted({room(module) for module in FILES})


@pytest.mark.parametrize("name", sorted(rooms(GRAPH)))
def test_a_room_imports_only_rooms_below_it(name: str) -> None:
    above = {other for other in rooms(GRAPH)[name] if ORDER.index(other) > ORDER.index(name)}
    assert not above


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_module_is_hidden_by_a_name(name: str) -> None:
    """`import classifiers.evaluation.leaderboard as m` gives a module, not a function of that name."""
    if name.endswith("__main__"):
        pytest.skip("it ends the process")
    module = importlib.import_module(name)
    assert isinstance(module, ModuleType)
    parent, _, leaf = name.rpartition(".")
    assert not parent or getattr(importlib.import_module(parent), leaf) is module


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_private_to_a_folder_is_imported_there_alone(name: str) -> None:
    path = FILES[name]
    folder = ".".join(path.relative_to(REPOSITORY).parts[:-1])
    for module, imported in imports(path, REPOSITORY, typing_too=True):
        if module.partition(".")[0] not in ("embedcache", "classifiers"):
            continue
        target = f"{module}.{imported}" if f"{module}.{imported}" in FILES else module
        parent, _, leaf = target.rpartition(".")
        if leaf.startswith("_"):
            assert folder == parent or folder.startswith(f"{parent}."), f"{name} imports {target}"
        if imported.startswith("_") and not imported.startswith("__"):
            assert module == name or target != module, f"{name} imports {module}.{imported}"


@pytest.mark.parametrize("folder", sorted(modules_by_folder(REPOSITORY)))
def test_a_folder_has_few_modules(folder: str) -> None:
    paths = [path for path in (REPOSITORY / folder).glob("*.py") if not path.stem.startswith("__")]
    counted = [path for path in paths if folder not in PLUGINS or path.stem.startswith("_")]
    assert len(counted) <= MOST_MODULES, sorted(path.stem for path in counted)


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES.values()} - {REPOSITORY}))
def test_every_folder_says_what_lies_in_it(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


@pytest.mark.parametrize("name", sorted(FILES))
def test_libraries_are_imported_in_their_rooms(name: str) -> None:
    roots = {module.partition(".")[0] for module, _ in imports(FILES[name], REPOSITORY)}
    if name.startswith("embedcache"):
        assert not roots & {"classifiers", "cli", "sklearn"}
        assert ("h5py" in roots) == (name == "embedcache.cache.shard")
    if name.startswith("classifiers"):
        assert not roots & {"cli", "transformers", "h5py", "soundfile", "librosa"}
        assert ("torch" in roots) == name.startswith("classifiers.heads._torch")


@pytest.mark.parametrize("folder", sorted(PLUGINS))
def test_plugins_do_not_import_each_other(folder: str) -> None:
    kind = Path(folder).name.removesuffix("s")
    paths = [path for path in (REPOSITORY / folder).glob("[a-z]*.py") if _assigns(path, kind)]
    names = {f"{folder.replace('/', '.')}.{path.stem}" for path in paths}
    assert len(names) > 1
    for name in names:
        assert not GRAPH[name] & names - {name}, name


def _assigns(path: Path, name: str) -> bool:
    statements = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    targets = [target for node in statements for target in node.targets]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize("module", ["embedcache", "classifiers", "cli", "embedcache.errors", "embedcache.manifest"])
def test_importing_a_face_loads_nothing_heavy(module: str) -> None:
    done = run_python(f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", [["--help"], ["extract", "--help"], ["finetune", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, contextlib, io\nsys.argv = ['ser'] + sys.argv[1:]\nimport cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    cli.main()\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run_python(code, *command).stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(FILES))
def test_shipped_code_raises_and_never_asserts_or_unpickles(name: str) -> None:
    tree = ast.parse(FILES[name].read_text())
    assert ast.get_docstring(tree), "a module opens with what it is"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("pickle.load", "pickle.loads", "joblib.load", "torch.load", "eval", "exec")


@pytest.mark.parametrize("package", [embedcache, classifiers])
def test_public_names_exist_and_are_documented(package: ModuleType) -> None:
    for name in package.__all__:
        thing = getattr(package, name)
        assert isinstance(thing, dict) or thing.__doc__, f"{name} has no docstring"
        assert name in dir(package)


def test_tests_import_no_test_and_lie_as_the_house_does() -> None:
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        roots = {(module or "").split(".")[-1] for module, _ in imports(path, REPOSITORY)}
        assert not any(name.startswith("test_") for name in roots), path
        folder = path.relative_to(REPOSITORY / "tests").parent
        assert str(folder) in ("house", "cli") or (REPOSITORY / folder).is_dir(), path
