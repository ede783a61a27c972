"""Every adapter: on a small tree in the dataset's real layout, in the layouts of its copies, and on another's tree."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.places import REPOSITORY
from helpers.sounds import noise, write
from helpers.trees import TREES, Tree
from sklearn.model_selection import StratifiedGroupKFold

from embedcache import DataError, Manifest, add_keys, datasets
from embedcache.checks import check_dataset

OF_FOLDERS = ("iemocap", "esd", "savee", "msp-podcast", "meld")  # folders or tables say what a file is
NAMED = [name for name in TREES if name != "folder"]
FOLDS = json.loads((REPOSITORY / "embedcache" / "datasets" / "folds.json").read_text())
N_FOLDS = {"ravdess": 6, "esd": 5, "savee": 4, "iemocap": 5, "tess": 2, "cremad": 5, "emodb": 5}
CODES = {"W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral"}


def read(name: str, root: Path) -> Manifest:
    return datasets.get(name).manifest(root)


def clips_of(name: str, tree: Tree) -> int:
    """One of IEMOCAP's utterances has another category; two of MSP-Podcast's have no agreement and no label."""
    return len(tree.files) - {"iemocap": 1, "msp-podcast": 2}.get(name, 0)


def test_every_adapter_has_a_tree() -> None:
    assert set(TREES) == {spec.name for spec in datasets.all()}


@pytest.mark.parametrize("name", TREES)
def test_the_real_layout(name: str, tmp_path: Path) -> None:
    tree, spec = TREES[name], datasets.get(name)
    check_dataset(spec, tree.make(tmp_path / "x"))
    manifest = spec.manifest(tmp_path / "x")
    assert (len(manifest), manifest.labels, manifest.speakers) == (clips_of(name, tree), tree.labels, tree.speakers)
    assert {clip.gender for clip in manifest.clips} == set(tree.genders)
    assert {column for clip in manifest.clips for column in clip.extra} == set(tree.extras)
    assert not spec.n_clips or (set(manifest.labels) <= set(spec.labels) and manifest.dataset == name)


@pytest.mark.parametrize("name", NAMED)
def test_capital_endings_and_flac_are_the_same_clips(name: str, tmp_path: Path) -> None:
    root = TREES[name].make(tmp_path / "x")
    before = read(name, root)
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        if number % 2:
            path.rename(path.with_suffix(".WAV"))
        else:
            path.unlink()
            write(path.with_suffix(".flac"), noise(0.1, seed=number))
    after = read(name, root)
    for manifest in (before, after):
        assert manifest.clips
    described = [[(c.clip_id, c.label, c.speaker, c.gender, c.extra) for c in m.clips] for m in (before, after)]
    assert described[0] == described[1]


@pytest.mark.parametrize("change", [str.upper, str.lower])
@pytest.mark.parametrize("name", NAMED)
def test_names_in_capital_or_small_letters_are_the_same_clips(
    name: str, tmp_path: Path, change: Callable[[str], str]
) -> None:
    root = TREES[name].make(tmp_path / "x")
    before = read(name, root)
    for path in sorted(root.rglob("*.wav")):
        path.rename(path.with_name(change(path.name)))
    described = [
        [(c.clip_id, c.label, c.speaker, c.gender, c.extra) for c in m.clips] for m in (before, read(name, root))
    ]
    assert described[0] == described[1]


@pytest.mark.parametrize("name", NAMED)
def test_a_tree_of_two_datasets_is_told(name: str, tmp_path: Path) -> None:
    other = "emodb" if name != "emodb" else "tess"
    root = TREES[name].make(tmp_path / "x")
    TREES[other].make(root / "more")
    for asked in (name, other, "folder"):
        with pytest.raises(DataError, match=f"holds several datasets: .*{len(TREES[other].files)} of .* Give each"):
            read(asked, root)


@pytest.mark.parametrize("name", NAMED)
def test_a_nested_copy_of_the_tree_adds_nothing(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    root = tree.make(tmp_path / "x")
    shutil.copytree(root, root / "copy")
    assert len(add_keys(read(name, root)).check()) == clips_of(name, tree)


@pytest.mark.parametrize("name", [name for name in NAMED if name not in OF_FOLDERS])
def test_all_files_in_one_folder(name: str, tmp_path: Path) -> None:
    root = TREES[name].make(tmp_path / "x")
    (tmp_path / "flat").mkdir()
    for path in root.rglob("*.wav"):
        path.rename(tmp_path / "flat" / path.name)
    assert len(read(name, tmp_path / "flat")) == len(TREES[name].files)


@pytest.mark.parametrize("name", NAMED)
def test_a_tree_of_another_dataset_is_told(name: str, tmp_path: Path) -> None:
    title = datasets.get(name).title
    root = TREES[name].make(tmp_path / "x")
    for other in NAMED:
        if other != name:
            with pytest.raises(DataError, match=f"this looks like {title}, not .*. Use --dataset {name}, or another"):
                read(other, root)


def test_sound_of_no_dataset_is_told_by_its_names(tmp_path: Path) -> None:
    write(tmp_path / "sad" / "hello.wav", noise(0.1))
    for name in NAMED:
        with pytest.raises(DataError, match=r"hello.wav: the name does not match the dataset's file.*(?s:.*)Wanted "):
            read(name, tmp_path)


def test_cremad_reads_levels_sentences_and_the_actors_table(tmp_path: Path) -> None:
    root = TREES["cremad"].make(tmp_path / "x")
    clips = {clip.clip_id: clip for clip in read("cremad", root).clips}
    assert clips["1002_IEO_ANG_LO"].extra == {"language": "English", "text": "IEO", "intensity": "low"}
    assert clips["1002_DFA_ANG_XX"].extra == {"language": "English", "text": "DFA"}
    assert (clips["1002_DFA_ANG_XX"].gender, clips["1001_DFA_ANG_XX"].gender) == ("female", "male")
    (root / "VideoDemographics.csv").write_text("ActorID,Age,Sex,Race,Ethnicity\n1001,51,Female,Caucasian,No\n")
    assert {c.gender for c in read("cremad", root / "AudioWAV").clips if c.speaker == "1001"} == {"female"}


def test_the_first_name_of_a_clip_of_cremad_is_read_and_said(tmp_path: Path) -> None:
    for name in ("1040_ITH_SAD_X", "1040_ITH_SAD_XX"):
        write(tmp_path / name / "AudioWAV" / f"{name}.wav", noise(0.1))
    first, today = read("cremad", tmp_path / "1040_ITH_SAD_X"), read("cremad", tmp_path / "1040_ITH_SAD_XX")
    assert [clip.clip_id for clip in first.clips] == [clip.clip_id for clip in today.clips] == ["1040_ITH_SAD_XX"]
    assert (first.notes, today.notes) == (("1040_ITH_SAD_X is 1040_ITH_SAD_XX, as it is called today.",), ())


def test_a_clone_of_cremads_repository_holds_its_clips_once(tmp_path: Path) -> None:
    root = TREES["cremad"].make(tmp_path / "x")
    write(root / "AudioMP3" / "1001_DFA_ANG_XX.mp3", noise(0.1))
    (root / "VideoDemographics.csv").write_text("ActorID,Sex\n9999,Male\n1001,Unknown\n")
    manifest = add_keys(read("cremad", root)).check()
    assert (len(manifest), {c.gender for c in manifest.clips if c.speaker == "1001"}) == (48, {"male"})
    write(root / "AudioWAV" / "9999_DFA_ANG_XX.wav", noise(0.1))
    with pytest.raises(DataError, match="code 9999"):
        read("cremad", root)


def test_a_folder_of_ones_own_is_not_another_datasets_tree(tmp_path: Path) -> None:
    for name in ("tess", "cremad", "iemocap", "esd"):
        root = TREES[name].make(tmp_path / name)
        with pytest.raises(DataError, match=f"this looks like .*. Use --dataset {name}, or a CSV with path, label"):
            read("folder", root)
    write(tmp_path / "mine" / "happy " / "ann_1.wav", noise(0.1))
    assert read("folder", tmp_path / "mine").labels == ("happy",)


def test_cremads_actors_are_48_men_and_43_women() -> None:
    from embedcache.datasets.cremad import ACTORS

    assert Counter(ACTORS.values()) == {"male": 48, "female": 43}


def test_cremads_known_faults_are_left_out_and_said(tmp_path: Path) -> None:
    for number, name in enumerate(("1006_TIE_HAP_XX", "1006_TIE_NEU_XX", "1076_MTI_SAD_XX", "1001_DFA_ANG_XX")):
        write(tmp_path / f"{name}.wav", noise(0.1, seed=number))
    spec = datasets.get("cremad")
    manifest = spec.manifest(tmp_path)
    assert [clip.clip_id for clip in manifest.usable] == ["1001_DFA_ANG_XX"]
    assert [clip.extra["skipped"] for clip in manifest.skipped] == [
        "known fault: the same recording, byte for byte, with two labels",
        "known fault: the same recording, byte for byte, with two labels",
        "known fault: has no sound",
    ]
    kept = spec.manifest(tmp_path, keep_known_faults=True)
    assert len(kept.usable) == 4
    assert kept.inherit_skips(manifest) == kept  # what the register said before is no reason now


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1092_DFA_ANG_XX", "code 1092"),
        ("1001_ABC_ANG_XX", "code ABC, wanted one of IEO"),
        ("1001_DFA_BOR_XX", "code BOR, wanted one of ANG"),
        ("1001_DFA_ANG_ZZ", "code ZZ, wanted one of LO"),
    ],
)
def test_cremads_codes_are_checked(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path / f"{name}.wav", noise(0.1))
    with pytest.raises(DataError, match=said):
        read("cremad", tmp_path)


def test_savee_in_one_folder_has_the_same_ids(tmp_path: Path) -> None:
    root = TREES["savee"].make(tmp_path / "x")
    ids = [clip.clip_id for clip in read("savee", root).clips]
    for path in list(root.rglob("*.wav")):
        path.rename(write(tmp_path / "ALL" / f"{path.parent.name}_{path.name}", noise(0.1)))
    flat = read("savee", tmp_path / "ALL")
    assert [clip.clip_id for clip in flat.clips] == ids
    assert {clip.clip_id: clip.label for clip in flat.clips}["KL_su01"] == "surprise"
    assert {clip.clip_id: clip.label for clip in flat.clips}["KL_sa01"] == "sad"


def test_tess_knows_its_misspelled_clip_and_its_other_rate(tmp_path: Path) -> None:
    write(tmp_path / "OAF_neutral" / "OA_bite_neutral.wav", noise(0.1), rate=24_414)
    write(tmp_path / "OAF_Fear" / "OAF_food_fear.wav", noise(0.1, rate=96_000), rate=96_000)
    clips = add_keys(read("tess", tmp_path)).clips
    assert [(c.clip_id, c.speaker) for c in clips] == [("OAF_bite_neutral", "OAF"), ("OAF_food_fear", "OAF")]


def test_esd_with_and_without_split_folders(tmp_path: Path) -> None:
    write(tmp_path / "0011" / "Angry" / "train" / "0011_000351.wav", noise(0.1))
    write(tmp_path / "0001" / "Neutral" / "0001_000001.wav", noise(0.1, seed=1))
    write(tmp_path / "0004" / "0004_000701.wav", noise(0.1, seed=2))
    clips = {c.speaker: c for c in read("esd", tmp_path).clips}
    assert [(c.label, c.gender, c.extra["language"], c.extra["text"]) for c in clips.values()] == [
        ("neutral", "female", "Mandarin", "mandarin-001"),
        ("happy", "male", "Mandarin", "mandarin-001"),
        ("angry", "male", "English", "english-001"),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0011/Happy/0011_000351", "is in the folder of happy, but its number belongs to angry"),
        ("0021/Happy/0021_000701", "speaker 0021, wanted 0001 to 0020"),
        ("0011/Happy/0011_001751", "number 001751, wanted 000001 to 001750"),
    ],
)
def test_esds_numbers_are_checked(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path / f"{name}.wav", noise(0.1))
    with pytest.raises(DataError, match=said):
        read("esd", tmp_path)


def test_emodbs_speakers_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "03a01F.wav", noise(0.1))
    (clip,) = read("emodb", tmp_path).clips
    assert (clip.label, clip.gender, dict(clip.extra)) == ("happy", "male", {"language": "German", "text": "a01"})
    write(tmp_path / "04a01Fa.wav", noise(0.1))
    with pytest.raises(DataError, match="speaker 04, wanted one of 03, 08"):
        read("emodb", tmp_path)


def test_iemocap_merges_excited_and_passes_over_other_categories(tmp_path: Path) -> None:
    clips = {c.clip_id: c for c in read("iemocap", TREES["iemocap"].make(tmp_path / "x")).clips}
    assert "Ses01F_impro01_M000" not in clips  # frustrated
    excited = clips["Ses02M_script01_1b_F001"]
    assert (excited.label, excited.speaker, excited.gender) == ("happy", "Ses02F", "female")
    assert excited.extra == {"language": "English", "session": "2", "style": "scripted", "category": "exc"}
    assert clips["Ses01F_impro01_F000"].extra["style"] == "improvised"


def test_an_utterance_that_no_file_tells_of_is_said(tmp_path: Path) -> None:
    root = TREES["iemocap"].make(tmp_path / "x")
    assert len(read("iemocap", root / "Session2")) == 3
    for path in root.rglob("Ses02*.txt"):
        path.unlink()
    with pytest.raises(
        DataError,
        match="3 files do not belong to the dataset(?s:.*)no file dialog/EmoEvaluation/Ses.* gives its category",
    ):
        read("iemocap", root)


@pytest.mark.parametrize("name", N_FOLDS)
def test_official_folds_test_every_speaker_once(name: str) -> None:
    spec = datasets.get(name)
    speakers = [speaker for fold in spec.official_folds for speaker in fold]
    assert (len(spec.official_folds), len(speakers), len(set(speakers))) == (
        N_FOLDS[name],
        spec.n_speakers,
        spec.n_speakers,
    )
    assert spec.official_source


@pytest.mark.parametrize("name", ["cremad", "iemocap"])
def test_folds_of_emo_superb_test_every_speaker_once(name: str) -> None:
    spec = datasets.get(name)
    tested = [speaker for fold in spec.emo_superb_folds for speaker in fold]
    assert sorted(tested) == sorted(speaker for fold in spec.official_folds for speaker in fold)
    assert len(spec.emo_superb_folds) == 5
    assert "EMO-SUPERB" in FOLDS["emo-superb"][name]["source"]


@pytest.mark.parametrize(("name", "sizes"), [("tess", [700]), ("cremad", [1856]), ("emodb", [107] * 5)])
def test_published_folds_by_clip_have_the_published_sizes(name: str, sizes: list[int]) -> None:
    folds = datasets.get(name).published_folds()
    assert [len(set(fold)) for fold in folds] == sizes


def test_our_folds_are_what_their_source_says() -> None:
    """Made anew from the names of EMO-DB's 535 clips, all of which are tested in some published fold."""
    names = sorted(name for fold in FOLDS["published"]["emodb"]["folds"] for name in fold)
    men = ("03", "10", "11", "12", "15")
    y = np.array([f"{CODES[name[5]]}/{'male' if name[:2] in men else 'female'}" for name in names])
    speakers = np.array([name[:2] for name in names])
    splits = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(y, y, speakers)
    made = tuple(tuple(sorted(set(speakers[test].tolist()))) for _, test in splits)
    assert datasets.get("emodb").official_folds == made
    for fold in datasets.get("cremad").official_folds:
        assert 18 <= len(fold) <= 19
