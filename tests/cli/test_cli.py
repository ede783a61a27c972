"""The command as a person meets it: each bad input is right or one clear message, exit code 1, no traceback."""

import csv
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.permissions import nobody, public_folder
from helpers.places import REPOSITORY, Ser
from helpers.sounds import noise, ravdess_tree, write

import cli
from embedcache import Artifacts, EmbeddingStore, Manifest

EXTRACT = ("extract", "--dataset", "ravdess", "--encoder", "mfcc", "--root", "tree")


def fails(result: subprocess.CompletedProcess, *said: str) -> None:
    assert result.returncode == 1, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1
    for text in said:
        assert text in result.stderr


def test_the_job_from_clips_to_predictions(ser: Ser, tree: Path, tmp_path: Path) -> None:
    first = ser(*EXTRACT)
    assert first.returncode == 0, first.stderr
    assert "ravdess: 24 clips have mfcc vectors" in first.stdout
    assert "note: ravdess has 1440 published clips; this folder has 24." in first.stderr
    assert "encoded now: 0; in the cache before: 24" in ser(*EXTRACT).stdout
    fitted = ser("fit", "--head", "mlp", "--folds", "2")
    assert fitted.returncode == 0, fitted.stderr
    assert "ravdess, protocol speakers: 2 folds, 24 clips, 4 speakers, 3 labels (chance 0.333)" in fitted.stdout
    assert "Leaks: training and test clips share sentences (text)." in fitted.stdout
    model = next((tmp_path / "artifacts" / "models").iterdir())
    assert f"model: {model.relative_to(tmp_path)}, fitted on all 24 clips" in fitted.stdout
    wavs = sorted(tree.rglob("*.wav"))[:2]
    told = ser("predict", model, *wavs)
    assert told.stdout.count("\n") == 3  # the columns, then a line each
    assert told.stdout.splitlines()[1].startswith(f"{wavs[0]},0.000,0.200,")
    objects = [json.loads(line) for line in ser("predict", model, *wavs, "--json").stdout.splitlines()]
    assert [o["path"] for o in objects] == [str(wav) for wav in wavs]
    assert all(set(o["probabilities"]) == {"calm", "happy", "neutral"} for o in objects)
    compared = ser("compare", "--head", "logreg,svm", "--protocol", "random", "--folds", "2")
    assert compared.returncode == 0, compared.stderr
    assert "Next: ser report 2" in compared.stderr
    board = list(csv.DictReader(io.StringIO(ser("leaderboard", "--csv", "all.csv").stdout)))
    assert [(row["protocol"], row["head"]) for row in board][0] == ("speakers", "mlp")
    assert {row["head"] for row in board} == {"mlp", "logreg", "svm"}
    assert {row["leaks"] for row in board if row["protocol"] == "random"} == {"speaker+text"}
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 4
    assert ser("leaderboard", "--metric", "uar").stdout == (tmp_path / "all.csv").read_text()
    by_area = list(csv.DictReader(io.StringIO(ser("leaderboard", "--metric", "roc_auc_ovr").stdout)))
    assert {row["metric"] for row in by_area} == {"roc_auc_ovr"}
    assert list(by_area[0])[:-4] == list(board[0])
    fails(ser("leaderboard", "--metric", "roc_auc_ov"), "no metric 'roc_auc_ov'; have ", "did you mean 'roc_auc_ov")
    assert ser("leaderboard", "--metric", "precision").returncode == 2
    tables = ser("leaderboard", "--format", "latex", "--columns", "head,UAR,leaks").stdout
    assert re.findall(r"\\label\{(.*)\}", tables) == ["tab:ravdess-speakers", "tab:ravdess-random"]
    assert "    Head & UAR [95~\\%] & Leaks \\\\\n" in tables
    assert [row["head"] for row in json.loads(ser("leaderboard", "--format", "json").stdout)][0] == "mlp"
    assert ser("leaderboard", "--columns", "head,run").stdout.startswith("head,run\nmlp,")
    fails(ser("leaderboard", "--columns", "head,uarr"), "no column 'uarr'; have ", "did you mean 'uar'")
    assert ser("leaderboard", "--format", "tex").returncode == 2
    cited = ser("cite").stdout
    assert "The recordings are those of RAVDESS, speech (Livingstone and Russo 2018)." in cited
    assert "@article{livingstone2018ravdess,\n" in cited
    assert "\\cite{livingstone2018ravdess}" in ser("cite", "--format", "latex").stdout
    fails(ser("cite", "nowhere"), "no run 'nowhere'")


@pytest.mark.parametrize("command", ["datasets", "encoders", "heads", "protocols"])
def test_lists_pipe(ser: Ser, command: str) -> None:
    result = ser(command)
    assert result.returncode == 0
    assert ("WavLM" in result.stderr) if command == "encoders" else result.stderr == ""  # families without a name
    if command == "datasets":
        for fact in (
            "1440 clips, 24 speakers, 8 labels",
            "CC BY-NC-SA 4.0",
            "Livingstone",
            "https://zenodo.org/records/1188976",
        ):
            assert fact in result.stdout
    else:
        widths = {line.count("\t") for line in result.stdout.splitlines()}
        assert len(widths) == 1


def test_usage_errors_exit_with_2(ser: Ser) -> None:
    assert ser("extract").returncode == 2
    assert ser("fit", "--head", "mlp", "--folds", "1").returncode == 2
    assert ser("nonsense").returncode == 2
    assert ser("extract", "--dataset", "folder", "--channel", "up").returncode == 2


BAD = {
    "empty": "is empty (0 bytes). Copy or download it again",
    "text": "is text that begins with 'not audio at all",
    "truncated": "is truncated: its header declares 0.50 s, it holds 0.09 s",
    "nan": "8000 of 8000 samples are NaN",
    "5 ms": "has 80 samples at 16,000 Hz (5.0 ms); mfcc needs at least 400",
}


def spoil(kind: str, path: Path) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not audio at all " * 30)
    elif kind == "truncated":
        path.write_bytes(write(path, noise(0.5)).read_bytes()[:3000])
    elif kind == "nan":
        write(path, np.full(8000, np.nan, np.float32), subtype="FLOAT")
    elif kind == "5 ms":
        write(path, noise(0.005))


def test_bad_clips_are_all_named_at_once_and_counted_where_they_are_missing(
    ser: Ser, tree: Path, tmp_path: Path
) -> None:
    paths = dict(zip(BAD, sorted((tree / "Actor_02").glob("*.wav")), strict=False))
    for kind, path in paths.items():
        spoil(kind, path)
    refused = ser(*EXTRACT)
    fails(refused, "5 of 24 clips of ravdess cannot be used:", "--skip-bad")
    for kind, path in paths.items():
        (line,) = [line for line in refused.stderr.splitlines() if f"{path}: " in line]
        assert BAD[kind] in line
    skipped = ser(*EXTRACT, "--skip-bad")
    assert skipped.returncode == 0
    assert "19 clips have mfcc vectors" in skipped.stdout
    compared = ser("compare", "--head", "logreg", "--protocol", "random", "--folds", "2")
    assert "19 clips" in compared.stdout
    run = next((tree.parent / "artifacts" / "runs").iterdir())
    assert json.loads((run / "run.json").read_text())["heads"][0]["skipped"] == [path.stem for path in paths.values()]
    lists = (Path("artifacts/skipped/ravdess.csv"), run.relative_to(tmp_path) / "run.json")
    for said, file in zip((skipped.stderr, compared.stderr), lists, strict=True):
        assert f"ravdess: 5 clips skipped, without a vector; {file} lists all:" in said
        assert [path.stem in said for path in paths.values()] == [True] * 3 + [False] * 2
        assert "  … and 2 more\n" in said
        assert all(path.stem in (tmp_path / file).read_text() for path in paths.values())


def test_the_list_of_skipped_clips_is_no_dataset_and_is_that_of_the_last_extraction(ser: Ser, tmp_path: Path) -> None:
    for seed, names in enumerate(itertools.product(("sad", "glad"), ("ann", "bob"), "123")):
        write(tmp_path / "voices" / names[0] / f"{names[1]}_{names[2]}.wav", noise(0.3, seed=seed))
    bad = tmp_path / "voices" / "sad" / "ann_9\n.wav"
    bad.write_bytes(b"")
    command = ("extract", "--dataset", "folder", "--root", "voices", "--encoder", "mfcc", "--skip-bad")
    said = ser(*command).stderr
    listed = tmp_path / "artifacts" / "skipped" / "folder-voices.csv"
    assert "folder-voices: 1 clip skipped, without a vector; artifacts/skipped/folder-voices.csv lists all:" in said
    with listed.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "clip_id": "sad/ann_9\n.wav",
        "path": str(bad),
        "reason": f"{tmp_path}/voices/sad/ann_9\\n.wav: is empty (0 bytes). Copy or download it again, or remove it.",
    }
    compared = ser("compare", "--head", "logreg", "--protocol", "loso")  # of the only dataset
    assert compared.returncode == 0, compared.stderr
    bad.unlink()
    assert "skipped" not in ser(*command).stderr
    assert not listed.exists()


@pytest.mark.long
def test_a_clip_of_sixteen_minutes(ser: Ser, tree: Path, checkpoint: Path) -> None:
    """mfcc takes it; a network says where its limit is."""
    write(tree / "Actor_02" / "03-01-02-01-01-01-02.wav", np.zeros(960 * 100), 100)
    assert ser(*EXTRACT).returncode == 0
    network = ser("extract", "--dataset", "ravdess", "--encoder", checkpoint, "--root", tree)
    fails(network, "lasts 960 s, tiny-wav2vec2 takes clips of up to 900 s. Cut it into utterances")


@pytest.mark.long
def test_precision_and_views_are_the_users_choice(ser: Ser, tree: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Two precisions are two encoders, each in a folder of its own; views are added to what is there."""
    network = ("extract", "--dataset", "ravdess", "--encoder", checkpoint, "--root", tree)
    for extra in ((), ("--views", "std,frames"), ("--precision", "bf16")):
        done = ser(*network, *extra)
        assert "encoded now: 24" in done.stdout, done.stderr
    assert len(list((tmp_path / "artifacts" / "cache").glob("tiny-wav2vec2-*"))) == 2
    assert "encoded now: 0;" in ser(*network, "--views", "pooled,layers,std,frames:2").stdout
    fails(
        ser(*network, "--views", "sdt"),
        "tiny-wav2vec2: has no view 'sdt'; have pooled, layers, std, frames, frames:0",
    )
    fails(ser(*network[:4], "./nope", *network[5:]), "./nope: no such checkpoint on the hub, and no such folder here")
    fails(ser(*network, "--precision", "int8"), "got the precision 'int8'; wanted one of fp32, bf16, fp16")
    fails(ser(*EXTRACT, "--precision", "bf16"), "mfcc is computed in fp32 only. Leave --precision out")


@pytest.mark.long
def test_unusual_but_sound_audio_is_taken(ser: Ser, tree: Path, checkpoint: Path) -> None:
    unusual = [(8_000, 1, None), (96_000, 1, None), (48_000, 1, "PCM_24"), (16_000, 2, "FLOAT"), (44_100, 6, None)]
    silent, *paths = sorted((tree / "Actor_02").glob("*.wav"))
    write(silent, np.zeros(4000))
    for path, (rate, channels, subtype) in zip(paths, unusual, strict=True):
        write(path, noise(0.3, rate, channels=channels), rate, subtype)
    for encoder in ("mfcc", checkpoint):
        result = ser("extract", "--dataset", "ravdess", "--encoder", encoder, "--root", tree)
        assert "24 clips have" in result.stdout, result.stderr


@pytest.mark.long
def test_names_and_places_that_are_not_there(ser: Ser, tree: Path, tmp_path: Path) -> None:
    fails(ser("extract", "--dataset", "ravdess", "--root", "no"), "no does not exist", "zenodo.org")
    fails(ser("extract", "--dataset", "ravdess"), "data/ravdess does not exist")
    (tmp_path / "void").mkdir()
    fails(ser("extract", "--dataset", "ravdess", "--root", "void"), "no ravdess clips in it; wanted names like")
    fails(ser("extract", "--dataset", "ravdes", "--root", "tree"), "(did you mean 'ravdess'?)")
    fails(
        ser(*EXTRACT[:4], "hubrt", "--root", "tree"), "(did you mean 'hubert-base'?). A folder or a hub id works too."
    )
    write(tree / "hello.wav", noise(0.1))
    fails(ser(*EXTRACT), f"{tree / 'hello.wav'}: the name does not match the dataset's file names")
    fails(ser("fit", "--head", "mlp"), "has no extracted dataset. Run `ser extract")
    fails(ser("fit", "--head", "mpl"), "no head 'mpl'; have attention", "(did you mean 'mlp'?)")
    fails(ser("leaderboard"), "no runs yet. Run `ser compare` first")
    fails(ser("predict", "void", "hello.wav"), "no model found (model.json is missing)")


def test_cuda_without_a_gpu(ser: Ser, tree: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    fails(
        ser(
            "extract",
            "--dataset",
            "ravdess",
            "--encoder",
            "wav2vec2-base-untrained",
            "--root",
            tree,
            "--device",
            "cuda",
        ),
        "--device cuda: torch",
        "sees 0 CUDA devices. Use --device cpu",
    )


@pytest.mark.long
def test_folds_that_cannot_be_made(ser: Ser, tree: Path, tmp_path: Path) -> None:
    ser(*EXTRACT)
    fails(ser("compare", "--head", "logreg"), "'speakers' with 5 folds needs 5 speakers; ravdess has 4", "--folds 4")
    fails(
        ser("compare", "--head", "logreg", "--protocol", "official"),
        "official fold 1 of ravdess tests the speakers 11, 20, 21",
    )
    fails(ser("compare", "--protocol", "speeker"), "(did you mean 'speakers'?)")
    for actor in (2, 3, 4):
        for path in (tree / f"Actor_{actor:02d}").glob("03-01-03-*"):
            path.unlink()
    ser(*EXTRACT)
    fails(ser("compare", "--head", "logreg", "--folds", "2"), "'happy' has no training clip (speakers: 01)")
    for path in tree.rglob("03-01-0[23]-*"):
        path.unlink()
    ser(*EXTRACT)
    fails(ser("compare", "--head", "logreg", "--folds", "2"), "got 1 label (neutral); wanted at least two")


@pytest.mark.long
def test_a_shard_of_another_version_or_damaged(ser: Ser, tree: Path, tmp_path: Path) -> None:
    ser(*EXTRACT)
    shard = next((tmp_path / "artifacts" / "cache").rglob("*.h5"))
    sound = shard.read_bytes()
    with h5py.File(shard, "r+") as file:
        file.attrs["format_version"] = 7
    for command in (EXTRACT, ("compare", "--head", "logreg", "--folds", "2")):
        fails(ser(*command), f"{shard.name}: has shard format 7", "which reads formats (1, 2)")
    shard.write_bytes(sound[:-700])
    fails(ser("compare", "--head", "logreg", "--folds", "2"), f"{shard.name}: is damaged", "Run `ser cache repair`")
    shard.unlink()
    assert ser(*EXTRACT).returncode == 0
    assert ser("compare", "--head", "logreg", "--folds", "2").returncode == 0


def test_a_full_disk(ser: Ser, tree: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing past it fails in the same place."""
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        f"sys.argv = ['ser', *{list(EXTRACT)!r}]; runpy.run_path({str(REPOSITORY / 'cli.py')!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    fails(result, "cannot write", "Stored vectors are intact")
    assert not list((tmp_path / "artifacts").rglob("*.part"))
    assert ser(*EXTRACT).returncode == 0


def test_a_read_only_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, which gives up root's rights where it has them."""
    with public_folder() as place:
        ravdess_tree(place / "tree", actors=1)
        (place / "artifacts").mkdir(mode=0o555)
        command = ["ser", *EXTRACT[:-1], str(place / "tree"), "--artifacts"]
        monkeypatch.setattr("sys.argv", [*command, str(place / "first")])
        with pytest.raises(SystemExit):
            cli.main()  # loads what nobody may not read, where Python itself is root's
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", [*command, str(place / "artifacts")])
        with nobody(), pytest.raises(SystemExit) as end:
            cli.main()
        message = capsys.readouterr().err
        assert end.value.code == 1
        assert "cannot write" in message
        assert "Permission denied" in message
        assert not list((place / "artifacts").iterdir())


def test_an_output_folder_that_is_a_file(ser: Ser, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    fails(ser(*EXTRACT, "--artifacts", "taken"), "cannot write taken/")


def test_ctrl_c_keeps_what_was_encoded(ser: Ser, tree: Path, tmp_path: Path) -> None:
    """The command is interrupted in mid-work; its message says how far it got, and the next run goes on from there."""
    script = tmp_path / "slow.py"
    script.write_text(
        f"import sys, time; sys.path.insert(0, {str(REPOSITORY)!r}); sys.argv = ['ser', *{list(EXTRACT)!r}]\n"
        "import cli, embedcache.cache.extract; loop = sys.modules['embedcache.cache.extract']\n"
        "packs = loop.packs; loop.packs = lambda clips, seconds: packs(clips, 0.5)\n"
        "from embedcache.encoders.mfcc import Mfcc; fast = Mfcc.encode\n"
        "def slow(self, *a):\n    print('encoding', flush=True); time.sleep(0.3); return fast(self, *a)\n"
        "Mfcc.encode = slow\ncli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "clips are stored. Run the same command again to continue" in stderr
    stored = int(stderr.split("error: stopped: ")[1].split(" of 24")[0])
    assert 4 <= stored < 24
    assert f"in the cache before: {stored}" in ser(*EXTRACT).stdout


@pytest.mark.long
def test_artifacts_go_where_they_are_sent(ser: Ser, tree: Path, tmp_path: Path) -> None:
    ser(*EXTRACT, env={"SER_ARTIFACTS": str(tmp_path / "one")})
    ser(*EXTRACT, "--artifacts", "two", env={"SER_ARTIFACTS": str(tmp_path / "one")})
    for place in ("one", "two"):
        manifest = Manifest.from_csv(Artifacts(tmp_path / place).manifest("ravdess"))
        (folder,) = (tmp_path / place / "cache").iterdir()
        assert not EmbeddingStore(folder).missing(manifest.keys)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.long
def test_a_folder_of_ones_own_is_found_again(ser: Ser, tmp_path: Path) -> None:
    for person, speaker in enumerate(("ann", "bob", "eve")):
        for number, label in enumerate(("sad", "glad")):
            for take in range(3):
                seed = 100 * person + 10 * number + take
                write(tmp_path / "mine" / label / f"{speaker}_{take}.wav", noise(0.2, seed=seed))
    assert ser("extract", "--dataset", "folder", "--root", "mine", "--encoder", "mfcc").returncode == 0
    for named in ([], ["--dataset", "folder"], ["--dataset", "folder-mine"]):
        result = ser("compare", *named, "--head", "logreg", "--protocol", "loso")
        assert "folder-mine, protocol loso: 3 folds, 18 clips" in result.stdout, result.stderr


@pytest.mark.long
def test_whose_voice_a_clip_is_must_be_plain(ser: Ser, tmp_path: Path) -> None:
    """Takes read as speakers, and two folders with speakers of the same names: asked, and answered by an option."""
    for seed, name in enumerate(f"{label}/{label}{take}_ann.wav" for label in ("sad", "glad") for take in range(6)):
        write(tmp_path / "takes" / name, noise(0.3, seed=seed))
    source = ("--dataset", "folder", "--root", "takes")
    for command in (("audit", *source), ("extract", *source, "--encoder", "mfcc")):
        asked, meant = ser(*command), ser(*command, "--speakers-are-clips")
        assert (asked.returncode, meant.returncode) == (1, 0), meant.stderr
        assert "12 speakers in 12 clips" in asked.stdout + asked.stderr
    assert "ser extract --dataset folder" in ser("audit", *source, "--speakers-are-clips").stderr
    shown = ser("compare", "--head", "logreg", "--folds", "2")
    assert "Leaks: some speakers are unknown, or nearly every clip has its own speaker" in " ".join(
        shown.stdout.split()
    )
    for seed, place in enumerate(("one", "two"), start=1):
        for number, name in enumerate(f"{label}/{who}_{seed}.wav" for label in ("sad", "glad") for who in ("a", "b")):
            write(tmp_path / place / name, noise(0.3, seed=100 * seed + number))
        assert ser("extract", "--dataset", "folder", "--root", place, "--encoder", "mfcc").returncode == 0
    both = ("compare", "--dataset", "folder-one,folder-two", "--head", "logreg", "--folds", "2")
    asked = ser(*both)
    assert asked.returncode == 1
    assert "speakers of the same names: a, b. Are equal names one person?" in asked.stderr
    one, two = ser(*both, "--same-names", "one"), ser(*both, "--same-names", "two")
    assert "8 clips, 2 speakers" in one.stdout, one.stderr
    assert "note: 2 speakers with several names count as one person each (folder-one:a = folder-two:a" in one.stderr
    assert "8 clips, 4 speakers" in two.stdout, two.stderr
    wrong = ser(*both, "--same-names", "both")
    assert (wrong.returncode, "wanted one if equal names" in wrong.stderr) == (2, True)


@pytest.mark.long
def test_ctrl_c_during_a_comparison(ser: Ser, tree: Path, tmp_path: Path) -> None:
    """Workers and all: one line, and no run that is not complete."""
    ser(*EXTRACT)
    command = [sys.executable, str(REPOSITORY / "cli.py"), "compare", "--folds", "4", "--seeds", "200", "--jobs", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    )
    time.sleep(9)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "Traceback" not in stderr
    assert "error: stopped. Stored vectors are kept" in stderr
    assert not (tmp_path / "artifacts" / "runs").exists()


@pytest.mark.long
def test_the_cache_is_looked_after(ser: Ser, tree: Path, tmp_path: Path) -> None:
    fails(ser("cache", "ls"), "holds no vectors. Run `ser extract` first")
    assert ser(*EXTRACT).returncode == 0
    header, line = ser("cache", "ls").stdout.splitlines()
    held = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (held["views"], held["clips"], held["hours"], held["format"]) == ("layers,pooled", "24", "0.00", "2")
    fails(ser("cache", "verify", "mfc"), "no store 'mfc'; have mfcc, mfcc-", "did you mean 'mfcc'?")
    sound = ser("cache", "verify", "mfcc")
    assert (sound.returncode, sound.stdout) == (0, f"{held['store']}: sound\n")
    shard = next((tmp_path / "artifacts" / "cache").rglob("*.h5"))
    with h5py.File(shard, "r+") as file:
        bad = file["key"][3].decode()
        file["view/pooled"][3] += 1
    broken = ser("cache", "verify")
    fails(broken, "1 fault. `ser cache repair` drops damaged rows")
    assert f"1 rows of 'pooled' are damaged, the first for key {bad[:12]}" in broken.stdout
    fails(ser("compare", "--head", "logreg", "--folds", "2"), "Run `ser cache repair`, then `ser extract` again")
    manifest = Manifest.from_csv(tmp_path / "artifacts" / "manifests" / "ravdess.csv")
    (clip_id,) = [clip.clip_id for clip in manifest.clips if clip.key == bad]
    mended = ser("cache", "repair")
    assert "damaged rows dropped: 1;" in mended.stdout
    assert f"ravdess: clips to extract again: 1\n  {clip_id}\n" in mended.stdout
    assert "encoded now: 1," in ser(*EXTRACT).stdout
    assert "shards: 3, now 1;" in ser("cache", "compact").stdout
    assert ser("cache", "verify").returncode == 0


@pytest.mark.long
def test_vectors_leave_and_come_back(ser: Ser, tree: Path, tmp_path: Path) -> None:
    assert ser(*EXTRACT).returncode == 0
    out = ser("cache", "export", "x.npz", "--views", "pooled")
    assert out.stdout == "x.npz: 24 clips of ravdess, mfcc, pooled\n", out.stderr
    fails(ser("cache", "export", "y.npz", "--encoder", "hubert"), "no extracted encoder 'hubert'; have mfcc")
    fails(ser("cache", "export", "y.npz", "--views", "std"), "lacks 24", "for that encoder again with --views std")
    back = ser("cache", "import", "x.npz", "--encoder", "mine", "--dataset", "ravdess")
    assert "ravdess: 24 of 24 clips have mine vectors (1 x 970 numbers) from x.npz" in back.stdout, back.stderr
    fails(ser("cache", "import", "x.npz", "--encoder", "mine", "--dataset", "emodb"), "no emodb recordings")
    elsewhere = ser(
        *("cache", "import", "x.npz", "--encoder", "mine", "--dataset", "ravdess", "--root", tree),
        *("--artifacts", "elsewhere"),
    )
    assert "24 of 24 clips have mine vectors" in elsewhere.stdout, elsewhere.stderr
    compared = ser("compare", "--encoder", "mfcc,mine", "--head", "logreg", "--folds", "2")
    scores = [line.split()[3] for line in compared.stdout.splitlines() if line.split()[1:2] == ["logreg"]]
    assert len(scores) == 2
    assert scores[0] == scores[1]


@pytest.mark.long
def test_a_manifest_that_shrinks_is_said(ser: Ser, tree: Path) -> None:
    assert "listed" not in ser(*EXTRACT).stderr
    fewer = ser(*EXTRACT[:-1], tree / "Actor_01")
    assert "ravdess.csv listed 24 clips before and lists 6 now. Extract the whole folder to list all." in fewer.stderr


def test_one_recording_in_two_datasets_is_stored_once(ser: Ser, tree: Path, tmp_path: Path) -> None:
    assert ser(*EXTRACT).returncode == 0
    table = tmp_path / "mine.csv"
    clips = sorted(tree.rglob("*.wav"))[:6]
    rows = [f"{clip.relative_to(tmp_path)},{'sad' if n % 2 else 'glad'},s{n % 3}" for n, clip in enumerate(clips)]
    table.write_text("\n".join(["path,label,speaker", *rows]))
    again = ser("extract", "--dataset", "folder", "--encoder", "mfcc", "--root", table)
    assert "encoded now: 0; in the cache before: 6" in again.stdout, again.stderr
    assert ser("cache", "ls").stdout.splitlines()[1].split("\t")[2] == "24"


def test_vectors_from_elsewhere_from_the_import_to_the_prediction(ser: Ser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label, speaker = np.repeat([0, 1], 30), np.tile(np.arange(6), 10)
    np.savez(tmp_path / "x.npz", X=rng.standard_normal((60, 5)) + label[:, None], y=label, actors=speaker)
    done = ser("cache", "import", "x.npz", "--dataset", "mine", "--encoder", "theirs")
    assert "mine: 60 of 60 clips have theirs vectors (1 x 5 numbers) from x.npz" in done.stdout, done.stderr
    assert "note: x.npz: reads 'X' as pooled, 'y' as label, 'actors' as speaker." in done.stderr
    assert "note: 'mine' is a new dataset, of the labels and speakers in the file." in done.stderr
    assert "Next: ser compare --dataset mine --encoder theirs" in done.stderr
    assert ser("cache", "ls").stdout.splitlines()[1].endswith("\timported")
    fitted = ser("fit", "--head", "ridge", "--dataset", "mine")
    assert "Next: ser predict artifacts/models/mine-theirs-ridge VECTORS.npz" in fitted.stderr
    told = ser("predict", "artifacts/models/mine-theirs-ridge", "x.npz")
    assert told.stdout.count("\n") == 61
    assert "note: predicts vectors as those of theirs" in told.stderr
    assert ser("predict", "artifacts/models/mine-theirs-ridge", "x.npz", "a.wav").returncode == 2
    assert ser("report").returncode == 0
    asked = ser("cache", "rm", "theirs")
    assert (asked.returncode, "Add --yes" in asked.stderr) == (2, True)
    assert ser("cache", "rm", "theirs", "mine", "--yes").returncode == 0
    fails(ser("cache", "ls"), "holds no vectors")
