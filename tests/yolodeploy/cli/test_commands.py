"""The command line as a user meets it, and what the core may not contain."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from world import World

import yolodeploy
from yolodeploy.cli import main as cli

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ("check", "plan", "build", "deploy", "backends", "devices", "doctor", "schema", "cache")
ESCAPE = "\x1b"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^    {name} +\w", text, re.MULTILINE), name
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        own = capsys.readouterr().out
        assert re.search(r"\n\n[A-Z][^.]+\.\n\n", own), name  # what it does
        assert "--json" in own
        assert "--cache DIR" in own


@pytest.mark.parametrize("arguments", [[], ["fly"], ["plan"], ["deploy"]])
def test_a_wrong_command_line_is_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: yolodeploy")
    assert re.search(r"^error: .+\. See `yolodeploy.* --help`\.$", said, re.MULTILINE)


def test_a_wrong_command_line_with_json(world: World) -> None:
    result = world.run("deploy", "--json")
    assert result.code == 2
    assert result.json["error"] == {
        "kind": "recipe",
        "exit_code": 2,
        "message": result.error,
    }
    assert result.error == (
        "the following arguments are required: RECIPE. See `yolodeploy deploy --help`."
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"yolodeploy {yolodeploy.__version__}\n"


def test_plan_text_and_json(deployed: World) -> None:
    plan = deployed.plan()
    lines = deployed.run("plan", "pot.yaml").out.splitlines()
    assert lines == [
        "pot: model.clay -> Kiln A (2021), 64 x 64 px",
        f"  cached    {plan.steps[0].id[:12]}  load       -> clay",
        f"  cached    {plan.steps[1].id[:12]}  export     -> brick      precision=fp16",
        f"  cached    {plan.steps[2].id[:12]}  press      -> brick      strength=0.25 method=flat",
        "  cached                  measure    6 images of data/data.yaml",
    ]
    value = deployed.run("plan", "pot.yaml", "--json").json
    assert value.keys() == {
        "name", "device", "backend", "imgsz", "model", "warnings", "steps", "measured", "problem",
    }  # fmt: skip
    assert [step["cached"] for step in value["steps"]] == [True, True, True]
    deployed.recipe(("0.25", "0.5"))
    value = deployed.run("plan", "pot.yaml", "--json").json
    assert [step["cached"] for step in value["steps"]] == [True, True, False]
    assert value["measured"] is False
    assert deployed.log == []


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (
            ["deploy", "pot.yaml"],
            {
                "name",
                "target",
                "backend",
                "imgsz",
                "model",
                "notes",
                "steps",
                "data",
                "artifact",
                "scores",
                "measures",
                "conditions",
                "evidence",
                "bytes_by_layer_reason",
                "chain",
                "curves",
                "latencies",
                "interface",
                "checks",
                "versions",
                "bundle",
            },
        ),
        (["build", "pot.yaml"], {"format", "path", "digest", "bytes", "cached"}),
        (["cache"], {"root", "objects"}),
        (["cache", "verify"], {"checked", "damaged"}),
        (["cache", "prune"], {"removed", "bytes", "in_use"}),
        (["backends"], {"backends", "broken"}),
    ],
)
def test_json_keys(deployed: World, arguments: list[str], keys: set[str]) -> None:
    result = deployed.run(*arguments, "--json")
    assert result.code == 0
    assert result.json.keys() == keys


def test_a_fault_as_json(world: World) -> None:
    result = world.run("deploy", "no.yaml", "--json")
    assert result.json == {
        "error": {"kind": "recipe", "exit_code": 2, "message": "no.yaml: no such file"}
    }
    assert result.error == "no.yaml: no such file"


def test_quiet_and_verbose(deployed: World) -> None:
    table = deployed.good().out
    assert deployed.good("-q").out == table
    deployed.recipe(("0.25", "0.5"))
    quiet = deployed.good("-q")
    assert quiet.err == ""
    deployed.recipe(("0.25", "0.75"))
    assert "press brick ...\nmeasure 6 images ...\n" in deployed.good().err
    verbose = deployed.good("-v").err
    assert "press " in verbose
    assert "press brick" not in verbose


def test_verbose_says_why_each_step_is_reused_or_runs(deployed: World) -> None:
    reused = deployed.good("-v").err.splitlines()
    assert [re.sub(r" [0-9a-f]{12}: .*", "", line) for line in reused[:3]] == [
        "load",
        "export",
        "press",
    ]
    assert re.fullmatch(
        r"press \w{12}: reused, made here on [-0-9]+ [0-9:]+, in [0-9.]+ s", reused[2]
    )
    assert reused[3].startswith("measure: reused, ")
    deployed.recipe(("0.25", "0.5"), ("fp16", "fp32"))  # which was made to compare latencies with
    changed = deployed.run("plan", "pot.yaml", "-v").err.splitlines()
    assert re.match(r"export \w{12}: reused", changed[1])
    assert "other than in pot.lock: params.strength: locked 0.25, now 0.5" in changed[2]
    shutil.rmtree(deployed.cache / "objects")
    deployed.recipe()
    gone = deployed.run("plan", "pot.yaml", "-v").err
    assert "not in the store; pot.lock names it, so it was made elsewhere, or removed since" in gone
    deployed.recipe(("target: kiln-a", "seed: 7\ntarget: kiln-a"))
    seed = deployed.run("plan", "pot.yaml", "-v").err.splitlines()
    assert all("seed: locked 0, now 7" in line for line in seed)
    deployed.lock.unlink()
    assert deployed.run("plan", "pot.yaml", "-v").err.count("not in the store\n") == 3


def test_everything_fits_80_columns(deployed: World) -> None:
    deployed.recipe(extra="checks: {size_mb: 9, map_drop: 0.5, latency_ratio: 90}\n")
    said = [
        deployed.run(*words).out
        for words in (
            ["plan", "pot.yaml"],
            ["deploy", "pot.yaml"],
            ["backends"],
            ["devices"],
            ["cache", "prune"],
        )
    ]
    wide = [line for text in said for line in text.splitlines() if len(line) > 80]
    assert not wide


def test_no_escape_codes_without_a_terminal(world: World) -> None:
    result = world.process("deploy", "pot.yaml")
    assert result.code == 0, result.err
    assert ESCAPE not in result.out + result.err
    begun = [line for line in result.err.splitlines() if line.endswith(" ...")]  # not what was slow
    assert begun == [
        "load clay ...",
        "export brick ...",
        "press brick ...",
        "measure 6 images ...",
        "export brick (fp32, to compare with) ...",
        "measure latency ...",
    ]


def _on_terminal(world: World, command: str, **environment: str) -> tuple[int, str]:
    main, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    process = world.start(command, "pot.yaml", stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    said = b""
    while select.select([main], [], [], 30)[0]:
        try:
            said += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    os.close(main)
    return process.wait(), said.decode()


def test_a_terminal_shows_a_bar(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:slow")
    code, said = _on_terminal(world, "build")
    assert code == 0, said
    assert "━" in said
    assert "export brick" in said
    assert "100%" in said
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", said)


def test_no_color_is_honoured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "export:slow")
    code, said = _on_terminal(world, "deploy", NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38;|9[0-7])[0-9;]*m", said)


def test_closed_output(world: World) -> None:
    command = [sys.executable, "-m", "yolodeploy", "devices"]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command],
        check=False,
        cwd=world.root,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cache_in_nobodys_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLODEPLOY_CACHE", "~nosuchuser/cache")
    result = world.run("cache")
    assert result.code == 9
    assert result.error == (
        "YOLODEPLOY_CACHE=~nosuchuser/cache: there is no such home folder. Name another folder."
    )


ENDS = {  # with which code a command ends, whoever listens
    "--help": 0,
    "devices": 0,
    "plan pot.yaml": 0,
    "plan no.yaml --json": 2,
    "plan no.yaml -v": 2,
    "fly": 2,
    "check no.yaml --json": 2,
    "verify dist/pot --json": 10,
    "reproduce pot.yaml --json": 8,
}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("command", ENDS)
def test_a_reader_that_has_gone(world: World, command: str, stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = world.start(*command.split(), **{stream: writing})
    os.close(writing)
    said = "".join(filter(None, process.communicate(timeout=30)))
    assert process.returncode == ENDS[command]
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.fixture
def full() -> Iterator[IO[str]]:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full to write to")
    with Path("/dev/full").open("w") as file:
        yield file


@pytest.mark.parametrize("command", ["--help", "devices", "verify dist/pot --json"])
def test_an_output_that_is_full(world: World, command: str, full: IO[str]) -> None:
    result = world.process(*command.split(), stdout=full)
    assert result.code == 4
    assert result.err.endswith(
        "error: standard output cannot be written: No space left on device\n"
    )
    assert "Traceback" not in result.err


def test_messages_that_have_no_room(world: World, full: IO[str]) -> None:
    world.good()
    ends = {"fly": 2, "plan no.yaml -v": 2, "verify data": 10, "deploy pot.yaml": 0}
    for command, code in ends.items():
        assert world.process(*command.split(), stderr=full).code == code, command
    assert not (world.cache / "logs").exists()


def test_a_terminal_that_lacks_letters(world: World) -> None:
    world.recipe(name="pot.yaml")
    (world.root / "model.clay").rename(world.root / "mödel.clay")
    world.recipe(("model.clay", "mödel.clay"))
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = world.process("plan", "pot.yaml", env=env)
    assert result.code == 0, result.err
    assert result.out.startswith("pot: m\\xf6del.clay")


def test_a_bug_writes_a_log_and_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("yolodeploy.planning.Planner.plan", broken)
    result = world.run("plan", "pot.yaml")
    assert result.code == 70
    found = re.fullmatch(
        r"unexpected ZeroDivisionError: two lines\. The trace is in (.+); please report it\.",
        result.error,
    )
    assert found
    log = Path(found[1]).read_text()
    assert Path(found[1]).parent == world.cache / "logs"
    assert "in broken" in log
    assert f"yolodeploy {yolodeploy.__version__}" in log
    assert "\ncommand: yolodeploy plan pot.yaml\n" in log
    assert "\nkiln: kiln 2.0" in log
    assert f"--- pot.yaml\n{(world.root / 'pot.yaml').read_text()}" in log
    assert "Traceback" not in result.err
    again = world.run("plan", "pot.yaml", "-q").error
    assert found[1] not in again  # a bug of the same second has a log of its own


def test_the_log_of_a_bug_quotes_what_a_recipe_extends_beside_it_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.planning.Planner.plan", lambda *_, **__: 1 / 0)
    world.write("../secret", "key: value")
    world.write("base.yaml", "extends: '../secret'\nseed: 1\n")
    world.write("more.yaml", "extends: base.yaml\nname: more\n")
    error = world.run("plan", "more.yaml").error
    found = re.search(r"The trace is in (.+); please", error)
    assert found
    log = Path(found[1]).read_text()
    assert "--- base.yaml\nextends: '../secret'\nseed: 1\n" in log
    assert "key: value" not in log


@pytest.mark.parametrize(
    "url",
    ["s3://me:pass/wo@rd@host/store", "https://host/store?sig=password", "http://h/#password"],
)
def test_the_log_of_a_bug_holds_no_secret_and_is_for_its_owner(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(f"cannot reach '{url}'")

    monkeypatch.setattr("yolodeploy.deployment.label_warnings", broken)
    world.recipe(extra=f"# {url}\n")
    error = world.run("build", "pot.yaml", "--store", url).error
    found = re.search(r"The trace is in (.+); please", error)
    assert found
    log = Path(found[1])
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert not re.search("wo@?rd", text + error)
    assert "command: yolodeploy build pot.yaml --store " in text
    assert f"{url.split(':', maxsplit=1)[0]}://" in text


@pytest.mark.parametrize("kind", ["link", "pipe", "outside", "in a text", "no recipe", "folder"])
def test_the_log_of_a_bug_quotes_no_other_file(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("yolodeploy.planning.Planner.plan", lambda *_, **__: 1 / 0)
    secret = world.write("../secret" if kind in ("link", "outside") else "secret", "seed: 12345\n")
    name = {"outside": "../secret", "folder": "sub/secret"}.get(kind, "secret")
    text = f"extends: {name}\n"
    if kind == "link":
        (world.root / "secret").symlink_to(secret)
    elif kind == "pipe":
        secret.unlink()
        os.mkfifo(secret)
    elif kind == "in a text":
        text = 'name: "\nextends: secret\n"\n'
    elif kind == "no recipe":
        secret.write_text("seed: 12345\npassword: x\n")
    else:
        (world.root / "sub").symlink_to(world.root.parent)
    world.write("pot.yaml", text)
    error = world.run("plan", "pot.yaml").error
    found = re.search(r"The trace is in (.+); please", error)
    assert found
    log = Path(found[1]).read_text()
    assert f"--- pot.yaml\n{text}" in log
    assert "12345" not in log


def test_a_bug_with_a_plugin_that_cannot_even_say_its_versions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no plugins today")

    monkeypatch.setattr("yolodeploy.planning.Planner.plan", broken)
    monkeypatch.setattr("yolodeploy.backend.load_registry", broken)
    error = world.run("plan", "pot.yaml").error
    found = re.search(r"The trace is in (.+); please", error)
    assert found
    assert "plugins cannot be listed: OSError: no plugins today" in Path(found[1]).read_text()


def test_memory_that_runs_out_is_no_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.planning.Planner.plan", lambda *_, **__: bytes(1 << 60))
    result = world.run("plan", "pot.yaml")
    assert result.code == 4
    assert result.error.startswith("this machine ran out of memory.")


def test_errors_print_json_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.planning.Planner.plan", lambda *_, **__: 1 / 0)
    result = world.run("plan", "pot.yaml", "--json")
    assert result.json["error"]["exit_code"] == 70


def test_a_bug_with_no_place_for_a_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodeploy.planning.Planner.plan", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("yolodeploy.execution.bug_report._folders", lambda _: [Path("/proc/none")])
    result = world.run("plan", "pot.yaml")
    assert (result.code, result.error) == (
        70,
        (
            "unexpected ZeroDivisionError: division by zero. "
            "The trace could not be saved, because no folder is writable; run again with -v."
        ),
    )


def test_doctor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["what"]: row for row in world.run("doctor", "--json").json}
    assert rows["kiln"] == {"what": "kiln", "finding": "ready", "ok": True}
    assert rows["oven"]["finding"].startswith("oven not installed.")
    assert rows["Python"]["ok"]
    result = world.run("doctor", "--cache", str(world.write("occupied", "x")), "--json")
    assert result.code == 4
    assert not next(row for row in result.json if row["what"] == "store")["ok"]
    assert result.error == (
        "occupied is a file, not a folder. Choose another folder with --cache or --dist."
    )


HEAVY = (
    "torch",
    "numpy",
    "cv2",
    "faster_coco_eval",
    "onnx",
    "scipy",
    "rich",
    "ultralytics",
    "cyclonedx",
    "cryptography",
)
_UNCHANGED = f"""
import sys
from yolodeploy.cli.main import main
assert main(["deploy", "pot.yaml"]) == 0
found = [name for name in {HEAVY} if name in sys.modules]
assert not found, found
"""


@pytest.mark.parametrize(
    "modules", ["yolodeploy.cli.main", "yolodeploy.cli.commands.deploy, yolodeploy.deployment"]
)
def test_the_core_imports_nothing_heavy(modules: str) -> None:
    code = f"import sys, {modules}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_hardly_anything() -> None:
    code = "import sys, yolodeploy.cli.main; print([n for n in ('pydantic', 'yaml') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unchanged_deploy_imports_nothing_heavy(deployed: World) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _UNCHANGED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_core_names_no_backend() -> None:
    for path in (ROOT / "yolodeploy").rglob("*.py"):
        named = re.search("coreml|ncnn|openvino", path.read_text(encoding="utf-8"), re.IGNORECASE)
        assert not named, f"{path}: {named}"


def test_modules_stay_small() -> None:
    for path in (ROOT / "yolodeploy").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_shipped_recipes_fit_the_schema_structurally(world: World) -> None:
    """Every key of every shipped recipe is a property of the schema (jsonschema is not at hand)."""
    import yaml

    from yolodeploy.recipe.fields import Recipe

    schema = json.loads(world.run("schema").out)
    for recipe in (ROOT / "recipes").rglob("*.yaml"):
        value = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        assert value.keys() <= schema["properties"].keys(), recipe
        for block in ("model", "data", "checks"):
            allowed = schema["$defs"][block.capitalize()]["properties"].keys()
            assert value.get(block, {}).keys() <= allowed, recipe
    assert Recipe.model_fields.keys() | {"extends"} == schema["properties"].keys()
