"""Registries: find datasets, encoders, heads and metrics by name, and import their modules only when they are needed.

A dataset, an encoder, a head or a metric is one module in the folder of its kind. The module has an attribute with the
name of the kind (`dataset`, `encoder`, `head` or `metric`), which is a spec (an object with a `name`) or a tuple of
specs. There is no list of modules: every module in the folder counts, except modules whose name starts with an
underscore, which are shared code. Third parties declare entry points in the groups `ser.datasets`, `ser.encoders`,
`ser.heads` and `ser.metrics`, each of which refers to a spec. An entry point cannot replace a built-in name.

An entry point that cannot be loaded is an error only where its spec is asked for by name. Lists of all specs leave it
out, with a note on standard error.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from .errors import PluginError, UnknownName, first_line


class Named(Protocol):
    """The interface of a spec."""

    @property
    def name(self) -> str:
        """The name on the command line."""


Spec = TypeVar("Spec", bound=Named)


@dataclass(frozen=True)
class Registry(Generic[Spec]):
    """All specs of one kind, found by name."""

    kind: str  # "dataset", "encoder", "head" or "metric": the attribute of a module that holds its spec or specs
    package: str  # dotted name of the folder that holds the modules
    hint: str = ""  # advice at the end of the message for an unknown name
    shared: tuple[str, ...] = ()  # further modules in the folder that hold no spec
    spec_class: type[Any] = object  # class of the specs

    def get(self, name: str) -> Spec:
        """Return the spec with this name. Raises UnknownName, which suggests a similar name, if there is none.

        Raises PluginError if it is that of an entry point that cannot be loaded.
        """
        spec = self.find(name)
        if spec is None:
            raise UnknownName(self.kind, name, self.names(), self.hint)
        return spec

    def find(self, name: str) -> Spec | None:
        """Return the spec with this name, or None. A module of the same name is imported first, often the only one.

        Raises PluginError if it is that of an entry point that cannot be loaded.
        """
        modules = self._list_modules()
        modules.sort(key=lambda module: module != name.replace("-", "_"))
        for module in modules:
            for spec in self._import_specs(module):
                if spec.name == name:
                    return spec
        return next((self._load(point) for point in self._entry_points() if point.name == name), None)

    def all(self) -> list[Spec]:
        """Return all specs: first the built-in ones, then those of entry points, each sorted by name.

        Entry points that cannot be loaded are left out, with a note.
        """
        built_in = sorted(self._import_built_in(), key=lambda spec: spec.name)
        names = {spec.name for spec in built_in}
        return [*built_in, *self._loadable(point for point in self._entry_points() if point.name not in names)]

    def names(self) -> list[str]:
        """Return the names of all specs, without importing those of entry points."""
        built_in = [spec.name for spec in self._import_built_in()]
        return list(dict.fromkeys(built_in + [point.name for point in self._entry_points()]))

    def _import_built_in(self) -> Iterator[Spec]:
        for module in self._list_modules():
            yield from self._import_specs(module)

    def _list_modules(self) -> list[str]:
        """Return the names of the modules in the folder that hold specs, sorted, without importing the modules."""
        folder = importlib.import_module(self.package).__path__
        names = {module.name for module in pkgutil.iter_modules(folder)} - set(self.shared)
        return sorted(name for name in names if not name.startswith("_"))

    def _import_specs(self, module: str) -> tuple[Spec, ...]:
        specs = getattr(importlib.import_module(f"{self.package}.{module}"), self.kind)
        return specs if isinstance(specs, tuple) else (specs,)

    def _entry_points(self) -> list[EntryPoint]:
        """Return the entry points, sorted by name; one that is found twice, as in two folders of packages, once."""
        return sorted(dict.fromkeys(entry_points(group=f"ser.{self.kind}s")), key=lambda point: point.name)

    def _loadable(self, points: Iterable[EntryPoint]) -> Iterator[Spec]:
        for point in points:
            try:
                yield self._load(point)
            except PluginError as error:
                _note_once(f"note: {error}")

    def _load(self, point: EntryPoint) -> Spec:
        """Return the spec of an entry point. Raises PluginError if it cannot be imported, or refers to something else.

        Of two with one name, none can be used. The code of another package may raise any exception.
        """
        if others := [o.value for o in self._entry_points() if o.name == point.name and o != point]:
            raise self._error(point, f"{' and '.join(others)} has the same name")
        try:
            spec: Any = point.load()
        except Exception as error:
            raise self._error(point, f"{type(error).__name__}: {first_line(error)}") from error
        if not isinstance(spec, self.spec_class):
            raise self._error(point, f"got a {type(spec).__name__}, wanted a {self.spec_class.__name__}")
        return spec  # type: ignore[no-any-return]

    def _error(self, point: EntryPoint, reason: str) -> PluginError:
        package = f"package {point.dist.name}" if point.dist else "package that provides it"
        return PluginError(
            f"the plug-in {self.kind} '{point.name}' ({point.value}) cannot be used: {reason}. Update or repair the "
            f"{package}, or uninstall it."
        )


@functools.cache
def _note_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
