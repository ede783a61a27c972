"""Tables and manifests from a stranger: no path leads out, no size is believed."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.hostile import GIB, sparse
from helpers.sounds import noise, write

from classifiers import (
    Task,
)
from embedcache import Artifacts, DataError, Manifest, add_keys, datasets


def table(path: Path, *paths: str) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *((p, "sad", "ann") for p in paths)])
    return path


@pytest.mark.parametrize(
    "path", ["../secret.wav", "a/../../secret.wav", "/etc/passwd", "/dev/zero", "/", "..", ".", "deep/../../secret.wav"]
)
def test_a_table_names_no_file_outside_its_folder(tmp_path: Path, path: str) -> None:
    write(tmp_path / "secret.wav", noise(0.1))
    write(tmp_path / "mine" / "1.wav", noise(0.1))
    listed = table(tmp_path / "mine" / "my.csv", "1.wav", path)
    with pytest.raises(DataError, match=r"(?s)row 3: .* is outside .*The table must lie in the folder") as error:
        datasets.get("folder").manifest(listed)
    assert "row 2" not in str(error.value)


def test_a_table_names_files_inside_its_folder_in_any_way(tmp_path: Path) -> None:
    """Links are the doing of who has the folder, not of who wrote the table; a step back behind one is the table's."""
    place = tmp_path / "mine"
    write(tmp_path / "elsewhere" / "deep" / "2.wav", noise(0.1))
    write(tmp_path / "elsewhere" / "secret.wav", noise(0.1))
    for name in "abcd":
        write(place / "a" / f"{name}.wav", noise(0.1))
    (place / "linked").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "alias").symlink_to(place)
    ways = ["a/a.wav", "./a/../a/b.wav", str(place / "a" / "c.wav"), str(tmp_path / "alias" / "a" / "d.wav")]
    clips = datasets.get("folder").manifest(table(place / "my.csv", *ways, "linked/2.wav")).clips
    files = {str(place / "a" / f"{name}.wav") for name in "abcd"}
    assert {clip.path for clip in clips} == files | {str(tmp_path / "elsewhere" / "deep" / "2.wav")}
    with pytest.raises(DataError, match="row 2: linked/../secret.wav is outside"):
        datasets.get("folder").manifest(table(place / "my.csv", "linked/../secret.wav"))
    with pytest.raises(DataError, match="row 3: has the file of row 2"):
        datasets.get("folder").manifest(table(place / "my.csv", "a/a.wav", "./a/../a/a.wav"))


def test_links_in_a_circle_are_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "1.wav").symlink_to("2.wav")
    (tmp_path / "2.wav").symlink_to("1.wav")
    (clip,) = add_keys(datasets.get("folder").manifest(table(tmp_path / "my.csv", "1.wav"))).clips
    assert "cannot be read: Too many levels of symbolic links" in clip.extra["skipped"]


def wide(path: Path) -> None:
    """A header of 100,000 columns over 100,000 rows of one cell: 10 billion cells in 1 MB."""
    names = ",".join(f"c{n}" for n in range(100_000))
    path.write_text(f"path,label,speaker,{names}\n" + "x\n" * 100_000)


TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a NUL": (lambda p: table(p, "a\0b.wav"), "the path contains a NUL character"),
    "a cell of 100,000 characters": (
        lambda p: table(p, "a" * 100_000),
        "a cell has 100,000 characters; wanted at most 8,192",
    ),
    "a cell of 1 MB": (lambda p: table(p, "a" * 1_000_000), "field larger than field limit"),
    "a line that never ends": (lambda p: p.write_text('path,label,speaker\n"' + "x" * 1_000_000), "field larger"),
    "many columns": (wide, "row 2: 1 cell: x"),
    "a gigabyte": (lambda p: sparse(p, GIB), "has 1,073,741,824 bytes; wanted at most"),
    "no text": (lambda p: p.write_bytes(b"\xff\xfe\0"), "cannot be read as CSV"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_absurd_size_or_kind_is_refused(tmp_path: Path, name: str) -> None:
    make, said = TABLES[name]
    make(tmp_path / "my.csv")
    with pytest.raises(DataError, match=said):
        datasets.get("folder").scan(tmp_path / "my.csv")


COLUMNS = "dataset,clip_id,path,label,speaker,gender,key,seconds"


@pytest.mark.parametrize("name", ["../../x", "..", "/x", "a/b", "a\\b", "a\0b"])
def test_the_name_of_a_dataset_is_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text(f"{COLUMNS}\n{name},a,a.wav,l,s,,k,1\n")
    with pytest.raises(DataError, match="wanted a name without /"):
        Manifest.from_csv(tmp_path / "m.csv")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e400"])
def test_a_clip_lasts_a_number_of_seconds(tmp_path: Path, seconds: str) -> None:
    (tmp_path / "m.csv").write_text(f"{COLUMNS}\nd,a,a.wav,l,s,,k,{seconds}\n")
    with pytest.raises(DataError, match="wanted a duration in seconds"):
        Manifest.from_csv(tmp_path / "m.csv")


def test_the_paths_of_an_extracted_manifest_are_opened_by_nobody(artifacts: Artifacts, tree: Path) -> None:
    """They lead anywhere, for the recordings may lie anywhere; comparing needs vectors alone."""
    before = Task.load(artifacts=artifacts)
    path = artifacts.manifest("ravdess")
    rows = list(csv.DictReader(path.open(newline="")))
    pipe = tree / "pipe"
    os.mkfifo(pipe)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "path": str(pipe)} for row in rows)
    np.testing.assert_array_equal(Task.load(artifacts=artifacts).X, before.X)
