"""Arrays of Python objects in .npy files, as pandas' columns of texts are saved: read without loading a pickle.

NumPy writes such an array as a pickle, which could run any code when it is loaded. Here, every name in the pickle must
be one of the few that NumPy writes for an array of objects, and each stands for an inert class of this module: nothing
is imported, and nothing of NumPy is called. What comes out is a list of texts and numbers, or an error.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

# What NumPy 1 and 2 write for an array of objects (protocols 3 to 5), with the class that stands for it.
PLAIN = (str, bytes, int, float, bool, type(None))


class _Inert:
    """Stands for an array or a data type while a pickle is read."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _array(*_: object) -> _Inert:
    return _Inert()


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _Inert,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return NAMES[module, name]
        except KeyError:
            raise ValueError(f"it holds a Python object of the type {module}.{name}, which is never loaded") from None


def read_object_array(data: bytes) -> list[str | bytes | int | float | bool | None]:
    """Return the entries of an array of objects (n,) from the bytes after the header of its .npy file.

    Raises ValueError if the bytes hold anything but an array of texts and numbers.
    """
    array = _InertUnpickler(io.BytesIO(data)).load()
    match array.state if isinstance(array, _Inert) else None:
        case (_, (int(length),), _, _, list(entries)) if len(entries) == length:
            pass
        case _:
            raise ValueError("it holds objects that are no array (n,)")
    if strange := next((entry for entry in entries if type(entry) not in PLAIN), None):
        raise ValueError(f"it holds a Python object of the type {type(strange).__name__}; wanted texts or numbers")
    return entries
