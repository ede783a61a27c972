"""Names: found by folder, suggested when misspelt, extended by entry points."""

from importlib.metadata import EntryPoint

import pytest

from classifiers import heads
from embedcache import ConfigError, UnknownName, datasets, encoders
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
    assert str(error.value).startswith("no encoder 'hubrt'; have hubert-base, ")
    assert "(did you mean 'hubert-base'?). A folder or a hub id works too." in str(error.value)


def test_third_parties_add_names_and_cannot_take_them_over(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, "embedcache.datasets.folder:dataset", "ser.datasets") for name in ("mine", "ravdess")]
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: points if group == "ser.datasets" else [])
    own: Registry[Dataset] = Registry("dataset", "embedcache.datasets")
    assert own.get("mine").name == "folder"
    assert own.get("ravdess").title == "RAVDESS, speech"
    assert own.names().count("ravdess") == 1
    assert len(own.all()) == len(own.names())


@pytest.mark.parametrize("value", ["no_such_module_of_ser:x", "embedcache.datasets.folder:x"])
def test_an_entry_point_that_cannot_be_imported_is_an_error_of_its_package(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    point = EntryPoint("mine", value, "ser.datasets")
    monkeypatch.setattr("embedcache.registry.entry_points", lambda group: [point])
    own: Registry[Dataset] = Registry("dataset", "embedcache.datasets")
    for use in (own.all, lambda: own.get("mine")):
        with pytest.raises(ConfigError, match=f"'mine' in the group ser.datasets cannot be imported from {value}: "):
            use()
    assert own.get("ravdess").name == "ravdess"
