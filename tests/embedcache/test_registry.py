"""Names: found by folder, suggested when misspelt, extended by entry points."""

from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from classifiers import heads, metrics
from embedcache import PluginError, UnknownName, datasets, encoders
from embedcache.dataset import Dataset
from embedcache.registry import Registry


@pytest.mark.parametrize(
    ("registry", "some"), [(datasets, "ravdess-song"), (encoders, "wav2vec2-base-untrained"), (heads, "layer_weighted")]
)
def test_every_name_is_found_under_itself(registry: Registry, some: str) -> None:
    assert some in registry.names()
    assert [registry.get(name).name for name in registry.names()] == registry.names()
    assert len(set(registry.names())) == len(registry.names())


def test_an_unknown_name_lists_the_known_and_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName) as error:
        encoders.get("hubrt")
    assert str(error.value).startswith("no encoder 'hubrt'; have ast, compare, data2vec-audio-base, ")
    assert "(did you mean 'hubert-base'?). A folder or a hub id works too." in str(error.value)


def test_third_parties_add_names_and_cannot_take_them_over(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, "embedcache.datasets.folder:dataset", "ser.datasets") for name in ("mine", "ravdess")]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: points if group == "ser.datasets" else [])
    own: Registry[Dataset] = Registry("dataset", "embedcache.datasets")
    assert own.get("mine").name == "folder"
    assert own.get("ravdess").title == "RAVDESS, speech"
    assert own.names().count("ravdess") == 1
    assert len(own.all()) == len(own.names())


@pytest.mark.parametrize("registry", [datasets, encoders, heads, metrics])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_package.heads:head", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("embedcache.datasets.folder:nothing", "AttributeError: module 'embedcache.datasets.folder' has no attribute"),
        ("json", "got a module, wanted a "),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_harms_only_who_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], registry: ModuleType, value: str, said: str
) -> None:
    before = [spec.name for spec in registry.all()]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: [EntryPoint("broken", value, group)])
    assert [spec.name for spec in registry.all()] == before
    assert "broken" in registry.names()
    assert registry.get(before[0]).name == before[0]
    with pytest.raises(PluginError) as error:
        registry.get("broken")
    kind = registry.__name__.rpartition(".")[2].removesuffix("s")
    assert str(error.value).startswith(f"the plug-in {kind} 'broken' ({value}) cannot be used: {said}")
    assert "\n" not in str(error.value)
    registry.all()
    assert capsys.readouterr().err == f"note: {error.value}\n"


def test_two_entry_points_of_one_name_are_not_guessed_between(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ("classifiers.heads.knn:head", "classifiers.heads.lda:head", "classifiers.heads.knn:head")
    monkeypatch.setattr(
        "embedcache.registry.entry_points", lambda group: [EntryPoint("mine", v, group) for v in values]
    )
    with pytest.raises(PluginError, match=r"'mine' \(classifiers.heads.knn:head\) .*: classifiers.heads.lda:head has"):
        heads.get("mine")
    monkeypatch.setattr(
        "embedcache.registry.entry_points", lambda group: [EntryPoint("mine", values[n], group) for n in (0, 2)]
    )
    assert heads.get("mine").name == "knn"
    assert len(heads.all()) == len(heads.names())
