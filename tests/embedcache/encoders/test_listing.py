"""What `ser encoders` lists: built-in checkpoints, families and their engines, and what licences forbid."""

from pathlib import Path

import pytest
from helpers.hub import put_into_cache

from embedcache import encoders, load_encoder
from embedcache.encoders.contamination import published
from embedcache.encoders.engine.families import FAMILIES
from embedcache.encoders.huggingface import TERMS
from embedcache.encoders.huggingface import encoder as built_in
from embedcache.encoders.listing import ENGINES, engine_of, families_text, list_encoders


def test_the_families_of_the_packed_engine_are_those_that_it_computes() -> None:
    assert set(ENGINES["packed"]) == set(FAMILIES)
    assert not set(ENGINES["packed"]) & set(ENGINES["transformers"])


def test_transformers_knows_every_family() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert {family for families in ENGINES.values() for family in families} <= set(CONFIG_MAPPING_NAMES)


def test_every_checkpoint_has_a_family_a_name_of_its_own_and_a_line_in_the_list_of_training_data() -> None:
    assert {engine_of(spec.family) for spec in built_in} == {"packed", "transformers"}
    hub = [spec for spec in built_in if spec.checkpoint]
    assert len({spec.checkpoint for spec in hub}) == len({spec.name for spec in hub}) == len(hub)
    assert {spec.checkpoint for spec in hub} <= set(published())
    assert all(spec.about and spec.licence for spec in hub)
    rows = {name: engine for name, _, _, _, engine, _ in list_encoders()[1]}
    assert (rows["wavlm-large"], rows["w2v-bert-2.0"], rows["mfcc"]) == ("packed", "transformers", "its own")


def test_the_families_fit_on_a_narrow_terminal() -> None:
    assert max(map(len, families_text().splitlines())) <= 80
    assert all(name in " ".join(families_text().split()) for names in ENGINES.values() for name in names.values())


@pytest.mark.parametrize("name", ["facebook/mms-300m", "facebook/mms-300m@main", "mms-300m"])
@pytest.mark.parametrize("remembered", [False, True])
def test_what_a_licence_forbids_is_said_when_an_encoder_is_loaded(
    name: str, remembered: bool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    put_into_cache(tmp_path / "hub", checkpoint, "a" * 40, "main", hub_id="facebook/mms-300m")
    heard: list[str] = []
    load_encoder(name, log=heard.append, memory=tmp_path / "memory.json" if remembered else None)
    assert heard == [f"note: {name}: {TERMS['CC-BY-NC-4.0']}"]
    assert [spec.name for spec in encoders.all() if spec.terms and spec.checkpoint] == ["mms-300m"]
