"""What commands do if the path that they write exists: one policy for all, see `embedcache/files/existing.py`."""

from pathlib import Path

import pytest
from helpers.permissions import nobody, public_folder
from helpers.places import Ser

from classifiers.export.onnx_export import export_onnx
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, SerError
from embedcache.files.existing import begins_with, check_replaceable, check_writable, ends_with

# Commands that write what can be written again, each with the name of the file.
WRITERS = {
    "board.csv": ("leaderboard", "--csv"),
    "page.html": ("report", "--no-audio", "--out"),
    "folds.csv": ("protocols", "--folds", "2", "--write"),
    "vectors.npz": ("cache", "export"),
}


@pytest.fixture
def run(artifacts: Artifacts) -> Path:
    return run_comparison(artifacts, ComparisonConfig(heads=("ridge",), folds=2), jobs=1)[0]


@pytest.mark.parametrize("name", WRITERS)
def test_what_ser_wrote_is_replaced_and_anything_else_stays(name: str, run: Path, ser: Ser, tmp_path: Path) -> None:
    first, again = (ser(*WRITERS[name], name) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert "replaces" not in first.stderr
    assert f"note: replaces {name}, which ser wrote." in again.stderr
    (tmp_path / name).write_text("somebody's own file")
    refused = ser(*WRITERS[name], name)
    assert refused.returncode in (1, 2)
    assert f"error: {name} exists already. ser did not write it, so it stays. Choose another " in refused.stderr
    assert (tmp_path / name).read_text() == "somebody's own file"


def test_what_was_learned_is_not_replaced(artifacts: Artifacts, ser: Ser, tmp_path: Path) -> None:
    """Without a name it gets a new one; runs always do."""
    models = [ser("fit", "--head", "ridge", "--folds", "2").stdout.split("model: ")[1].split(",")[0] for _ in range(2)]
    assert len(set(models)) == 2
    assert len(list(artifacts.runs.iterdir())) == 2
    refused = ser("fit", "--head", "ridge", "--folds", "2", "--out", models[0])
    assert refused.returncode == 1
    assert f"{models[0]} exists already. Choose another folder with --out, or remove it." in refused.stderr
    assert len(list(artifacts.runs.iterdir())) == 2  # nothing was fitted


def test_a_dead_link_and_a_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for path in tmp_path.iterdir():
        for is_own in (begins_with(b""), ends_with(b"x")):
            with pytest.raises(SerError, match="exists already. ser did not write it"):
                check_replaceable(path, is_own, print, SerError, "--out")
    check_replaceable(tmp_path / "new", begins_with(b"x"), print, SerError, "--out")


def test_what_could_not_be_written_is_not_fitted(artifacts: Artifacts, tmp_path: Path) -> None:
    config = ComparisonConfig(heads=("ridge",), folds=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(SerError, match="file cannot be written: .*Make room, or choose another folder with --art"):
        fit_model(artifacts, config, tmp_path / "file" / "model", jobs=1)
    assert not artifacts.runs.exists()
    artifacts.runs.write_text("")
    for work in (run_comparison, fit_model):
        with pytest.raises(SerError, match="runs cannot be written: "):
            work(artifacts, config, jobs=1)


def test_a_folder_without_the_right_to_write_cannot_be_written() -> None:
    with public_folder() as place:
        (place / "open").mkdir()
        (place / "open").chmod(0o777)
        with nobody():
            check_writable(place / "open" / "a" / "b", SerError, "")
            with pytest.raises(SerError, match="a/b cannot be written: Permission denied"):
                check_writable(place / "a" / "b", SerError, "")
        assert not list((place / "open").iterdir())


def test_what_a_link_leads_to_is_replaced(artifacts: Artifacts, tmp_path: Path) -> None:
    model, _, _ = fit_model(artifacts, ComparisonConfig(heads=("ridge",), folds=2), jobs=1)
    export_onnx(model, out=tmp_path / "there" / "onnx")
    link, lines = tmp_path / "link", list[str]()
    link.symlink_to(tmp_path / "there" / "onnx")
    before = (tmp_path / "there" / "onnx" / "model.json").stat().st_ino
    export_onnx(model, out=link, log=lines.append)
    assert lines == [f"note: replaces {link}, which ser wrote."]
    assert link.is_symlink()
    assert (tmp_path / "there" / "onnx" / "model.json").stat().st_ino != before
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["onnx"]
    assert not list(tmp_path.glob(".link*"))
