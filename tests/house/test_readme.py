"""The README runs as it stands, and what it and the pages beside it name exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from helpers.pages import blocks, run_page
from helpers.places import REPOSITORY, Ser

from embedcache.finetune import FinetuneSettings

README = (REPOSITORY / "README.md").read_text()
FINETUNING = (REPOSITORY / "docs" / "finetuning.md").read_text()
SCALING = (REPOSITORY / "docs" / "scaling.md").read_text()


@pytest.mark.long
def test_every_command_and_snippet_runs_in_order(ser: Ser, world: dict[str, str], tmp_path: Path) -> None:
    done = run_page(README, ser, world, tmp_path)
    assert len(done) >= 10
    assert done[-1].stdout.startswith("1 "), done[-1].stdout


def test_the_page_on_fine_tuning_names_every_choice() -> None:
    import cli

    parser = typer.main.get_command(cli.app).commands["finetune"]
    chosen = {option for p in parser.params for option in p.opts} - {"--seed", "--device", "--out", "--artifacts"}
    assert {f"--{name.replace('_', '-')}" for name in FinetuneSettings.__dataclass_fields__} <= chosen | {"--seed"}
    unsaid = {option for option in chosen if option not in FINETUNING}
    assert unsaid <= {"--dropout", "--labels", "--lr", "--folds", "--same-names"}, unsaid


def test_the_job_for_kubernetes_says_what_ser_and_ray_understand() -> None:
    import ray
    import yaml

    import cli

    (job,) = [yaml.safe_load(block) for language, _, block in blocks(SCALING) if language == "yaml"]
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
    from classifiers.evaluation.leaderboard import COLUMNS
    from embedcache import encoders

    named = set(re.findall(r"`([\w.+-]+)`", README))
    assert set(heads.names()) <= named
    assert set(PROTOCOLS) <= named
    assert {"wav2vec2-base-untrained", "mfcc"} <= named & set(encoders.names())
    assert {"p_vs_best"} <= named & set(COLUMNS)
