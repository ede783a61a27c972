"""The house stays whole: imports run downwards, names and documentation agree, nothing heavy loads for help."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.places import REPOSITORY

import classifiers
import embedcache

SOURCES = sorted(
    [*REPOSITORY.glob("embedcache/**/*.py"), *REPOSITORY.glob("classifiers/**/*.py"), REPOSITORY / "cli.py"]
)


def imported(path: Path, everywhere: bool = True) -> set[str]:
    """The modules that a file imports, as dotted absolute names."""
    package = path.relative_to(REPOSITORY).with_suffix("").parts
    package = package[:-1]
    names = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def assigned(path: Path) -> set[str]:
    """The names that a module assigns."""
    targets = [
        target for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign) for target in node.targets
    ]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_run_downwards(path: Path) -> None:
    where = path.relative_to(REPOSITORY).parts
    if where[0] == "embedcache":
        assert not roots(path) & {"classifiers", "cli", "sklearn"}
        assert ("h5py" in roots(path)) == (where[-1] == "shard.py")
    if where[0] == "classifiers":
        assert not roots(path) & {"cli", "transformers", "h5py", "soundfile", "librosa"}
        assert ("torch" in roots(path)) == where[-1].startswith("_torch")
    if len(where) == 3 and not where[2].startswith("_"):
        exposing = [other for other in path.parent.glob("[a-z]*.py") if where[1][:-1] in assigned(other)]
        siblings = {f"{where[0]}.{where[1]}.{other.stem}" for other in exposing}
        assert not imported(path) & (siblings - {".".join(where)[:-3]})


@pytest.mark.parametrize("command", [["--help"], ["extract", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, contextlib, io\nsys.argv = ['ser'] + sys.argv[1:]\nimport cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    cli.main()\n"
        "print([m for m in sys.modules if m in ('torch', 'transformers', 'sklearn')], 'h5py' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=REPOSITORY)
    assert result.stdout.strip() == f"[] {command == ['--version']}", result.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_shipped_code_raises_and_never_asserts_or_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module opens with what it is"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("pickle.load", "pickle.loads", "joblib.load", "torch.load", "eval", "exec")


@pytest.mark.parametrize("package", [embedcache, classifiers])
def test_public_names_exist_and_are_documented(package: object) -> None:
    for name in package.__all__:
        thing = getattr(package, name)
        assert isinstance(thing, dict) or thing.__doc__, f"{name} has no docstring"
    assert package.__all__ == sorted(package.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))


def test_torch_is_the_one_that_is_pinned() -> None:
    """Some packages swap torch for another build without a word."""
    pins = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split() if "==" in line)
    assert version("torch").partition("+")[0] == pins["torch"]
    assert version("transformers") == pins["transformers"]


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY).stdout.split()
    for name in listed:
        text = (REPOSITORY / name).read_text(errors="ignore") if (REPOSITORY / name).exists() else ""
        assert "/work/" not in text or name == "tests/test_architecture.py", name
