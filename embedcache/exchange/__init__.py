"""Vectors from and for other programs: files of vectors read and written, imported into a cache and exported from it.

May import: `embedcache.cache`, `embedcache.encoders` and what these import.
"""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".npz", ".npy", ".parquet", ".pq", ".csv", ".tsv")  # endings of files of vectors


def is_vector_file(path: str | Path) -> bool:
    """Whether a file is one of vectors by its ending."""
    return Path(path).suffix.lower() in SUFFIXES
