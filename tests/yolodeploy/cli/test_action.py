"""action.yml: every script of it, run as a runner would, with a `gh` and an environment that only note what they are asked."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from world import World

ROOT = Path(__file__).resolve().parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
PYTHON = """\
#!/bin/sh
# Stands for the Python of setup-python: makes an environment whose pip notes its arguments.
if [ "$1 $2" != "-m venv" ]; then exec {python} "$@"; fi
mkdir -p "$3/bin"
printf '#!/bin/sh\\nfor each in "$@"; do echo "$each"; done > "%s/pip"\\n' "$3" > "$3/bin/python"
printf '#!/bin/sh\\nexec {python} {quick} "$@"\\n' > "$3/bin/yolodeploy"
chmod +x "$3/bin/python" "$3/bin/yolodeploy"
"""
QUICK = """\
# yolodeploy in one process, which times a run or two of each artifact.
import sys
from yolodeploy.cli.main import main
from yolodeploy.hosts import local, timing
from yolodeploy.tasks import average_precision
from yolodeploy.worker import turns

local.time_apart = timing.time_here
turns.SETTLE = turns.BURST = 0.0
average_precision.MAX_DRAWS = average_precision.MIN_DRAWS = 20
sys.exit(main(sys.argv[1:]))
"""
GH = """\
#!{python}
# Stands for GitHub's own command: keeps comments in a file, and answers the one question that it is asked.
import json, os, pathlib, sys
file = pathlib.Path(os.environ["COMMENTS"])
words = sys.argv[1:]
if os.environ["GH_TOKEN"] != "secret":
    sys.exit("HTTP 403: Resource not accessible by integration")
comments = json.loads(file.read_text()) if file.is_file() else {{}}
if "--method" in words:
    method, address, body = words[words.index("--method") + 1], words[-3], words[-1]
    text = pathlib.Path(body.removeprefix("body=@")).read_text()
    known = {{"POST": str(len(comments) + 1), "PATCH": address.rpartition("/")[2]}}
    comments[known[method]] = text
    file.write_text(json.dumps(comments))
else:
    for number, text in comments.items():
        print(number, text.partition("\\n")[0], sep="\\t")
"""


@dataclass
class Runner:
    """A machine that runs the scripts of the action, with what GitHub gives them."""

    root: Path
    inputs: Mapping[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    printed: str = ""
    event: str = "7"  # number of the pull request

    def value(self, expression: str) -> str:
        """What an expression of the kinds that action.yml uses stands for."""
        kind, *path = expression.strip().split(".")
        known = {
            "github.action_path": str(ROOT),
            "runner.temp": str(self.root / "temp"),
            "github.event.pull_request.number": self.event,
            "github.token": "secret",
        }
        if kind == "inputs":
            default = ACTION["inputs"][path[0]]["default"]
            return self.inputs.get(path[0], self.filled(default))
        if kind == "steps":
            return self.outputs[path[0]][path[2]]
        return known[expression.strip()]

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: self.value(found[1]), text)

    def run(self, name: str, **more: str) -> int:
        """Run a step; returns its exit code and keeps its outputs."""
        step = next(step for step in STEPS if name in (step.get("id"), step.get("name")))
        given = {key: self.filled(text) for key, text in step["env"].items()}
        result = self.root / "output"
        result.write_text("", encoding="utf-8")
        files = {"GITHUB_OUTPUT": result, "GITHUB_STEP_SUMMARY": self.root / "job.md"}
        machine = {"RUNNER_TEMP": self.root / "temp", "RUNNER_OS": "Linux"}
        script = self.root / "script.sh"
        script.write_text(step["run"], encoding="utf-8")
        environment = {**os.environ, **files, **machine, "GITHUB_REPOSITORY": "me/pots"}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(
            command,
            env={key: str(value) for key, value in {**environment, **given, **more}.items()},
            capture_output=True,
            text=True,
            check=False,
        )
        self.printed = done.stdout + done.stderr
        pairs = (line.partition("=") for line in result.read_text(encoding="utf-8").splitlines())
        self.outputs[step.get("id", name)] = {key: value for key, _, value in pairs}
        return done.returncode


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a runner with some inputs; its tools come first on the PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    quick = tools / "quick.py"
    for name, text in {"python": PYTHON, "gh": GH, "quick.py": QUICK}.items():
        filled = text.format(python=sys.executable, quick=quick)
        (tools / name).write_text(filled, encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("COMMENTS", str(tmp_path / "comments.json"))
    (tmp_path / "temp").mkdir()

    def make(**inputs: str) -> Runner:
        named = {key.replace("_", "-"): value for key, value in inputs.items()}
        made = Runner(tmp_path, {"recipes": "pot*.yaml", **named})
        made.outputs["python"] = {"python-path": str(tools / "python")}
        return made

    return make


CHECK = [sys.executable, "-m", "check_jsonschema"]
needs_schemas = pytest.mark.skipif(
    not importlib.util.find_spec("check_jsonschema"), reason="pip install 'yolodeploy[dev]'"
)


@needs_schemas
def test_it_is_valid_and_takes_no_input_for_code() -> None:
    checked = subprocess.run(
        [*CHECK, "--builtin-schema", "vendor.github-actions", ROOT / "action.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    for step in STEPS:
        assert "${{" not in step.get("run", ""), step
        if "uses" in step:  # a tag could be moved to other code
            assert re.search(r"@[0-9a-f]{40}$", step["uses"]), step
    for name, described in ACTION["inputs"].items():
        assert described["description"], name
        assert any(f"inputs.{name}" in json.dumps(step) for step in STEPS), name


@needs_schemas
def test_the_page_about_it_is_complete(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
    for name in ACTION["inputs"]:
        assert f"| `{name}` |" in page, name
    for name in ACTION["outputs"]:
        assert f"`{name}`" in page, name
    workflow = tmp_path / "models.yml"
    workflow.write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    given = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["deploy"]["steps"][1]
    assert set(given["with"]) <= set(ACTION["inputs"])
    checked = subprocess.run(
        [*CHECK, "--builtin-schema", "vendor.github-workflows", workflow],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_a_deploy_is_summed_up_and_commented_once(runner: Any, world: World) -> None:
    world.recipe(name="pot two.yaml", extra="name: pot-two\n")
    action = runner(args="--undecided=accept  -q", extras="ncnn", pip_args="--index-url https://a")
    assert action.run("find") == 0, action.printed
    key = action.outputs["find"]["key"]
    assert action.run("Install yolodeploy") == 0, action.printed
    asked = (world.root.parent / "temp/yolodeploy/venv/pip").read_text(encoding="utf-8")
    constraint = ["--constraint", f"{ROOT}/constraints.txt"]
    assert asked.splitlines()[-5:] == [*constraint, "--index-url", "https://a", f"{ROOT}[ncnn]"]
    assert action.run("run") == 0, action.printed
    assert action.outputs["run"]["exit-code"] == "0"
    stopped = re.search(
        r"^::stop-commands::(\w{32})$.*^::\1::$", action.printed, re.MULTILINE | re.DOTALL
    )
    assert stopped
    assert "2 of 2 shipped" in stopped[0]
    assert sorted(path.name for path in world.bundle.parent.glob("[!.]*")) == ["pot", "pot-two"]
    assert (world.root.parent / "temp/yolodeploy/store/objects").is_dir()
    summary = (world.root.parent / "job.md").read_text(encoding="utf-8")
    assert "**yolodeploy**: 2 of 2 shipped" in summary
    assert "<summary>Compared with each other</summary>" in summary
    comment = "Comment on the pull request"
    assert action.run(comment) == 0, action.printed
    assert action.run(comment) == 0, action.printed
    other = runner(name="`id`; $(id)")
    other.outputs = action.outputs
    assert other.run(comment) == 0, other.printed
    comments = json.loads((world.root.parent / "comments.json").read_text(encoding="utf-8"))
    assert [text.partition("\n")[0] for text in comments.values()] == [
        "<!-- yolodeploy: yolodeploy -->",
        "<!-- yolodeploy: _id__ __id_ -->",
    ]
    assert comments["1"].endswith(summary)
    assert action.run("find") == 0
    assert action.outputs["find"]["key"] != key  # for now there are locks


def test_a_failed_check_fails_the_job_after_the_comment(runner: Any, world: World) -> None:
    world.recipe(extra="checks: {size_mb: 0.000001}\n")
    action = runner()
    for step in ("find", "Install yolodeploy", "run"):
        assert action.run(step) == 0, action.printed
    summary = (world.root.parent / "job.md").read_text(encoding="utf-8")
    assert "Exit code 1." in summary
    assert "size_mb" in summary
    assert action.run("Verdict") == 1


def test_check_and_verify(runner: Any, deployed: World) -> None:
    for command, word in {"check": "pot.yaml: ok", "verify": "dist/pot"}.items():
        action = runner(command=command)
        for step in ("find", "Install yolodeploy", "run", "Verdict"):
            assert action.run(step) == 0, action.printed
        assert word in (deployed.root.parent / "job.md").read_text(encoding="utf-8")
    deployed.write("dist/pot/labels.txt", "other")
    assert action.run("run") == 0
    assert action.run("Verdict") == 10


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        ({"command": "rm -rf /"}, 2, "command must be deploy, check or verify"),
        ({"recipes": "nothing/*.yaml"}, 2, "No file here fits 'nothing/*.yaml'"),
        ({"recipes": "$(touch pwned)*.yaml"}, 2, "No file here fits '$(touch pwned)*.yaml'"),
    ],
)
def test_inputs_that_cannot_be_used(
    runner: Any, world: World, inputs: dict[str, str], code: int, message: str
) -> None:
    action = runner(**inputs)
    assert action.run("find") == code
    assert f"::error title=yolodeploy::{message}" in action.printed
    assert not (world.root / "pwned").exists()


def test_a_fork_may_not_comment_but_still_gets_its_verdict(runner: Any, world: World) -> None:
    action = runner(token="")
    world.write("summary.md", "figures")
    action.outputs["run"] = {"summary": str(world.root / "summary.md")}
    (world.root.parent / "temp/yolodeploy").mkdir()
    assert action.run("Comment on the pull request") == 0
    assert "::warning title=yolodeploy::The comment could not be written" in action.printed
