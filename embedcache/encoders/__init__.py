"""One file an encoder family. `embedcache.encoder` says what they expose.

encoders.load_encoder("wav2vec2-base")    encoders.get("mfcc")    encoders.names()    encoders.all()
"""

from pathlib import Path

from ..encoder import Encoder, EncoderSpec
from ..registry import Registry

_registry: Registry[EncoderSpec] = Registry("encoder", __name__, "A folder or a hub id works too")
get, find, all, names = _registry.get, _registry.find, _registry.all, _registry.names


def load_encoder(name: str, device: str = "auto") -> Encoder:
    """An encoder by built-in name, checkpoint folder or hub id, on `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises UnknownName for a name that is none of these, EncoderError where it cannot be loaded.
    """
    spec = find(name)
    if spec is None and (Path(name).is_dir() or "/" in name):
        from .wav2vec2 import load_checkpoint

        return load_checkpoint(name, device)
    return (spec or get(name)).load(device)  # get raises, with a suggestion
