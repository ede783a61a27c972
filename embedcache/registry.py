"""Names to built-in modules found by folder, or to third parties' entry points; imported on demand.

A dataset, an encoder or a head is one module in its folder. It exposes one attribute called after its kind
(`dataset`, `encoder`, `head`): a spec with a `name`, or a tuple of such specs. The folder is the list; modules whose
name starts with an underscore are shared pieces. Third parties declare entry points in `ser.datasets`,
`ser.encoders` or `ser.heads`, each pointing at a spec. A built-in name cannot be taken over.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from .errors import UnknownName


class Named(Protocol):
    """What every spec has."""

    @property
    def name(self) -> str: ...


Spec = TypeVar("Spec", bound=Named)


@dataclass(frozen=True)
class Registry(Generic[Spec]):
    """The specs of one kind. `kind` is also the attribute that a module exposes."""

    kind: str
    package: str
    hint: str = ""
    shared: tuple[str, ...] = ()  # modules that hold no spec, as those do whose name starts with an underscore

    def get(self, name: str) -> Spec:
        """The spec called `name`. Raises UnknownName, with a suggestion, where there is none."""
        spec = self.find(name)
        if spec is None:
            raise UnknownName(self.kind, name, self.names(), self.hint)
        return spec

    def find(self, name: str) -> Spec | None:
        """The spec called `name`, or None. The module of that name is tried first, so that the others stay unread."""
        modules = self._modules()
        modules.sort(key=lambda module: module != name.replace("-", "_"))
        for module in modules:
            for spec in self._exposed(module):
                if spec.name == name:
                    return spec
        return next((self._load(point) for point in self._entry_points() if point.name == name), None)

    def all(self) -> list[Spec]:
        """Every spec, built-in ones first, each kind in the order of names."""
        built_in = sorted(self._built_in(), key=lambda spec: spec.name)
        taken = {spec.name for spec in built_in}
        return built_in + [self._load(p) for p in self._entry_points() if p.name not in taken]

    def names(self) -> list[str]:
        """The names of `all()`; entry points are not imported for it."""
        return list(dict.fromkeys([spec.name for spec in self._built_in()] + [p.name for p in self._entry_points()]))

    def _built_in(self) -> Iterator[Spec]:
        for module in self._modules():
            yield from self._exposed(module)

    def _modules(self) -> list[str]:
        folder = importlib.import_module(self.package).__path__
        names = {module.name for module in pkgutil.iter_modules(folder)} - set(self.shared)
        return sorted(name for name in names if not name.startswith("_"))

    def _exposed(self, module: str) -> tuple[Spec, ...]:
        specs = getattr(importlib.import_module(f"{self.package}.{module}"), self.kind)
        return specs if isinstance(specs, tuple) else (specs,)

    def _entry_points(self) -> list[EntryPoint]:
        return sorted(entry_points(group=f"ser.{self.kind}s"), key=lambda point: point.name)

    def _load(self, point: EntryPoint) -> Spec:
        spec: Any = point.load()
        return spec  # type: ignore[no-any-return]
