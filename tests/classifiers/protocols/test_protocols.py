"""Folds and the leak guard: a promise of disjoint speakers is kept or refused; what leaks is said."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from classifiers import Fold, Task, make_folds
from classifiers.protocols.catalogue import PROTOCOLS, check_folds, unknown_speakers_note
from classifiers.protocols.fold import fold_hash
from classifiers.protocols.leaks import leaks, trained_on_test_speakers
from classifiers.protocols.sharing import are_split
from embedcache import ProtocolError, UnknownName, datasets


def task(speakers: int = 6, labels: int = 3, takes: int = 4, **columns: object) -> Task:
    grid = [(f"s{s}", f"l{label}") for s in range(speakers) for label in range(labels) for _ in range(takes)]
    spoken, y = (np.array(column) for column in zip(*grid, strict=True))
    known = {"texts": np.array([f"sentence {n}" for n in range(len(y))]), "training_known": True}
    return Task(np.zeros((len(y), 2), np.float32), y, spoken, dataset="toy", **{**known, **columns})


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 8), st.integers(2, 4), st.integers(3, 5), st.integers(0, 3), st.sampled_from(sorted(PROTOCOLS)))
def test_folds_cover_every_clip_once_and_keep_their_promise(
    speakers: int, labels: int, takes: int, seed: int, protocol: str
) -> None:
    t = task(speakers, labels, takes)
    if PROTOCOLS[protocol].also_disjoint:
        return  # tested below
    given = ("official", "emo-superb", "published", "listed", "partition")
    if protocol in given or (protocol == "holdout" and len(t) < 10 * labels):
        return
    folds = make_folds(t, protocol, n_folds=2, seed=seed)
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    if protocol != "holdout":
        np.testing.assert_array_equal(tested, np.arange(len(t)))
    for fold in folds:
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == len(t)
        assert set(t.y[fold.test]) <= set(t.y[fold.train])
        if PROTOCOLS[protocol].disjoint_speakers:
            assert not set(t.speakers[fold.train]) & set(t.speakers[fold.test])


def test_loso_names_its_folds_after_the_speakers() -> None:
    assert [fold.name for fold in make_folds(task(3), "loso")] == ["s0", "s1", "s2"]


@pytest.mark.parametrize("protocol", ["random", "holdout"])
def test_identical_recordings_stay_on_one_side(protocol: str) -> None:
    t = task(10)
    keys = np.array([f"k{n // 2}" for n in range(len(t))])  # every two clips are one recording
    twins = replace(t, keys=keys)
    for seed in range(3):
        folds = make_folds(twins, protocol, n_folds=3, seed=seed)
        for fold in folds:
            assert not set(keys[fold.train]) & set(keys[fold.test])
            assert sorted([*fold.train, *fold.test]) == list(range(len(t)))
        assert leaks(twins, folds, protocol) == "speaker"


def published(name: str) -> Task:
    """A task with every clip that the published folds of a dataset test, and as many others."""
    clips = [clip for fold in datasets.get(name).published_folds() for clip in fold]
    ids = np.array([*clips, *(f"other{n}" for n in range(len(clips)))])
    y = np.array(["a", "b"])[np.arange(len(ids)) % 2]
    return Task(np.zeros((len(ids), 1), np.float32), y, np.full(len(ids), "s"), clip_ids=ids, dataset=name)


@pytest.mark.parametrize(("name", "folds"), [("tess", 1), ("cremad", 1), ("emodb", 5)])
def test_published_folds_by_clip_test_the_published_clips(name: str, folds: int) -> None:
    t = published(name)
    made = make_folds(t, "published")
    assert [sorted(t.ids[fold.test]) for fold in made] == [sorted(f) for f in datasets.get(name).published_folds()]
    assert len(made) == folds
    assert leaks(t, made, "published") == "speaker+text?+encoder?"
    with pytest.raises(ProtocolError, match="published folds of .* test 1 clip that the task lacks"):
        make_folds(t.take(np.arange(1, len(t))), "published")
    missing = replace(t.take(np.arange(1, len(t))), skipped=(str(t.ids[0]),))
    assert len(make_folds(missing, "published")) == folds  # it is known why


def test_published_folds_count_what_a_view_of_the_labels_leaves_out() -> None:
    t = published("emodb")
    gone = t.take(np.arange(20, len(t)))
    with pytest.raises(ProtocolError, match="test 20 clips that the task lacks"):
        make_folds(gone, "published")
    assert len(make_folds(replace(gone, dropped=tuple(t.ids[:20].tolist())), "published")) == 5
    first = datasets.get("emodb").published_folds()[0]
    kept = t.take(np.flatnonzero(~np.isin(t.ids, first)))
    with pytest.raises(ProtocolError, match="fold 1: no test clips"):
        make_folds(replace(kept, dropped=first), "published")


def test_folds_of_fewer_clips_than_folds_are_refused() -> None:
    with pytest.raises(ProtocolError, match="5 folds needs a label with 5 clips; no label of toy has more than 3"):
        make_folds(replace(task(6, 1, 1), y=np.array(list("aabbab"))), "speakers", n_folds=5)


def test_other_recordings_under_the_same_ids_have_another_hash() -> None:
    t = task()
    keys = np.array([f"k{n}" for n in range(len(t))])
    first, second = (fold_hash(replace(t, keys=np.char.add(keys, end)), make_folds(t)) for end in ("", "x"))
    assert first != second


def test_where_published_folds_are_by_speaker_official_is_the_word() -> None:
    known = "only for cremad, emodb, tess. Use --protocol"
    for name, advice in (
        ("ravdess", "official, with folds by speaker."),
        ("toy", "speakers."),
        ("iemocap-x", "speakers."),
    ):
        with pytest.raises(ProtocolError) as error:
            make_folds(replace(task(), dataset=name), "published")
        assert str(error.value) == f"no folds by clip are known for '{name}', {known} {advice}"


def test_holdout_is_the_split_of_published_scores() -> None:
    from sklearn.model_selection import train_test_split

    t = task(10)
    for seed in (0, 1):
        (fold,) = make_folds(t, "holdout", seed=seed)
        _, wanted = train_test_split(np.arange(len(t)), test_size=0.1, stratify=t.y, random_state=42 + seed)
        np.testing.assert_array_equal(fold.test, wanted)
        assert fold.name == "1"


def test_official_folds_of_ravdess_are_emobox_s() -> None:
    t = replace(task(24), dataset="ravdess")
    numbered = np.array([f"{int(s[1:]) + 1:02d}" for s in t.speakers])
    folds = make_folds(replace(t, speakers=numbered), "official")
    tested = [sorted(set(numbered[fold.test])) for fold in folds]
    assert tested == [list(fold) for fold in datasets.get("ravdess").official_folds]
    assert tested[0] == ["01", "11", "20", "21"]
    assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5", "6"]
    assert sorted(actor for fold in tested for actor in fold) == [f"{n:02d}" for n in range(1, 25)]


def test_official_folds_need_every_speaker_they_test() -> None:
    with pytest.raises(
        ProtocolError, match=r"no official folds are known for 'toy', only for cremad, emodb, esd, iemocap, ravdess"
    ):
        make_folds(task(), "official")
    with pytest.raises(
        ProtocolError, match=r"official fold 1 of ravdess tests the speakers 01, 11, 20, 21, who have no clips in"
    ):
        make_folds(replace(task(), dataset="ravdess"), "official")


def one_speaker_label() -> Task:
    t = task()
    return replace(t, y=np.where((t.speakers == "s1") & (t.y == "l2"), "rare", t.y))


@pytest.mark.parametrize(
    ("t", "protocol", "folds", "said"),
    [
        (
            task(3),
            "speakers",
            5,
            r"'speakers' with 5 folds needs 5 speakers; toy has 3 \(s0, s1, s2\).*, --folds 3",
        ),
        (task(1), "loso", 5, r"'loso' with 2 folds needs 2 speakers; toy has 1 \(s0\)"),
        (task(1), "speakers", 5, r"needs 5 speakers; toy has 1 \(s0\). Record more speakers. The last resort is"),
        (one_speaker_label(), "speakers", 2, r"fold \d: 'rare' has no training clip \(speakers: s1\)"),
        (one_speaker_label(), "loso", 2, r"fold s1: 'rare' has no training clip"),
        (task(4, labels=1), "speakers", 2, r"toy: got 1 label \(l0\); wanted at least two"),
        (task(2, 2, 1), "random", 5, r"'random' needs 5 clips of each label; 'l0' has 2"),
        (task(2, 3, 2), "holdout", 5, r"'holdout' tests a tenth of 12 clips, fewer than the 3 labels"),
    ],
)
def test_what_cannot_be_kept_is_refused(t: Task, protocol: str, folds: int, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        make_folds(t, protocol, folds)


def test_unknown_speakers_cannot_be_kept_apart() -> None:
    t = task()
    with pytest.raises(ProtocolError, match="needs the speaker of every clip; toy has clips without a speaker"):
        make_folds(replace(t, speakers=np.where(t.speakers == "s0", "", t.speakers)), "speakers")


def test_an_unknown_protocol() -> None:
    with pytest.raises(UnknownName, match=r"no protocol 'speeker'; have .* \(did you mean 'speakers'\?\)"):
        make_folds(task(), "speeker")


def test_a_broken_promise_is_an_error() -> None:
    t = task(2)
    folds = [Fold("1", np.arange(0, 20), np.arange(10, 24))]
    with pytest.raises(ProtocolError, match="fold 1: speakers s0, s1 are in training and test"):
        check_folds(t, folds, "official")
    check_folds(t, folds, "random")


def test_the_guard_finds_speakers_audio_and_text() -> None:
    t = task(4)
    folds = make_folds(t, "speakers", 2)
    assert leaks(t, folds, "speakers") == ""
    assert leaks(t, make_folds(t, "random", 2), "random") == "speaker"
    said = replace(t, texts=np.tile(["kids", "dogs"], len(t) // 2))
    assert leaks(said, folds, "speakers") == "text"
    across = [folds[0].train[0], folds[0].test[0]]
    keys = np.array([f"k{n}" for n in range(len(t))])
    keys[across] = "same"
    assert leaks(replace(said, keys=keys), folds, "speakers") == "audio+text"
    assert leaks(replace(t, keys=np.full(len(t), "")), folds, "speakers") == ""


def test_what_is_unknown_is_not_called_none() -> None:
    t = task(4)
    folds = make_folds(t, "speakers", 2)
    some = np.where(np.arange(len(t)) == 0, "", t.texts)
    for unknown in (None, np.full(len(t), ""), some):
        assert leaks(replace(t, texts=unknown), folds, "speakers") == "text?"
    shared = np.where(np.arange(len(t)) == 0, "", "kids")
    assert leaks(replace(t, texts=shared), folds, "speakers") == "text"  # found: what is unknown adds nothing
    assert leaks(replace(t, training_known=False), folds, "speakers") == "encoder?"
    heard = replace(t, training_known=False, seen=np.ones(len(t), bool))
    assert leaks(heard, folds, "speakers") == "encoder"
    assert not trained_on_test_speakers("text?+encoder?")
    assert trained_on_test_speakers("text+encoder")


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 6), st.integers(2, 4), st.integers(0, 3))
def test_speakers_and_sentences_of_a_test_clip_are_both_new(
    speakers: int, labels: int, texts: int, n_folds: int, seed: int
) -> None:
    t = task(speakers, labels, texts)
    t = replace(t, texts=np.tile([f"t{n}" for n in range(texts)], speakers * labels))
    folds = make_folds(t, "speakers+text", min(n_folds, speakers), seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(t)))
    for fold in folds:
        other = ~np.isin(t.speakers, t.speakers[fold.test]) & ~np.isin(t.texts, t.texts[fold.test])
        np.testing.assert_array_equal(fold.train, np.flatnonzero(other))
        assert set(t.y[fold.test]) == set(t.y)
    assert leaks(t, folds, "speakers+text") == ""
    assert "text" in leaks(t, make_folds(t, "speakers", min(n_folds, speakers), seed), "speakers")


def test_two_sentences_are_tested_in_turn() -> None:
    t = replace(task(4), texts=np.tile(["kids", "dogs"], 24))
    folds = make_folds(t, "speakers+text", 2)
    assert [fold.name for fold in folds] == ["1.1", "1.2", "2.1", "2.2"]
    assert [(len(fold.train), len(fold.test)) for fold in folds] == [(12, 12)] * 4
    assert not PROTOCOLS["speakers+text"].one_fold_per_speaker
    assert PROTOCOLS["speakers"].one_fold_per_speaker


def test_a_label_of_one_sentence_cannot_be_tested_on_another() -> None:
    t = task(4, takes=6)
    texts = np.tile([f"t{n}" for n in range(6)], 12)
    for seed in range(5):
        two = replace(t, texts=np.where((t.y == "l2") & (texts > "t1"), "t0", texts))
        assert len(make_folds(two, "speakers+text", 4, seed)) >= 8
    alone = replace(t, texts=np.where(t.y == "l2", "t0", texts))
    with pytest.raises(ProtocolError, match=r"(?s)'l2' has no training clip .* or use --protocol speakers"):
        make_folds(alone, "speakers+text", 2)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (None, r"needs the sentence of every clip; 48 of 48 clips of toy have none. Add a column text .*--protocol sp"),
        (np.repeat(["", "a", "b"], 16), "16 of 48 clips of toy have none"),
        (np.full(48, "kids"), r"needs at least 2 sentences; toy has 1 \(kids\)"),
    ],
)
def test_sentences_that_cannot_be_kept_apart(texts: np.ndarray | None, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        make_folds(replace(task(4), texts=texts), "speakers+text", 2)


def dialogues(t: Task) -> np.ndarray:
    """Speakers s0 and s1 share session d0, s2 and s3 session d1, …"""
    return np.array([f"d{int(speaker[1:]) // 2}" for speaker in t.speakers])


def test_partners_share_their_session() -> None:
    t = task(6)
    t = replace(t, sessions=dialogues(t))
    assert leaks(t, make_folds(t, "loso"), "loso") == "session"
    assert not trained_on_test_speakers("session")
    folds = make_folds(t, "sessions", 3)
    assert leaks(t, folds, "sessions") == ""
    assert sorted(sorted(set(t.speakers[fold.test])) for fold in folds) == [["s0", "s1"], ["s2", "s3"], ["s4", "s5"]]
    with pytest.raises(ProtocolError, match="fold s0: sessions d0 are in training and test"):
        check_folds(t, make_folds(t, "loso"), "sessions")


def test_a_session_of_one_speaker_adds_nothing() -> None:
    t = task(6)
    own = replace(t, sessions=t.speakers)
    assert leaks(own, make_folds(own, "loso"), "loso") == ""
    assert leaks(own, make_folds(own, "random", 3), "random") == "speaker"
    unknown = replace(t, sessions=np.full(len(t), ""))
    assert leaks(unknown, make_folds(unknown, "loso"), "loso") == ""


def test_speakers_of_two_sessions_link_them() -> None:
    """s1 speaks in d0 and d1, so s0 to s3 stay together; s4 has no session."""
    t = task(6)
    sessions = dialogues(t)
    sessions[np.flatnonzero(t.speakers == "s1")[0]] = "d1"
    sessions[t.speakers == "s4"] = ""
    linked = replace(t, sessions=sessions)
    folds = make_folds(linked, "sessions", 3)
    assert sorted(sorted(set(t.speakers[fold.test])) for fold in folds) == [["s0", "s1", "s2", "s3"], ["s4"], ["s5"]]
    assert leaks(linked, folds, "sessions") == ""


@pytest.mark.parametrize(
    ("sessions", "folds", "said"),
    [
        (None, 2, "needs sessions; toy has none. Add a column session to the manifest, or use --protocol speakers"),
        (np.full(72, ""), 2, "needs sessions; toy has none"),
        (np.repeat(["a", "b"], 36), 3, "with 3 folds needs 3 groups of sessions .*; toy has 2. Use --folds 2, or use"),
        (np.full(72, "1"), 2, "toy has 1. Give sessions of different people different names, or use --protocol sp"),
    ],
)
def test_sessions_that_cannot_be_kept_apart(sessions: np.ndarray | None, folds: int, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        make_folds(replace(task(6), sessions=sessions), "sessions", folds)


def test_an_encoder_leaks_where_what_it_was_tuned_on_is_tested_and_nowhere_else() -> None:
    """It may be fine-tuned on every training clip of a fold: that is what a fold's own checkpoint is."""
    t = task(4)
    (first, second) = make_folds(t, "speakers", 2)
    trained_on = np.zeros(len(t), bool)
    trained_on[first.train] = True
    assert leaks(replace(t, seen=trained_on), [first], "speakers") == ""
    assert leaks(replace(t, seen=trained_on), [second], "speakers") == "encoder"
    one = np.zeros(len(t), bool)
    one[first.test[-1]] = True
    assert leaks(replace(t, seen=one), [first], "speakers") == "encoder"
    assert leaks(replace(t, seen=one), [second], "speakers") == ""


def test_a_blind_protocol_always_says_speaker() -> None:
    t = task(12, takes=1)
    t = replace(t, speakers=np.arange(len(t)).astype(str))
    assert leaks(t, make_folds(t, "random", 3), "random") == "speaker"


def test_nearly_as_many_speakers_as_clips_may_be_no_speakers() -> None:
    """The names of clips as speakers: the folds are of clips, whatever the protocol promises."""
    t = task(12, takes=1)
    t = replace(t, speakers=np.arange(len(t)).astype(str))
    folds = make_folds(t, "speakers", 3)
    assert leaks(t, folds, "speakers") == "speaker?"
    assert leaks(replace(t, texts=np.full(len(t), "kids")), folds, "speakers") == "speaker?+text"
    few = np.array([f"s{n % 24}" for n in range(len(t))])  # 24 speakers of 36 clips
    assert leaks(replace(t, speakers=few), folds, "random") == "speaker"
    assert leaks(replace(t, speakers=few), make_folds(replace(t, speakers=few), "speakers", 3), "speakers") == ""
    small = t.take(np.arange(9))
    assert leaks(small, [Fold("1", np.arange(4), np.arange(4, 9))], "speakers") == ""


def test_speakers_are_counted_by_recording_and_by_dataset() -> None:
    """Neither a copy of each file nor a second dataset with true speakers hides speakers that are clips."""
    t, sound = task(12, takes=1), task(6)
    names = np.array([f"s{n // 2}" for n in range(36)])
    doubled = replace(t, speakers=names, keys=names)
    assert leaks(doubled, make_folds(doubled, "speakers", 3), "speakers") == "speaker?"
    ids = np.array([*(f"a:{n}" for n in range(36)), *(f"b:{n}" for n in range(72))])
    speakers = np.array([*(f"a:{n}" for n in range(36)), *(f"b:{name}" for name in sound.speakers)])
    y = np.array([*t.y, *sound.y])
    union = Task(np.zeros((108, 1), np.float32), y, speakers, clip_ids=ids, dataset="a+b")
    assert leaks(union, make_folds(union, "speakers", 3), "speakers") == "speaker?+text?+encoder?"
    assert leaks(replace(union, dataset="ab"), make_folds(union, "speakers", 3), "speakers") == "text?+encoder?"


def test_the_fold_hash_stays_the_same() -> None:
    """Golden. Other hashes would put the runs of earlier versions into tables of their own.

    Version 0.1.0 has other hashes, 5eb6774b0feb and e3bf0856782d, which did not depend on the speakers.
    """
    y, speakers, ids = (np.array(list(text)) for text in ("abab", "sstt", "1234"))
    t = Task(np.zeros((4, 1), np.float32), y, speakers, clip_ids=ids)
    first, second = np.array([0, 1]), np.array([2, 3])
    folds = [Fold("x", first, second), Fold("y", second, first)]
    assert fold_hash(t, folds) == "4a1ca8cb841c"
    assert fold_hash(replace(t, keys=np.array(["k1", "k2", "k3", "k4"])), folds) == "16b50e6bff74"


def test_folds_of_other_speakers_have_another_hash() -> None:
    """The same clips in the same parts, but one speaker was corrected: another interval, another table."""
    t = task(6)
    folds = make_folds(t, "random", 3)
    corrected = t.speakers.copy()
    corrected[0] = "s5"
    assert fold_hash(replace(t, speakers=corrected), folds) != fold_hash(t, folds)
    assert fold_hash(replace(t, speakers=t.speakers.copy()), folds) == fold_hash(t, folds)


def test_the_fold_hash_names_the_split() -> None:
    t = task(6)
    first, again, other = (fold_hash(t, make_folds(t, "speakers", 3, seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert fold_hash(replace(t, y=np.char.add(t.y, "x")), make_folds(t, "speakers", 3)) != first
    assert json.dumps(first)
    assert len(first) == 12


@pytest.mark.parametrize(
    ("leaking", "known"),
    [
        ("", False),
        ("text", False),
        ("audio+text", False),
        ("speaker?", False),
        ("speaker?+text", False),
        ("speaker", True),
        ("encoder", True),
        ("text+encoder", True),
    ],
)
def test_which_leaks_are_of_test_speakers(leaking: str, known: bool) -> None:
    assert trained_on_test_speakers(leaking) is known


@pytest.mark.parametrize("protocol", ["speakers", "speakers+text", "sessions", "random", "holdout"])
def test_a_seed_decides_the_folds(protocol: str) -> None:
    t = task(12, takes=6)
    t = replace(t, sessions=dialogues(t))
    first, again, other = (make_folds(t, protocol, 3, seed) for seed in (0, 0, 1))
    assert [fold.test.tolist() for fold in first] == [fold.test.tolist() for fold in again]
    assert [fold.test.tolist() for fold in first] != [fold.test.tolist() for fold in other]
    assert len(first) == {"holdout": 1, "speakers+text": 9}.get(protocol, 3)


def test_published_folds_train_on_all_that_they_do_not_test() -> None:
    t = published("emodb")
    for fold in make_folds(t, "published"):
        assert sorted([*fold.train, *fold.test]) == list(range(len(t)))


def test_as_many_clips_of_a_label_as_folds_are_enough() -> None:
    """One clip of each label from each of 3 speakers, in 3 folds."""
    assert len(make_folds(task(3, takes=1), "speakers", 3)) == 3


def test_leaving_one_speaker_out_takes_speakers_of_one_clip() -> None:
    t = task(3, labels=2)
    lone = t.take(np.array([*range(16), 16]))
    assert [fold.name for fold in make_folds(lone, "loso")] == ["s0", "s1", "s2"]


def test_few_speakers_are_shown_the_protocols_that_keep_them_apart_first() -> None:
    with pytest.raises(ProtocolError) as error:
        make_folds(task(3), "speakers", 5)
    assert str(error.value) == (
        "protocol 'speakers' with 5 folds needs 5 speakers; toy has 3 (s0, s1, s2). Use --protocol loso, --folds 3, or "
        "record more speakers. The last resort is --protocol random, which is speaker-dependent."
    )
    with pytest.raises(ProtocolError, match=r"Use --protocol official, --protocol loso, --folds 2, or record"):
        make_folds(replace(task(2), dataset="tess"), "speakers", 5)


def union(*names: str) -> Task:
    """One clip of two labels by each speaker of datasets, as a union names them."""
    grid = [
        (f"{datasets.get(name).corpus or name}:{speaker}", label, f"{name}:{speaker}-{label}")
        for name in names
        for fold in datasets.get(name.removesuffix("-song")).official_folds
        for speaker in fold
        for label in ("sad", "happy")
    ]
    speakers, y, ids = (np.array(column) for column in zip(*grid, strict=True))
    return Task(np.zeros((len(y), 2), np.float32), y, speakers, clip_ids=ids, dataset="+".join(names))


def test_official_folds_of_a_union_are_those_of_its_datasets() -> None:
    t = union("emodb", "savee")
    folds = make_folds(t, "official")
    sizes = {name: len(datasets.get(name).official_folds) for name in ("emodb", "savee")}
    assert [fold.name for fold in folds] == [f"{name}:{n}" for name, size in sizes.items() for n in range(1, size + 1)]
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(t)))
    with pytest.raises(ProtocolError, match="no official folds are known for 'emodb\\+folder-x'"):
        make_folds(replace(t, dataset="emodb+folder-x"), "official")


def test_official_folds_of_one_corpus_count_once() -> None:
    """Speech and song of RAVDESS have the same actors: whoever is tested speaking is not trained on singing."""
    t = union("ravdess", "ravdess-song")
    folds = make_folds(t, "official")
    assert len(folds) == len(datasets.get("ravdess").official_folds)
    for fold in folds:
        assert not set(t.speakers[fold.train]) & set(t.speakers[fold.test])


def test_a_pair_leaks_only_where_a_fold_splits_it() -> None:
    y = np.array(list("abababab"))
    t = Task(
        np.zeros((8, 1), np.float32),
        y,
        np.array(list("ssttuuvv")),
        training_known=True,
        texts=np.arange(8).astype(str),
        near_copies=np.array([[0, 2]]),
    )
    apart, together = Fold("1", np.arange(2), np.arange(2, 8)), Fold("2", np.arange(4), np.arange(4, 8))
    left_out = Fold("3", np.arange(1, 4), np.arange(4, 8))
    assert leaks(t, [together, left_out], "speakers") == ""
    assert leaks(t, [together, apart], "speakers") == "audio~"
    for folds in ([apart], [apart, together], [together, apart]):
        assert are_split(np.array([[0, 2], [2, 0], [0, 1]]), folds).tolist() == [True, True, False]
    assert not trained_on_test_speakers("audio~")
    texts = np.full(8, "kids")
    assert leaks(replace(t, texts=texts, keys=texts), [apart], "random") == "speaker+audio+audio~+text"


@pytest.mark.parametrize("protocol", ["speakers", "speakers+text", "sessions", "loso"])
def test_too_few_speakers_name_the_protocol(protocol: str) -> None:
    alone, name = task(1), re.escape(protocol)
    alone = replace(alone, sessions=np.full(len(alone), "d"))
    with pytest.raises(ProtocolError, match=rf"^protocol '{name}' with 2 folds needs 2 speakers; toy has 1"):
        make_folds(alone, protocol, 2)
    unknown = replace(alone, speakers=np.full(len(alone), ""))
    with pytest.raises(ProtocolError, match=rf"^protocol '{name}' needs the speaker of every clip; toy"):
        make_folds(unknown, protocol, 2)


@pytest.mark.parametrize("protocol", ["speakers", "speakers+text", "sessions"])
def test_too_few_clips_of_each_label_name_the_protocol(protocol: str) -> None:
    t, name = task(6, labels=1, takes=1), re.escape(protocol)
    t = replace(t, y=np.array(list("abcabc")), sessions=t.speakers)
    with pytest.raises(ProtocolError, match=rf"^protocol '{name}' with 3 folds needs a label with 3 clips"):
        make_folds(t, protocol, 3)


def test_two_groups_of_sessions_are_enough_for_two_folds() -> None:
    t = task(2)
    assert len(make_folds(replace(t, sessions=t.speakers), "sessions", 2)) == 2


def test_clips_of_unknown_sessions_are_not_linked() -> None:
    """Their speakers are different people, who did not talk with each other."""
    t = task(6)
    sessions = np.where(np.isin(t.speakers, ("s0", "s1", "s2")), "", dialogues(t))
    folds = make_folds(replace(t, sessions=sessions), "sessions", 5)
    assert sorted(sorted(set(t.speakers[fold.test])) for fold in folds) == [
        ["s0"],
        ["s1"],
        ["s2"],
        ["s3"],
        ["s4", "s5"],
    ]


@pytest.mark.parametrize("protocol", ["random", "holdout"])
def test_clips_without_a_key_are_recordings_of_their_own(protocol: str) -> None:
    t = task(10)
    unknown = replace(t, keys=np.full(len(t), ""))
    for a, b in zip(make_folds(t, protocol, 3), make_folds(unknown, protocol, 3), strict=True):
        np.testing.assert_array_equal(a.test, b.test)


def test_speakers_of_clips_without_a_key_are_counted_by_clip() -> None:
    """24 speakers of 36 clips are people, whether the keys of the clips are known, unknown, or partly known."""
    t = task(12, takes=1)
    t = replace(t, speakers=np.array([f"s{n % 24}" for n in range(36)]))
    for keys in (None, np.full(36, ""), np.where(np.arange(36) % 2, "", np.arange(36).astype(str))):
        known = replace(t, keys=keys)
        assert leaks(known, make_folds(known, "speakers", 3), "speakers") == ""


def test_speakers_of_a_pair_of_datasets_are_counted_by_dataset() -> None:
    """In `a->b`, too, clip ids begin with their dataset, and with no other colon of theirs."""
    t, sound = task(12, takes=1), task(6)
    ids = np.array([*(f"a:x:{n}" for n in range(36)), *(f"b:y:{n}" for n in range(72))])
    speakers = np.array([*(f"a:{n}" for n in range(36)), *(f"b:{name}" for name in sound.speakers)])
    texts = np.arange(108).astype(str)
    pair = Task(
        np.zeros((108, 1), np.float32),
        np.array([*t.y, *sound.y]),
        speakers,
        clip_ids=ids,
        dataset="a->b",
        texts=texts,
        training_known=True,
    )
    fold = Fold("1", np.arange(36), np.arange(36, 108))
    assert leaks(pair, [fold], "cross") == "speaker?"
    assert leaks(replace(pair, speakers=np.char.replace(speakers, "a:1", "b:s1")), [fold], "cross") == "speaker"


@pytest.mark.parametrize("seed", range(8))
def test_sentences_are_in_as_many_groups_as_every_label_allows(seed: int) -> None:
    """Each label is said with two of six sentences, so a group of sentences may hold all clips of a label."""
    t, rng = task(6, takes=8), np.random.default_rng(seed)
    own = {label: rng.choice(6, 2, replace=False) for label in t.labels}
    t = replace(t, texts=np.array([f"t{own[label][rng.integers(2)]}" for label in t.y.tolist()]))
    groups = len({fold.name.partition(".")[2] for fold in make_folds(t, "speakers+text", 5, seed)})
    possible = range(2, min(5, len(set(t.texts.tolist()))) + 1)
    assert groups == max(n for n in possible if _every_label_is_trained(t, n, seed))


def _every_label_is_trained(t: Task, n_groups: int, seed: int) -> bool:
    """Whether every label of a test fold is in training, with a number of groups of sentences, by the definition."""
    splits = [
        list(StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(t.y, t.y, groups))
        for n, groups in ((5, t.speakers), (n_groups, t.texts))
    ]
    return all(
        set(t.y[list({*a_test} & {*b_test})]) <= set(t.y[list({*a_train} & {*b_train})])
        for a_train, a_test in splits[0]
        for b_train, b_test in splits[1]
    )


def test_the_smallest_tasks_of_holdout_and_random() -> None:
    """Two clips of each label, one for each part; and a test part with room for every label, and no more."""
    t = task(10, labels=2, takes=1)
    (fold,) = make_folds(t, "holdout")
    assert len(fold.test) == 2  # of 20 clips with 2 labels
    rare = replace(t, y=np.array(["a"] * 18 + ["b"] * 2))
    assert len(make_folds(rare, "holdout")) == 1
    assert len(make_folds(rare, "random", 2)) == 2
    with pytest.raises(ProtocolError, match="^protocol 'holdout' tests a tenth of 19 clips, fewer than the 2 labels"):
        make_folds(rare.take(np.arange(1, 20)), "holdout")
    with pytest.raises(ProtocolError, match="^protocol 'random' needs 3 clips of each label; 'b' has 2"):
        make_folds(rare, "random", 3)


def test_the_default_is_five_folds_by_speaker() -> None:
    t = task(12)
    folds = make_folds(t)
    assert len(folds) == 5
    assert [fold.test.tolist() for fold in folds] == [f.test.tolist() for f in make_folds(t, "speakers", 5, 0)]


def test_a_task_of_one_label_names_it() -> None:
    with pytest.raises(ProtocolError, match=r"^toy: got 1 label \(l0\); wanted at least two. Use another --labels"):
        make_folds(task(labels=1), "speakers")


def broken(t: Task, train: np.ndarray, test: np.ndarray, protocol: str = "speakers") -> str:
    """What is said of one fold with these rows."""
    with pytest.raises(ProtocolError) as error:
        check_folds(t, [Fold("a", train, test)], protocol)
    return str(error.value)


def test_broken_folds_are_named_with_the_protocol_and_the_way_out() -> None:
    t = task(4)
    everything, nothing = np.arange(len(t)), np.array([], np.int64)
    said = broken(t, nothing, everything)
    assert said.startswith("protocol 'speakers' cannot be used on toy")
    assert "fold a: no training clips" in said
    said = broken(t, everything, nothing)
    assert "fold a: no test clips" in said
    assert "or use --protocol random, which is speaker-dependent" in said
    known, last = (np.flatnonzero(np.isin(t.speakers, names)) for names in (("s0", "s1"), ("s3",)))
    said = broken(t, np.flatnonzero((t.speakers != "s3") & (t.y != "l2")), last)
    assert "fold a: 'l2' has no training clip (speakers: s0, s1, s2, s3)" in said
    assert "fold a: speakers s0, s1 are in training and test" in broken(t, everything, known)
    shared = replace(t, texts=np.where(np.arange(len(t)) % 2, "kids", "dogs"))
    said = broken(shared, known, last, "speakers+text")
    assert "fold a: texts dogs, kids are in training and test" in said
    assert "or use --protocol speakers" in said


UNKNOWN = ["Unknown", "unknown", "msp-podcast:Unknown"]


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("protocol", ["speakers", "loso", "speakers+text", "sessions"])
def test_clips_of_unknown_speakers_are_in_no_fold_by_speaker(protocol: str, name: str) -> None:
    """They may be of any speaker, so they are neither trained on nor tested, and a sentence counts them."""
    t = task(6, takes=6, texts=np.array([f"t{n % 6}" for n in range(108)]))
    t = replace(t, sessions=dialogues(t), speakers=np.where(t.speakers == "s5", name, t.speakers))
    folds = make_folds(t, protocol, 2)
    used = np.concatenate([part for fold in folds for part in (fold.train, fold.test)])
    assert set(t.speakers[used]) == {"s0", "s1", "s2", "s3", "s4"}
    assert unknown_speakers_note(t, protocol) == f"protocol '{protocol}' leaves out 18 clips of unknown speakers"
    assert "speaker?" not in leaks(t, folds, protocol)
    known = t.take(np.flatnonzero(t.speakers != name))
    assert [known.ids[f.test].tolist() for f in make_folds(known, protocol, 2)] == [
        np.searchsorted(np.flatnonzero(t.speakers != name), f.test).astype(str).tolist() for f in folds
    ]
    assert unknown_speakers_note(known, protocol) == ""


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_speakers_in_both_parts_are_no_shared_speaker_but_said(name: str) -> None:
    t = task()
    t = replace(t, speakers=np.where(np.isin(t.speakers, ["s0", "s5"]), name, t.speakers))
    fold = Fold("1", np.flatnonzero(np.arange(len(t)) < len(t) // 2), np.flatnonzero(np.arange(len(t)) >= len(t) // 2))
    check_folds(t, [fold], "official")
    assert leaks(t, [fold], "official") == "speaker?"
    assert leaks(t, make_folds(t, "random", 2), "random") == "speaker"
    assert unknown_speakers_note(t, "random") == ""
    assert (
        leaks(t, [Fold("1", np.flatnonzero(t.speakers == "s1"), np.flatnonzero(t.speakers == "s2"))], "official") == ""
    )


def test_a_development_clip_of_an_unknown_speaker_is_said() -> None:
    t = task()
    t = replace(t, speakers=np.where(t.speakers == "s0", "Unknown", t.speakers))
    train, dev, test = (np.flatnonzero(t.speakers == name) for name in ("s1", "Unknown", "s2"))
    assert leaks(t, [Fold("1", train, test, dev)], "official") == "speaker?"
    assert leaks(t, [Fold("1", train, test)], "official") == ""


def test_a_session_of_unknown_speakers_may_have_several() -> None:
    t = task(4)
    alone = replace(t, sessions=t.speakers)
    halves = [Fold("1", np.arange(0, len(t), 2), np.arange(1, len(t), 2))]
    assert "session" not in leaks(alone, halves, "random")
    unknown = replace(alone, speakers=np.where(t.speakers == "s0", "Unknown", t.speakers))
    assert leaks(unknown, halves, "random") == "speaker+session"


def test_a_task_of_unknown_speakers_alone_has_no_folds_by_speaker() -> None:
    t = replace(task(), speakers=np.full(72, "Unknown"))
    with pytest.raises(ProtocolError, match="protocol 'loso' with 2 folds needs 2 speakers; toy has 0"):
        make_folds(t, "loso")


@pytest.mark.parametrize("name", ["cremad", "iemocap"])
def test_folds_of_emo_superb_test_its_speakers(name: str) -> None:
    folds = datasets.get(name).emo_superb_folds
    speakers = np.repeat([speaker for fold in folds for speaker in fold], 2)
    t = Task(np.zeros((len(speakers), 1), np.float32), np.tile(["a", "b"], len(speakers) // 2), speakers, dataset=name)
    made = make_folds(t, "emo-superb")
    assert [tuple(dict.fromkeys(t.speakers[fold.test].tolist())) for fold in made] == list(folds)
    with pytest.raises(ProtocolError, match=f"EMO-SUPERB fold 1 of {name} tests the speakers {folds[0][0]}, who have"):
        make_folds(t.take(np.flatnonzero(speakers != folds[0][0])), "emo-superb")
    with pytest.raises(ProtocolError, match="no EMO-SUPERB folds are known for 'toy', only for cremad, iemocap, and"):
        make_folds(replace(t, dataset="toy"), "emo-superb")
