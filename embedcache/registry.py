"""Registries: find datasets, encoders, heads and metrics by name, and import their modules only when they are needed.

A dataset, an encoder, a head or a metric is one module in the folder of its kind. The module has an attribute with the
name of the kind (`dataset`, `encoder`, `head` or `metric`), which is a spec (an object with a `name`) or a tuple of
specs. There is no list of modules: every module in the folder counts, except modules whose name starts with an
underscore, which are shared code. Third parties declare entry points in the groups `ser.datasets`, `ser.encoders`,
`ser.heads` and `ser.metrics`, each of which refers to a spec. An entry point cannot replace a built-in name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from .errors import ConfigError, UnknownName, first_line


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

    def get(self, name: str) -> Spec:
        """Return the spec with this name.

        Raises UnknownName, which suggests a similar name, if there is none; ConfigError if its entry point cannot be
        imported.
        """
        spec = self.find(name)
        if spec is None:
            raise UnknownName(self.kind, name, self.names(), self.hint)
        return spec

    def find(self, name: str) -> Spec | None:
        """Return the spec with this name, or None. A module of the same name is imported first, often the only one."""
        modules = self._list_modules()
        modules.sort(key=lambda module: module != name.replace("-", "_"))
        for module in modules:
            for spec in self._import_specs(module):
                if spec.name == name:
                    return spec
        return next((self._load(point) for point in self._entry_points() if point.name == name), None)

    def all(self) -> list[Spec]:
        """Return all specs: first the built-in ones, then those of entry points, each sorted by name."""
        built_in = sorted(self._import_built_in(), key=lambda spec: spec.name)
        names = {spec.name for spec in built_in}
        return built_in + [self._load(point) for point in self._entry_points() if point.name not in names]

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
        return sorted(entry_points(group=f"ser.{self.kind}s"), key=lambda point: point.name)

    def _load(self, point: EntryPoint) -> Spec:
        """Return the spec of an entry point. Raises ConfigError if it cannot be imported."""
        try:
            spec: Any = point.load()
        except Exception as error:  # a module of another package may raise anything
            package = f" of the package {point.dist.name}" if point.dist else ""
            raise ConfigError(
                f"the entry point '{point.name}' in the group {point.group}{package} cannot be imported from "
                f"{point.value}: {type(error).__name__}: {first_line(error)}. Correct, update or uninstall the package."
            ) from error
        return spec  # type: ignore[no-any-return]
