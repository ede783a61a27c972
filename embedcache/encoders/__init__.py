"""The encoders, one module for each family. `embedcache.encoder` defines what an encoder and its spec provide.

    encoders.load_encoder("wav2vec2-base")    load a built-in encoder, a checkpoint folder or a hub id
    encoders.get("mfcc")                      return the spec of an encoder
    encoders.names()                          return the names of all encoders, those of plug-ins included
    encoders.all()                            return the specs of all encoders
    encoders.feature_names("functionals")     return the names of the numbers of an encoder's vector

`engine` computes wav2vec 2.0, WavLM and their relatives without padding; `huggingface` loads checkpoints.
"""

import functools
from pathlib import Path

from ..encoder import PRECISIONS, Encoder, EncoderSpec, Log, check_device, no_log
from ..errors import EncoderError
from ..registry import Registry
from ._lazy import load_lazily
from .hub import UNTRAINED, is_cached, is_checkpoint, locate, without_revision
from .huggingface import encoder as built_in
from .huggingface import load_checkpoint

__all__ = ["UNTRAINED", "all", "feature_names", "find", "folder_of", "get", "is_cached", "load_encoder", "names"]

# Modules of this folder that hold no encoder.
SHARED = ("acoustics", "checkpoint", "contamination", "engine", "hub", "listing")
_registry: Registry[EncoderSpec] = Registry("encoder", __name__, "A folder or a hub id works too", SHARED, EncoderSpec)
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def load_encoder(
    name: str, device: str = "auto", precision: str = "fp32", log: Log = no_log, memory: Path | None = None
) -> Encoder:
    """Load an encoder by its built-in name, its checkpoint folder or its hub id.

    A hub id is `user/model`, or `user/model@revision` with the name of a branch or a tag, or a commit.
    `device` is `auto`, `cpu`, `cuda` or `cuda:N`; `auto` uses a GPU if there is one. `precision` is the precision of
    the matrix products: `fp32`, `bf16` or `fp16`. `log` receives a line for each note: what the licence of the encoder
    forbids, that the packed engine does not support the checkpoint, or that the precision is slow on this processor.

    `memory` is a JSON file of facts about the encoders that were loaded before. With it, such an encoder is loaded only
    when it encodes. Without it, the encoder is loaded at once.

    Raises UnknownName if `name` is none of the three, and EncoderError if the encoder cannot be loaded, or if `name` is
    several joined by `+`.
    """
    if not isinstance(name, str) or not name:
        raise EncoderError(f"got the encoder {name!r}; wanted its name, or a checkpoint's folder or hub id, as text.")
    if precision not in PRECISIONS:
        raise EncoderError(f"got the precision '{precision}'; wanted one of {', '.join(PRECISIONS)}.")
    check_device(device)
    spec = find(name)
    if spec is None and "+" in name and not Path(name).is_dir():
        _refuse_joined(name)
    if spec is None and not is_checkpoint(name):
        spec = get(name)  # raises UnknownName, which suggests a similar name
    load = spec.load if spec else functools.partial(load_checkpoint, name)
    if memory and (spec is None or spec in built_in):
        checkpoint = name if spec is None or name == UNTRAINED else spec.checkpoint
        loaded = load_lazily(memory, name, checkpoint, precision, lambda: load(device, precision, log))
    else:
        loaded = load(device, precision, log)
    if terms := (spec.terms if spec else _terms_of(name)):
        log(f"note: {name}: {terms}")
    return loaded


def _terms_of(checkpoint: str) -> str:
    """Return what the licence of a checkpoint forbids, if it is one of the built-in ones under its hub id."""
    return next((spec.terms for spec in built_in if spec.checkpoint == without_revision(checkpoint)), "")


def _refuse_joined(name: str) -> None:
    """Raise EncoderError if a name is that of several encoders, joined by `+`, which only vectors can be."""
    parts = name.split("+")
    known = [part for part in parts if find(part)]
    places = [part for part in parts if is_checkpoint(part)]
    if "" not in parts and (known or places == parts):
        each = " and ".join(f"--encoder {part}" for part in dict.fromkeys(parts))
        raise EncoderError(
            f"got the encoder {name}, which is several joined by +; wanted one. Extract each one by itself ({each}); "
            f"then `ser compare --encoder {name}` joins their vectors."
        )


def folder_of(checkpoint: str) -> Path:
    """Return the folder that holds the files of a checkpoint. Raises EncoderError if there is none."""
    return locate(checkpoint)[1]


def feature_names(name: str) -> tuple[str, ...]:
    """Return the names of the numbers of an encoder's vector, in order, such as `pitch.p95`.

    Raises UnknownName if there is no such encoder, and EncoderError if its numbers have no names.
    """
    names_of = getattr(load_encoder(name), "feature_names", None)
    if names_of is None:
        raise EncoderError(
            f"{name}: its numbers have no names. Encoders whose numbers have names: functionals, egemaps, compare."
        )
    return tuple(names_of)
