"""Where checkpoints are found: folders, the Hugging Face cache, revisions of a repository on the hub."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.checkpoints import save_checkpoint, save_with_processor
from helpers.extraction import extracted
from helpers.hostile import edit
from helpers.hub import HUB_ID, put_into_cache, running_hub
from helpers.stores import INFO

from classifiers import Task, load_model
from classifiers.inference.model import load_head_and_encoders
from classifiers.workflows.configurations import ComparisonConfig
from classifiers.workflows.fitting import fit_model
from embedcache import Artifacts, EmbeddingStore, EncoderError, ModelError, UnknownName, load_encoder
from embedcache.cache.store import find_stores, store_folders
from embedcache.encoders._lazy import LazyEncoder
from embedcache.encoders.contamination import known_training, published, saw
from embedcache.encoders.hub import is_cached, local_files, name_of, without_revision
from embedcache.files import stamps
from embedcache.finetune.job import open_base

FIRST, SECOND = "a" * 40, "b" * 40  # commits
BRANCH = "refs/pr/1"  # a name with slashes, as the hub gives them to proposed changes


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another network than `checkpoint`, of the same size."""
    return save_checkpoint(tmp_path_factory.mktemp("other") / "other", layer_norm_eps=1e-4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def revisions(cache: Path, checkpoint: Path, other: Path) -> Path:
    """A cache with two commits of `some/tiny`: the first is `main`, the second `v1` and a branch."""
    put_into_cache(cache, checkpoint, FIRST, "main")
    put_into_cache(cache, other, SECOND, "v1", BRANCH)
    return cache


@pytest.fixture
def hub(checkpoint: Path, other: Path) -> Iterator[str]:
    with running_hub({FIRST: checkpoint, SECOND: other}, {"main": FIRST, "v1": SECOND, BRANCH: SECOND}) as url:
        yield url


def test_a_cache_without_preprocessor_config_is_used_offline(cache: Path, checkpoint: Path, tmp_path: Path) -> None:
    saved = save_with_processor(checkpoint, tmp_path / "tiny", do_normalize=False, sampling_rate=8_000)
    put_into_cache(cache, saved, FIRST, "main")
    assert is_cached(HUB_ID)
    encoder = load_encoder(HUB_ID)
    assert (encoder.info.name, encoder.info.checkpoint, encoder.info.sample_rate) == ("tiny", HUB_ID, 8_000)
    assert encoder.info.fingerprint == load_encoder(str(saved)).info.fingerprint
    assert {path.name for path in local_files(HUB_ID)} == {path.name for path in saved.iterdir()}


@pytest.mark.parametrize("settings", [{}, {"processor_class": "Wav2Vec2Processor"}])
def test_a_cache_without_the_feature_extractors_settings_is_not_whole(
    cache: Path, checkpoint: Path, tmp_path: Path, settings: dict
) -> None:
    """A download that was interrupted: the file that lacks is asked for, not replaced by defaults."""
    saved = save_with_processor(checkpoint, tmp_path / "tiny")
    edit(saved / "processor_config.json", lambda content: (content.clear(), content.update(settings)))
    put_into_cache(cache, saved, FIRST, "main")
    assert not is_cached(HUB_ID)
    with pytest.raises(EncoderError, match=f"{HUB_ID}: not in the cache {cache}, and .* cannot be reached"):
        load_encoder(HUB_ID)


def test_a_cache_is_used_by_a_process_that_is_offline(ser, checkpoint: Path, tree: Path, tmp_path: Path) -> None:
    put_into_cache(tmp_path / "hf" / "hub", save_with_processor(checkpoint, tmp_path / "tiny"), FIRST, "main", "v1")
    world = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = ser("extract", "--dataset", "ravdess", "--root", tree, "--encoder", f"{HUB_ID}@v1", env=world)
    assert (done.returncode, "encoded now: 24" in done.stdout) == (0, True), done.stderr
    assert "tiny@v1" in done.stdout


@pytest.mark.parametrize("revision", ["v1", BRANCH, SECOND])
def test_a_revision_is_loaded_under_the_name_that_was_asked_for(revisions: Path, other: Path, revision: str) -> None:
    plain, named = load_encoder(HUB_ID), load_encoder(f"{HUB_ID}@{revision}")
    assert (plain.info.name, plain.info.checkpoint) == ("tiny", HUB_ID)
    assert named.info.name == f"tiny@{revision.replace('/', '-')}"
    assert named.info.checkpoint == f"{HUB_ID}@{revision}"
    assert named.info.fingerprint == load_encoder(str(other)).info.fingerprint != plain.info.fingerprint
    assert open_base(f"{HUB_ID}@{revision}").info == named.info
    assert load_encoder(f"{HUB_ID}@main").info.fingerprint == plain.info.fingerprint


def test_revisions_never_share_a_store(revisions: Path, tree: Path, tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "artifacts")
    names = [HUB_ID, f"{HUB_ID}@v1", f"{HUB_ID}@{BRANCH}"]
    for name in names:
        extracted(tree, place.root, encoder=name)
    assert [folder.name.rpartition("-")[0] for folder in store_folders(place.cache)] == [
        "tiny",
        "tiny-refs-pr-1",
        "tiny-v1",
    ]
    for name in names:
        (store,) = find_stores(place.cache, name)
        assert store.info.checkpoint == name
        assert find_stores(place.cache, name_of(name))[0].folder == store.folder
        assert Task.load("ravdess", name_of(name), artifacts=place.root).encoder == name_of(name)
    with pytest.raises(UnknownName, match=rf"Run `ser extract --encoder {HUB_ID}@v2` first"):
        find_stores(place.cache, f"{HUB_ID}@v2")


def test_a_branch_that_moved_has_a_store_of_its_own(
    cache: Path, checkpoint: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts about encoders that are remembered are not those of the commit before."""
    monkeypatch.setattr(stamps, "GRAIN_NS", 0)
    memory, stores = tmp_path / "encoders.json", []
    for commit, folder in ((FIRST, checkpoint), (SECOND, other)):
        put_into_cache(cache, folder, commit, "main")
        info = load_encoder(f"{HUB_ID}@main", memory=memory).info
        stores.append(EmbeddingStore.of(tmp_path / "cache", info).folder)
    assert stores[0] != stores[1]
    assert isinstance(load_encoder(f"{HUB_ID}@main", memory=memory), LazyEncoder)


def test_revisions_that_cannot_be_loaded(revisions: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"^{HUB_ID}@v2: not in the cache .*, and .* cannot be reached"):
        load_encoder(f"{HUB_ID}@v2")
    for revision in ("", "../..", "a b", "/v1", "v1/", "@v1"):
        with pytest.raises(EncoderError, match=rf"got the revision '{revision}'; wanted .* Use {HUB_ID}@main, or"):
            load_encoder(f"{HUB_ID}@{revision}")
    folder = shutil.copytree(checkpoint, tmp_path / "tiny")
    for revision in ("v1", ""):
        with pytest.raises(EncoderError, match=f"no such folder here; {folder} is a folder, which has no revisions"):
            load_encoder(f"{folder}@{revision}")
        with pytest.raises(EncoderError, match="which has no revisions"):
            open_base(f"{folder}@{revision}")


def test_a_revision_of_a_folder_is_refused_without_slashes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, "tiny")
    with pytest.raises(EncoderError, match="^tiny@v1: no such folder here; tiny is a folder, which has no revisions"):
        load_encoder("tiny@v1")


def test_a_folder_may_have_an_at_in_its_name(
    checkpoint: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "me@home" / "tiny@v1")
    shutil.copytree(checkpoint, tmp_path / "me@home" / "tiny")  # a folder of that name without the @ does not matter
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "tiny@v1"):
        info = load_encoder(name).info
        assert (info.name, info.checkpoint) == ("tiny@v1", str(folder.resolve()))
        assert open_base(name).info.checkpoint == info.checkpoint
    extracted(tree, tmp_path / "artifacts", encoder="tiny@v1")
    for name in (str(folder), "tiny@v1"):
        assert len(find_stores(Artifacts(tmp_path / "artifacts").cache, name)) == 1


def test_a_revision_is_downloaded_and_then_used_offline(
    hub: str, cache: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub + "/{repo_id}/resolve/{revision}/{filename}")
    names = [f"{HUB_ID}@{revision}" for revision in ("v1", BRANCH, SECOND[:7], SECOND)]
    wanted = load_encoder(str(other)).info.fingerprint
    assert [load_encoder(name).info.fingerprint for name in names] == [wanted] * 4
    assert load_encoder(HUB_ID).info.fingerprint != wanted
    for revision in ("v2", "c" * 40):
        unknown = f"^{HUB_ID}@{revision}: {HUB_ID} has no branch, tag or commit '{revision}' on the hub. Use another"
        with pytest.raises(EncoderError, match=unknown):
            load_encoder(f"{HUB_ID}@{revision}")
    with pytest.raises(EncoderError, match="^some/other@v1: no such checkpoint on the hub"):
        load_encoder("some/other@v1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [load_encoder(name).info.fingerprint for name in names] == [wanted] * 4


def test_every_revision_has_the_training_of_its_checkpoint() -> None:
    name, line = next((name, line) for name, line in published().items() if line.saw == ("ravdess",))
    assert saw(f"{name}@{BRANCH}") == line.text == "ravdess"
    of_checkpoint, of_revision = (known_training(replace(INFO, checkpoint=c)) for c in (name, f"{name}@{BRANCH}"))
    assert of_checkpoint == of_revision != known_training(replace(INFO, checkpoint="nobody/knows"))
    assert without_revision("/data/me@home/tiny") == "/data/me@home/tiny"


def test_a_saved_head_loads_the_revision_that_it_was_fitted_on(revisions: Path, tree: Path, tmp_path: Path) -> None:
    name = f"{HUB_ID}@{BRANCH}"
    extracted(tree, tmp_path / "artifacts", encoder=name)
    config = ComparisonConfig(datasets=("ravdess",), heads=("logreg",), folds=2)
    folder, card, _ = fit_model(Artifacts(tmp_path / "artifacts"), config, jobs=1)
    assert (card.encoder, card.checkpoint) == (name_of(name), name)
    assert [encoder.info.checkpoint for encoder in load_head_and_encoders(folder, "cpu")[2]] == [name]
    edit(folder / "model.json", lambda content: content.update(checkpoint=f"{HUB_ID}@../x"))
    with pytest.raises(ModelError, match="wanted a hub id or the absolute path of a folder"):
        load_model(folder)
