"""Vectors from elsewhere: compared on the clips that have them, and predicted from files of such vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifiers import Predictor, Task
from classifiers.inference.model import load_models
from classifiers.inference.vector_predictions import VectorPredictor
from classifiers.workflows.comparison import run_comparison
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, DataError, Manifest, ModelError, StoreError, find_stores
from embedcache.exchange.export_vectors import export
from embedcache.exchange.import_vectors import import_vectors

ONE = ComparisonConfig(datasets=("ravdess",), heads=("ridge",), folds=2)


def listed(place: Artifacts) -> Manifest:
    return Manifest.from_csv(place.manifest("ravdess"))


def import_some(place: Artifacts, clips: slice, encoder: str = "theirs") -> None:
    """Import vectors of some of the clips: those of mfcc, turned round."""
    chosen = listed(place).clips[clips]
    (mfcc,) = find_stores(place.cache, "mfcc")
    vectors = mfcc.read([clip.key for clip in chosen], "pooled")[:, ::-1]
    np.savez(place.root / "x.npz", clip_id=[clip.clip_id for clip in chosen], pooled=vectors)
    import_vectors(place.root / "x.npz", place, encoder, "ravdess")


def test_imported_vectors_of_some_clips_are_compared_on_these(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(18))
    said: list[str] = []
    _, (p,) = run_comparison(artifacts, replace(ONE, encoders=("theirs",)), jobs=1, log=said.append)
    names = [clip.clip_id for clip in listed(artifacts).clips]
    assert sorted(p.clip_ids.tolist()) == sorted(names[:18])
    assert sorted(p.skipped) == sorted(names[18:])
    assert "note: 18 of 24 clips have imported vectors; the others are left out." in said
    assert len(Task.load("ravdess", "theirs", "pooled", artifacts)) == 18


def test_encoders_are_compared_on_the_clips_that_both_have(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(18))
    import_some(artifacts, slice(4, 24), "others")
    config = replace(ONE, encoders=("mfcc", "theirs", "others"))
    _, predictions = run_comparison(artifacts, config, jobs=1)
    assert {p.encoder for p in predictions} == {"mfcc", "theirs", "others"}
    for p in predictions:
        assert p.clip_ids.tolist() == predictions[0].clip_ids.tolist()
        assert (len(p.clip_ids), len(p.skipped)) == (14, 10)


def test_encoders_without_a_common_clip_are_not_compared(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(12))
    import_some(artifacts, slice(12, 24), "others")
    with pytest.raises(DataError, match="no clip has vectors of all these encoders"):
        run_comparison(artifacts, replace(ONE, encoders=("theirs", "others")), jobs=1)


def test_a_view_that_was_not_imported_cannot_be_extracted(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(18))
    with pytest.raises(DataError, match="These vectors were imported. Import a file that holds what is missing."):
        Task.load("ravdess", "theirs", "std", artifacts)


def test_a_dataset_without_imported_vectors_is_named(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(24))
    vectors = np.load(artifacts.root / "x.npz")["pooled"]
    np.savez(artifacts.root / "y.npz", X=vectors, y=["sad", "happy"] * 12, speaker=list("abcd") * 6)
    import_vectors(artifacts.root / "y.npz", artifacts, "others", "new")
    with pytest.raises(DataError, match="new: no clip has vectors of theirs; they were imported for others"):
        Task.load(["new", "ravdess"], "theirs", "pooled", artifacts)


def test_by_default_whole_encoders_are_compared_and_others_are_named(artifacts: Artifacts) -> None:
    import_some(artifacts, slice(18))
    said: list[str] = []
    _, predictions = run_comparison(artifacts, ONE, jobs=1, log=said.append)
    assert [p.encoder for p in predictions] == ["mfcc"]
    assert any("has 18 of the 24 clips of ravdess, and is left out" in line for line in said)


def test_an_extraction_that_was_stopped_is_not_compared(artifacts: Artifacts) -> None:
    """Its vectors can be completed, unlike those of an import."""
    (store,) = find_stores(artifacts.cache, "mfcc")
    (shard,) = store.folder.glob("*.h5")
    keys = [clip.key for clip in listed(artifacts).clips]
    kept = {view: store.rows(keys[:18], view) for view in ("pooled", "layers")}
    shard.unlink()
    type(store).of(artifacts.cache, store.info).write(keys[:18], kept)
    with pytest.raises(DataError, match="no encoder has pooled of all 24 clips"):
        Task.load("ravdess", "mfcc", "pooled", artifacts)


@pytest.fixture
def theirs(artifacts: Artifacts) -> tuple[Artifacts, Path]:
    """A model of imported vectors, and the file of these vectors."""
    import_some(artifacts, slice(24))
    model, card, _ = fit_model(artifacts, replace(ONE, encoders=("theirs",), heads=("knn",)), jobs=1)
    assert card.is_of_imported
    return artifacts, model


def test_a_model_of_imported_vectors_predicts_files_of_them(theirs: tuple[Artifacts, Path]) -> None:
    place, folder = theirs
    predictor = VectorPredictor.load(folder)
    predictions = list(predictor.predict(place.root / "x.npz"))
    task = Task.load("ravdess", "theirs", "pooled", place)
    assert [p.path for p in predictions] == task.ids.tolist()
    wanted = predictor.head.predict_proba(task.X)
    found = [[p.probabilities[label] for label in predictor.labels] for p in predictions]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert [p.label for p in predictions] == [predictor.labels[row.argmax()] for row in wanted]


def test_vectors_of_which_a_head_is_not_sure_get_no_label(theirs: tuple[Artifacts, Path]) -> None:
    place, folder = theirs
    vectors = np.load(place.root / "x.npz")["pooled"]
    np.savez(place.root / "between.npz", pooled=(vectors + vectors[::-1]) / 2)
    predictor = VectorPredictor.load(folder)
    confidences = [p.confidence for p in predictor.predict(place.root / "between.npz")]
    bound = float(np.median(confidences))
    assert min(confidences) < bound < 1
    unsure = list(predictor.predict(place.root / "between.npz", abstain_below=bound))
    assert [p.label is None for p in unsure] == [confidence < bound for confidence in confidences]


def test_a_model_of_imported_vectors_says_what_it_reads(theirs: tuple[Artifacts, Path]) -> None:
    with pytest.raises(ModelError, match=r"fitted on imported vectors of 'theirs'.*Use `ser predict .* VECTORS.npz`"):
        load_models([theirs[1]])


def test_vectors_of_another_shape_are_refused(theirs: tuple[Artifacts, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", pooled=np.ones((2, 5)))
    with pytest.raises(ModelError, match=r"y.npz: has vectors of 1 layers and 5 numbers; 'theirs', .* has 1 and"):
        list(VectorPredictor.load(theirs[1]).predict(tmp_path / "y.npz"))


def test_vectors_that_are_not_finite_are_refused(theirs: tuple[Artifacts, Path], tmp_path: Path) -> None:
    with np.load(theirs[0].root / "x.npz") as file:
        np.savez(tmp_path / "y.npz", pooled=file["pooled"] * np.nan)
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        list(VectorPredictor.load(theirs[1]).predict(tmp_path / "y.npz"))


def test_a_model_of_an_encoder_here_predicts_what_was_exported(artifacts: Artifacts, tmp_path: Path) -> None:
    folder, _, _ = fit_model(artifacts, replace(ONE, encoders=("mfcc",)), jobs=1)
    (store,) = find_stores(artifacts.cache, "mfcc")
    export(store, listed(artifacts), tmp_path / "y.npz")
    found = list(VectorPredictor.load(folder).predict(tmp_path / "y.npz"))
    heard = Predictor.load(folder).predict([clip.path for clip in listed(artifacts).clips])
    for one, other in zip(found, heard, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    with np.load(tmp_path / "y.npz") as file:
        np.savez(tmp_path / "bare.npz", pooled=file["pooled"])
    with pytest.raises(ModelError, match="does not say which encoder made its vectors"):
        list(VectorPredictor.load(folder).predict(tmp_path / "bare.npz"))
    with pytest.raises(StoreError, match="cannot be read"):
        list(VectorPredictor.load(folder).predict(tmp_path / "none.npz"))


def test_vectors_that_were_exported_and_imported_are_those_of_the_model(artifacts: Artifacts) -> None:
    (store,) = find_stores(artifacts.cache, "mfcc")
    export(store, listed(artifacts), artifacts.root / "y.npz")
    import_vectors(artifacts.root / "y.npz", artifacts, "theirs", "new")
    config = replace(ONE, datasets=("new",), encoders=("theirs",))
    folder, _, _ = fit_model(artifacts, config, jobs=1)
    assert len(list(VectorPredictor.load(folder).predict(artifacts.root / "y.npz"))) == 24


def test_vectors_of_another_encoder_are_refused(theirs: tuple[Artifacts, Path], tmp_path: Path) -> None:
    place, folder = theirs
    (store,) = find_stores(place.cache, "mfcc")
    export(store, listed(place), tmp_path / "y.npz")
    with pytest.raises(ModelError, match=r"has vectors of 'mfcc' .*; the head reads those of 'theirs'"):
        list(VectorPredictor.load(folder).predict(tmp_path / "y.npz"))
