"""Recipe: a published system as data. The files lie in `recipes/`, one each.

about, source            what it is, and where it is described
stated, open             the settings that the source states; every choice that it left to us
[claims]                 what it claims, in percent: `war` (accuracy), `macro_f1`; empty where it claims nothing
[data]                   datasets, labels; the protocol of ours that is nearest to its own; `most` clips it used
[system]                 encoder; a head with its view and frames, or `[system.finetune]`, settings of fine-tuning
[quick]                  what a few minutes' version changes: `clips` of each speaker and label, folds, frames
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from embedcache import UnknownName
from embedcache.finetune import FinetuneSettings

BLOCKS = "blocks"  # the view of the frames of every layer but the input of the first block
ENDING = ".toml"


@dataclass(frozen=True)
class Quick:
    """What a few minutes' version changes."""

    clips: int  # of each speaker and label
    folds: int = 5
    frames: int | None = None
    finetune: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """One published system."""

    name: str
    about: str
    source: str
    stated: tuple[str, ...]
    open: tuple[str, ...]
    claims: Mapping[str, float]  # metric -> percent
    datasets: tuple[str, ...]
    labels: str
    protocol: str
    encoder: str
    quick: Quick
    head: str = ""
    view: str = ""
    frames: int | None = None
    finetune: FinetuneSettings | None = None
    most: int | None = None


def names() -> list[str]:
    """The recipes there are."""
    return sorted(path.name.removesuffix(ENDING) for path in _folder().iterdir() if path.name.endswith(ENDING))


def recipe(name: str) -> Recipe:
    """One recipe. Raises UnknownName."""
    if name not in names():
        raise UnknownName("recipe", name, names(), "`ser reproduce` lists them")
    said = tomllib.loads((_folder() / f"{name}{ENDING}").read_text(encoding="utf-8"))
    data, system = said["data"], said["system"]
    tuning = system.get("finetune")
    return Recipe(
        name=name,
        about=said["about"],
        source=said["source"],
        stated=tuple(said["stated"]),
        open=tuple(said["open"]),
        claims=said["claims"],
        datasets=tuple(data["datasets"]),
        labels=data["labels"],
        protocol=data["protocol"],
        most=data.get("most"),
        encoder=system["encoder"],
        head=system.get("head", ""),
        view=system.get("view", ""),
        frames=system.get("frames"),
        finetune=None if tuning is None else settings(tuning),
        quick=Quick(**said["quick"]),
    )


def settings(said: Mapping[str, Any]) -> FinetuneSettings:
    """Settings as a file has them."""
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return FinetuneSettings(**given)


def _folder() -> Any:
    return files(__package__) / "recipes"
