"""A small tree of every dataset in its real layout, of sound that is made here, and what an adapter must find in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.sounds import noise, write

SECONDS = 0.1


@dataclass(frozen=True)
class Tree:
    """The files of a small tree, and what they are."""

    files: tuple[str, ...]
    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    extras: tuple[str, ...]  # columns beyond the fixed ones
    genders: tuple[str, ...] = ("female", "male")
    prepare: Callable[[Path], object] = lambda root: None

    def make(self, root: Path, seconds: float = SECONDS, seed: int = 0) -> Path:
        """Write it; no two recordings are alike, and each label has a hum of its own."""
        for number, name in enumerate(self.files, start=seed):
            write(root / name, noise(seconds, seed=number))
        self.prepare(root)
        return root


def _iemocap(root: Path) -> None:
    spoken = {
        "Ses01F_impro01": "Ses01F_impro01_F000 neu, Ses01F_impro01_M000 fru",
        "Ses02M_script01_1b": "Ses02M_script01_1b_F001 exc, Ses02M_script01_1b_M002 ang, Ses02M_script01_1b_M003 hap",
    }
    for dialogue, lines in spoken.items():
        session = root / f"Session{dialogue[4]}"
        write(session / "dialog" / "wav" / f"{dialogue}.wav", noise(0.3, channels=2))
        text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        for line in lines.split(", "):
            name, category = line.split()
            text += f"[6.2901 - 8.2357]\t{name}\t{category}\t[2.5000, 2.5000, 2.5000]\n"
            text += "C-E1:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        path = session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "Categorical").mkdir(exist_ok=True)
        (path.parent / "Categorical" / f"{dialogue}_e1_cat.txt").write_text("Ses01F_impro01_F000 :Anger; ()\n")


def _esd(*speakers: str) -> tuple[str, ...]:
    emotions = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
    return tuple(
        f"{speaker}/{emotion}/{speaker}_{350 * n + take:06d}.wav"
        for speaker in speakers
        for n, emotion in enumerate(emotions)
        for take in (1, 350)
    )


PODCAST = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
UTTERANCES = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def _msp_podcast(root: Path) -> None:
    (root / "Labels").mkdir()
    (root / "Labels" / "labels_consensus.csv").write_text(
        PODCAST
        + "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Train\n"
        + "MSP-PODCAST_0001_0009.wav,H,4.2,5.0,4.6,Unknown,Unknown,Train\n"
        + "MSP-PODCAST_0002_0001.wav,C,4.2,3.0,4.6,39,Female,Development\n"
        + "MSP-PODCAST_0003_0001_0001.wav,A,6.2,2.0,5.6,40,Female,Test1\n"
        + "MSP-PODCAST_0003_0002.wav,X,4.2,4.0,4.6,40,Female,Test1\n"
        + "MSP-PODCAST_0004_0002.wav,S,2.2,2.0,3.6,41,Male,Test2\n"
    )


def _meld(root: Path) -> None:
    rows = {
        "train": '1,"Oh my God, he\u2019s lost it.",Chandler,surprise,negative,0,0,4,7,"00:20:57,256","00:21:00,049"\n'
        '2,Hey!,All,joy,positive,0,1,4,7,"00:21:01,927","00:21:03,261"\n',
        "dev": '1,What?,Monica,anger,negative,0,0,4,4,"00:12:24,660","00:12:30,915"\n',
        "test": '1,Hey!,Chandler,neutral,neutral,0,0,5,9,"00:12:24,660","00:12:30,915"\n'
        '2,Yes.,The Waiter,sadness,negative,0,1,5,9,"00:12:32,334","00:12:33,960"\n',
    }
    for part, text in rows.items():
        (root / f"{part}_sent_emo.csv").write_text(UTTERANCES + text, encoding="utf-8")


TREES = {
    "ravdess": Tree(
        files=tuple(
            f"Actor_{a:02d}/03-01-{e:02d}-01-02-01-{a:02d}.wav" for a in range(1, 5) for e in (1, 2, 3, 4, 5, 6, 7, 8)
        ),
        labels=("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"),
        speakers=("01", "02", "03", "04"),
        extras=("intensity", "language", "repetition", "text"),
    ),
    "ravdess-song": Tree(
        files=tuple(f"Actor_{a:02d}/03-02-{e:02d}-01-02-01-{a:02d}.wav" for a in (1, 2) for e in (1, 2, 6)),
        labels=("calm", "fearful", "neutral"),
        speakers=("01", "02"),
        extras=("intensity", "language", "repetition", "text"),
    ),
    "cremad": Tree(
        files=tuple(
            f"AudioWAV/{a}_{s}_{e}_{level}.wav"
            for a in (1001, 1002, 1003, 1005)
            for e in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
            for s, level in (("DFA", "XX"), ("IEO", "LO" if e != "NEU" else "XX"))
        ),
        labels=("angry", "disgust", "fear", "happy", "neutral", "sad"),
        speakers=("1001", "1002", "1003", "1005"),
        extras=("intensity", "language", "text"),
    ),
    "savee": Tree(
        files=tuple(f"AudioData/{s}/{e}01.wav" for s in ("DC", "KL") for e in ("a", "d", "f", "h", "n", "sa", "su")),
        labels=("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        speakers=("DC", "KL"),
        extras=("language", "text"),
        genders=("male",),
    ),
    "tess": Tree(
        files=tuple(
            f"{folder}/{s}_{word}_{e}.wav"
            for s, folders in (
                ("OAF", ("OAF_angry", "OAF_Fear", "OAF_Pleasant_surprise", "OAF_happy")),
                ("YAF", ("YAF_angry", "YAF_fear", "YAF_pleasant_surprised", "YAF_happy")),
            )
            for folder, e in zip(folders, ("angry", "fear", "ps", "happy"), strict=True)
            for word in ("bite", "food")
        ),
        labels=("angry", "fear", "happy", "surprise"),
        speakers=("OAF", "YAF"),
        extras=("language", "text"),
        genders=("female",),
    ),
    "esd": Tree(
        files=_esd("0001", "0004", "0011", "0015"),
        labels=("angry", "happy", "neutral", "sad", "surprise"),
        speakers=("0001", "0004", "0011", "0015"),
        extras=("language", "text"),
    ),
    "emodb": Tree(
        files=tuple(f"wav/{s}a01{e}{v}.wav" for s in ("03", "08", "09") for e in "WLEAFTN" for v in "ab"),
        labels=("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad"),
        speakers=("03", "08", "09"),
        extras=("language", "text", "version"),
    ),
    "iemocap": Tree(
        files=(
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav",
            "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_F001.wav",
            "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_M002.wav",
            "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_M003.wav",
        ),
        labels=("angry", "happy", "neutral"),
        speakers=("Ses01F", "Ses02F", "Ses02M"),
        extras=("category", "language", "session", "style"),
        prepare=_iemocap,
    ),
    "msp-podcast": Tree(
        files=tuple(
            f"Audios/MSP-PODCAST_{n}.wav"
            for n in ("0001_0008", "0001_0009", "0002_0001", "0003_0001_0001", "0003_0002", "0004_0002", "test3_0001")
        ),
        labels=("angry", "contempt", "happy", "neutral", "sad"),
        speakers=("30", "39", "40", "41", "Unknown"),
        extras=("EmoAct", "EmoDom", "EmoVal", "language", "partition", "session"),
        genders=("female", "male", ""),
        prepare=_msp_podcast,
    ),
    "meld": Tree(  # the names of a copy with audio; the published files are videos
        files=(
            *(f"train_splits/dia0_utt{n}.wav" for n in (0, 1)),
            "dev_splits_complete/dia0_utt0.wav",
            *(f"output_repeated_splits_test/dia0_utt{n}.wav" for n in (0, 1)),
        ),
        labels=("anger", "joy", "neutral", "sadness", "surprise"),
        speakers=("Chandler", "Monica", "The Waiter", "Unknown"),
        extras=("episode", "language", "partition", "season", "sentiment", "session", "spoken_by", "text"),
        genders=("female", "male", ""),
        prepare=_meld,
    ),
    "folder": Tree(
        files=tuple(f"{label}/{speaker}_1.wav" for label in ("happy", "sad") for speaker in ("ann", "bob")),
        labels=("happy", "sad"),
        speakers=("ann", "bob"),
        extras=(),
        genders=("",),
    ),
}
