"""Every command and snippet of the README runs as it stands; only the places that it leaves open are filled in."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import REPOSITORY, Ser, noise, save_checkpoint, write
from trees import TREES

from embedcache.finetune import Settings

README = (REPOSITORY / "README.md").read_text()
FINETUNING = (REPOSITORY / "docs" / "finetuning.md").read_text()
SCALING = (REPOSITORY / "docs" / "scaling.md").read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page, with their languages."""
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


BLOCKS = blocks(README)


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """24 actors of noise, a folder of one's own, and a tiny network in the cache's place of wav2vec2-base."""
    for actor in range(1, 25):
        for emotion in (1, 3, 5):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write(tmp_path / "DIR" / f"Actor_{actor:02d}" / name, noise(0.1, seed=100 * actor + emotion))
    for speaker, label in itertools.product(("ann", "bob", "eve"), ("sad", "glad")):
        write(tmp_path / "MINE" / label / f"{speaker}_1.wav", noise(0.3, seed=1000 * len(label) + ord(speaker[0])))
    TREES["tess"].make(tmp_path / "TESS", seed=9000)
    write(tmp_path / "CLIP.wav", noise(0.3))
    place = tmp_path / "hf" / "hub" / "models--facebook--wav2vec2-base"
    save_checkpoint(place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    return {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}


def run(command: str, ser: Ser, world: dict[str, str]) -> subprocess.CompletedProcess:
    """A `ser` command, or a make target without its work: making is what calls this test."""
    program, *arguments = shlex.split(command)
    if program == "make":
        return subprocess.run(["make", "-n", *arguments], capture_output=True, text=True, cwd=REPOSITORY)
    assert program == "ser"
    return ser(*arguments, env=world)


def test_every_command_and_snippet_runs_in_order(ser: Ser, world: dict[str, str], tmp_path: Path) -> None:
    commands = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        done = run(command, ser, world)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    for snippet in [block for language, block in BLOCKS if language == "python"]:
        there = {**os.environ, **world, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=tmp_path, env=there)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 "), done.stdout


@pytest.mark.long
def test_the_commands_of_the_page_on_scaling_run(ser: Ser, world: dict[str, str]) -> None:
    """With a Ray of their own each."""
    (block,) = [block for language, block in blocks(SCALING) if language == "sh"]
    for command in block.splitlines():
        done = run(command, ser, world)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.long
def test_the_commands_of_the_page_on_fine_tuning_run(ser: Ser, world: dict[str, str]) -> None:
    (block,) = [block for language, block in blocks(FINETUNING) if language == "sh"]
    for command in block.splitlines():
        done = run(command, ser, world)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "encoder: the encoder was fine-tuned on test speakers" in done.stdout


def test_the_page_on_fine_tuning_names_every_choice() -> None:
    import cli

    parser = typer.main.get_command(cli.app).commands["finetune"]
    chosen = {option for p in parser.params for option in p.opts} - {"--seed", "--device", "--out", "--artifacts"}
    assert {f"--{name.replace('_', '-')}" for name in Settings.__dataclass_fields__} <= chosen | {"--seed"}
    unsaid = {option for option in chosen if option not in FINETUNING}
    assert unsaid <= {"--dropout", "--labels", "--lr", "--folds"}, unsaid


def test_the_job_for_kubernetes_says_what_ser_and_ray_understand() -> None:
    import ray
    import yaml

    import cli

    (job,) = [yaml.safe_load(block) for language, block in blocks(SCALING) if language == "yaml"]
    spec = job["spec"]
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
    program, command, *arguments = shlex.split(spec["entrypoint"])
    assert program == "ser"
    parser = typer.main.get_command(cli.app).commands[command]
    parsed = parser.make_context(command, arguments).params
    assert parsed["cluster"] == "auto"
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert str(parsed["artifacts"]).startswith(mounts["shared"])


def test_what_the_readme_names_exists() -> None:
    from classifiers import PROTOCOLS, heads
    from classifiers.leaderboard import COLUMNS
    from embedcache import encoders

    named = set(re.findall(r"`([\w.-]+)`", README))
    assert set(heads.names()) <= named
    assert set(PROTOCOLS) <= named
    assert {"wav2vec2-base-untrained", "mfcc"} <= named & set(encoders.names())
    assert {"p_vs_best"} <= named & set(COLUMNS)
    for link in re.findall(r"\]\((\w[\w./-]*)\)", README):
        assert link.startswith("http") or (REPOSITORY / link).exists()
