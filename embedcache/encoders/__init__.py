"""One file an encoder family. `embedcache.encoder` says what they expose; `packed` is an engine that they share.

encoders.load_encoder("wav2vec2-base")    encoders.get("mfcc")    encoders.names()    encoders.all()
"""

import functools
from pathlib import Path

from ..encoder import PRECISIONS, Encoder, EncoderSpec, Log, check_device, no_log
from ..errors import EncoderError
from ..registry import Registry
from ._checkpoint import UNTRAINED, is_cached, locate
from ._lazy import load_lazily
from .wav2vec2 import encoder as built_in
from .wav2vec2 import load_checkpoint

__all__ = ["UNTRAINED", "all", "find", "folder_of", "get", "is_cached", "load_encoder", "names"]

_registry: Registry[EncoderSpec] = Registry("encoder", __name__, "A folder or a hub id works too", shared=("packed",))
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def load_encoder(
    name: str, device: str = "auto", precision: str = "fp32", log: Log = no_log, memory: Path | None = None
) -> Encoder:
    """An encoder by built-in name, checkpoint folder or hub id, on `auto`, `cpu`, `cuda` or `cuda:N`.

    `precision` is that of its matrix products: `fp32`, `bf16` or `fp16`. `log` receives, in a line each, what a person
    would want to know: an engine that does not support the checkpoint, a precision that is slow on this processor.
    With `memory`, a file, an encoder that was loaded before is loaded again only when it encodes.
    Raises UnknownName for a name that is none of these, EncoderError where it cannot be loaded.
    """
    if precision not in PRECISIONS:
        raise EncoderError(f"no precision '{precision}'; have {', '.join(PRECISIONS)}.")
    check_device(device)
    spec = find(name)
    if spec is None and not (Path(name).is_dir() or "/" in name):
        spec = get(name)  # raises, with a suggestion
    load = spec.load if spec else functools.partial(load_checkpoint, name)
    if memory and (spec is None or spec in built_in):
        checkpoint = name if spec is None or name == UNTRAINED else spec.checkpoint
        return load_lazily(memory, name, checkpoint, precision, lambda: load(device, precision, log))
    return load(device, precision, log)


def folder_of(checkpoint: str) -> Path:
    """The folder of a checkpoint's files. Raises EncoderError where there is none."""
    return locate(checkpoint)[1]
