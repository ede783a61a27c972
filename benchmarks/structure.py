"""Figures of the structure of the code: cycles, import chains, modules in each folder, lengths of functions.

    python -m benchmarks.structure [FOLDER_OF_A_CHECKOUT]

A node of the import graph is a module. Imports inside functions count, imports for type checking do not. A name that a
package re-exports, lazily (`__init__.pyi`) or not, counts as an import of the module that defines the name.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("embedcache", "classifiers")
Graph = Mapping[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of both packages and of cli; a package has its folder's name."""
    found = {"cli": root / "cli.py"}
    for path in (path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(root: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports. A package's face imports nothing here: its names are resolved instead."""
    files = modules(root)
    faces = {name: _exports(path) for name, path in files.items() if path.name == "__init__.py"}
    graph = {}
    for name, path in files.items():
        targets = {_resolve(module, names, files, faces) for module, names in imports(path, root)}
        graph[name] = {target for target in targets if target} - {name} if name not in PACKAGES else set()
    return graph


def imports(path: Path, root: Path, typing_too: bool = False) -> Iterator[tuple[str, str]]:
    """(module, name) of each import of a file, absolute; the name is "" for `import module`."""
    package = path.relative_to(root).parts[:-1]
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), typing_too):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((module, alias.name) for alias in node.names)


def _nodes(tree: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing_too:
            continue
        yield node
        yield from _nodes(node, typing_too)


def _exports(init: Path) -> dict[str, tuple[str, str]]:
    """Name -> (module below the package, name there) of what a package re-exports."""
    stub = init.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else init).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return {alias.asname or alias.name: (node.module or "", alias.name) for node in nodes for alias in node.names}


def _resolve(module: str, name: str, files: Mapping[str, Path], faces: Mapping[str, dict[str, tuple[str, str]]]) -> str:
    """The module that defines `name` of `module`; "" if that is none of ours."""
    if f"{module}.{name}" in files:
        return f"{module}.{name}"
    if name in faces.get(module, {}):
        below, there = faces[module][name]
        inner = ".".join(part for part in (module, below) if part)
        return _resolve(inner, there, files, faces) if (inner, there) != (module, name) else module
    return module if module in files else ""


def room(module: str) -> str:
    """Return the folder of a module, such as `embedcache.cache`; for a module directly in a package, the module."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else module


def rooms(graph: Graph) -> dict[str, set[str]]:
    """Return the import graph of folders, from that of modules. See `room`."""
    between: dict[str, set[str]] = {room(module): set() for module in graph}
    for module, targets in graph.items():
        between[room(module)] |= {room(target) for target in targets} - {room(module)}
    return between


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other, sorted; [] for a graph without cycles."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached.get(other, ()))) for node in graph}
    return sorted(list(group) for group in groups if len(group) > 1)


def _reachable(graph: Graph, node: str) -> set[str]:
    """The nodes that a chain of imports leads to from a node, which is among them only if it is in a cycle."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def longest_chain(graph: Graph) -> list[str]:
    """The longest chain of imports of a graph without cycles."""

    chains: dict[str, list[str]] = {}

    def chain(node: str) -> list[str]:
        if node not in chains:
            below = [chain(target) for target in sorted(graph.get(node, ()))]
            chains[node] = [node, *max(below, key=len, default=[])]
        return chains[node]

    return max((chain(node) for node in sorted(graph)), key=len)


def function_lengths(root: Path) -> list[int]:
    """Lines of each function's body without its docstring, sorted."""
    lengths = []
    for path in modules(root).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    lengths.append((body[-1].end_lineno or 0) - body[0].lineno + 1)
    return sorted(lengths)


def modules_by_folder(root: Path) -> Counter[str]:
    """The number of modules in each folder, `__init__` and `__main__` aside."""
    paths = [path for path in modules(root).values() if not path.stem.startswith("__")]
    return Counter(str(path.parent.relative_to(root)) for path in paths)


def main() -> None:
    """Print the figures."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    graph, lengths = import_graph(root), function_lengths(root)
    incoming = Counter(target for targets in graph.values() for target in targets)
    outgoing = Counter({module: len(targets) for module, targets in graph.items()})
    functions = f"median {statistics.median(lengths):g}, 95 % below {lengths[int(0.95 * len(lengths))]}"
    folders = ", ".join(f"{folder} {n}" for folder, n in modules_by_folder(root).most_common())
    lines = [
        f"modules: {len(graph)}; functions: {len(lengths)}",
        f"lines in a function: {functions}",
        f"cycles between modules: {cycles(graph) or 'none'}",
        f"cycles between folders: {cycles(rooms(graph)) or 'none'}",
        *([_chain_line(longest_chain(graph))] if not cycles(graph) else []),
        f"modules imported most: {', '.join(f'{name} {n}' for name, n in incoming.most_common(6))}",
        f"modules with most imports: {', '.join(f'{name} {n}' for name, n in outgoing.most_common(6))}",
        f"modules in each folder: {folders}",
        f"words in the README: {len((root / 'README.md').read_text(encoding='utf-8').split())}",
        f"lines in cli.py: {len((root / 'cli.py').read_text(encoding='utf-8').splitlines())}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _chain_line(chain: list[str]) -> str:
    return f"longest import chain: {len(chain)} modules: {' > '.join(chain)}"


if __name__ == "__main__":
    main()
