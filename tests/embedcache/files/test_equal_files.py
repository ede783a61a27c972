"""Files that are equal, byte for byte."""

import os
from pathlib import Path

from embedcache.files.equal_files import BLOCK, equal_files


def test_each_copy_is_named_with_the_first_of_its_kind(tmp_path: Path) -> None:
    """Files of one size that differ before or behind the middle alone, links, and what is no file, are told apart."""
    zeros = bytes(4 * BLOCK)
    contents = {"a": zeros, "b": b"1" + zeros[1:], "c": zeros[1:] + b"1", "d": zeros, "e": b"1" + zeros[1:], "f": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("c")
    os.mkfifo(tmp_path / "pipe")
    names = [*contents, "link", "pipe", "absent"]
    found = equal_files(str(tmp_path / name) for name in names)
    assert [(Path(path).name, Path(first).name) for path, first in found] == [("d", "a"), ("e", "b"), ("link", "c")]
