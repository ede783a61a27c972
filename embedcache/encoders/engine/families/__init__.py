"""The families of networks that the packed engine computes, one module each.

A module has a `family`, and is listed in FAMILIES below. What all families share is in `network`; a family says which
positional embedding and which attention its networks have, and which of their variants the engine does not compute.
"""

from . import data2vec, wav2vec2, wavlm
from ._family import Family

FAMILIES: dict[str, Family] = {
    name: module.family for module in (wav2vec2, wavlm, data2vec) for name in module.family.types
}
