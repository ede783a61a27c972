"""The families of networks that the packed engine computes, one module each.

A module has a `family`, and is listed in FAMILIES below and in `encoders.listing`. What all families share is in
`network`: `Network.of` and `Block.of` say which attributes a model of transformers must have. A family says which
positional embedding and which attention its networks have, and which of their variants the engine does not compute;
`packed.unsupported_reason` says what is refused of all families.
"""

from . import data2vec, wav2vec2, wavlm
from ._family import Family

FAMILIES: dict[str, Family] = {
    name: module.family for module in (wav2vec2, wavlm, data2vec) for name in module.family.types
}
