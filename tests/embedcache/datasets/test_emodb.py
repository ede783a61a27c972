"""All of EMO-DB, where it is: counts as published, and folds that test each speaker once."""

from collections import Counter

from helpers.places import EMODB, needs_emodb

from embedcache import audit, datasets

COUNTS = {"angry": 127, "boredom": 81, "neutral": 79, "happy": 71, "fear": 69, "sad": 62, "disgust": 46}


@needs_emodb
def test_all_of_emodb_is_read_as_it_was_published() -> None:
    spec = datasets.get("emodb")
    manifest = spec.manifest(EMODB)
    assert len(manifest) == spec.n_clips == 535
    assert Counter(clip.label for clip in manifest.clips) == COUNTS
    assert Counter(clip.gender for clip in manifest.clips) == {"male": 233, "female": 302}
    speakers = {clip.speaker for clip in manifest.clips}
    assert speakers == {"03", "08", "09", "10", "11", "12", "13", "14", "15", "16"}
    tested = [speaker for fold in spec.official_folds for speaker in fold]
    assert sorted(tested) == sorted(speakers)


@needs_emodb
def test_an_audit_of_emodb_finds_no_fault() -> None:
    found = audit(datasets.get("emodb"), EMODB)
    assert (found.clips, found.faults) == (535, ())
