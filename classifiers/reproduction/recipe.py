"""Published systems as data: one TOML file for each in `recipes/`.

about, source    what the system is, and where it is described
stated, open     settings that the source states; settings that it leaves open, with our choices
[claims]         claimed scores in percent: `war` (accuracy), `macro_f1`; empty if the source claims none
[data]           datasets, label view, our protocol nearest to that of the source, `most` (maximum number of clips)
[system]         encoder; a head with its view and frames, or `[system.finetune]` with settings of fine-tuning
[quick]          changes for a run of a few minutes: `clips` of each speaker and label, folds, frames, finetune
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from embedcache import UnknownName
from embedcache.finetune import FinetuneSettings

BLOCKS = "blocks"  # view: the frames of every layer except layer 0, the input of the first block
ENDING = ".toml"


@dataclass(frozen=True)
class Quick:
    """Changes of a recipe for a run of a few minutes."""

    clips: int  # maximum number of clips of each speaker and label
    folds: int = 5
    frames: int | None = None  # frames of a clip; None for the recipe's own number
    finetune: Mapping[str, Any] = field(default_factory=dict)  # settings of fine-tuning that differ


@dataclass(frozen=True)
class Recipe:
    """One published system."""

    name: str
    about: str
    source: str
    stated: tuple[str, ...]  # settings that the source states
    open: tuple[str, ...]  # settings that the source leaves open, with our choices
    claims: Mapping[str, float]  # metric -> claimed score in percent
    datasets: tuple[str, ...]
    labels: str  # label view
    protocol: str  # our protocol that is nearest to that of the source
    encoder: str
    quick: Quick
    head: str = ""  # "" if the encoder is fine-tuned
    view: str = ""  # "" for the head's own view
    frames: int | None = None  # frames to which clips are cut or padded
    finetune: FinetuneSettings | None = None  # None for a frozen encoder with a head
    most: int | None = None  # maximum number of clips; None for all


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(path.name.removesuffix(ENDING) for path in _folder().iterdir() if path.name.endswith(ENDING))


def recipe(name: str) -> Recipe:
    """Return the recipe of this name. Raises UnknownName if there is none."""
    if name not in names():
        raise UnknownName("recipe", name, names(), "`ser reproduce` lists them")
    content = tomllib.loads((_folder() / f"{name}{ENDING}").read_text(encoding="utf-8"))
    data, system = content["data"], content["system"]
    finetune = system.get("finetune")
    return Recipe(
        name=name,
        about=content["about"],
        source=content["source"],
        stated=tuple(content["stated"]),
        open=tuple(content["open"]),
        claims=content["claims"],
        datasets=tuple(data["datasets"]),
        labels=data["labels"],
        protocol=data["protocol"],
        most=data.get("most"),
        encoder=system["encoder"],
        head=system.get("head", ""),
        view=system.get("view", ""),
        frames=system.get("frames"),
        finetune=None if finetune is None else finetune_settings(finetune),
        quick=Quick(**content["quick"]),
    )


def finetune_settings(content: Mapping[str, Any]) -> FinetuneSettings:
    """Return the settings of fine-tuning that a TOML table holds; its lists become tuples."""
    values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in content.items()}
    return FinetuneSettings(**values)


def _folder() -> Any:
    return files(__package__) / "recipes"
