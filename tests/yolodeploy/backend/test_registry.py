"""Broken plugins are reported and leave the others working."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from world import World

from yolodeploy.backend.registry import load_registry

GOOD = """
from yolodeploy.backend import Device, Params, Step
NAME = "mine"
STEPS = ()
DEVICES = ()
def versions(): return {}
def problem(): return None
def refuse(step, params, target): return None
def open(artifact, target, threads): ...
def describe(artifact): ...
"""
BROKEN = {
    "import error": (
        "import no_such_toolchain",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such_toolchain'",
    ),
    "syntax error": ("def", "cannot be imported: SyntaxError: invalid syntax (mine.py, line 1)"),
    "exits": ("raise SystemExit(2)", "cannot be imported: SystemExit: 2"),
    "missing member": (
        GOOD.replace("def refuse", "def refuze"),
        "has no `refuse` of the type that yolodeploy/backend/contract.py requires",
    ),
    "member of another kind": (
        GOOD + "problem = 'none'",
        "has no `problem` of the type that yolodeploy/backend/contract.py requires",
    ),
    "name no text": (
        GOOD + "NAME = 5",
        "has no `NAME` of the type that yolodeploy/backend/contract.py requires",
    ),
    "duplicate name": (GOOD + "NAME = 'kiln'", "mine uses the NAME `kiln` of another plugin"),
    "duplicate device": (
        GOOD + "DEVICES = [Device('kiln-a', 'x', 'y')]",
        "offers the device `kiln-a`, which `kiln` offers already",
    ),
    "steps of another kind": (
        GOOD + "STEPS = ['export']",
        "has STEPS that are not all `yolodeploy.backend.Step`s with subclasses of `Params`",
    ),
    "params of another kind": (
        GOOD + "STEPS = [Step('s', 'a', 'b', None, None)]",
        "has STEPS that are not all `yolodeploy.backend.Step`s with subclasses of `Params`",
    ),
    "devices of another kind": (
        GOOD + "DEVICES = ['phone']",
        "has DEVICES that are not all `yolodeploy.backend.Device`s",
    ),
}


def install(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third-party distribution with a plugin `mine`."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[yolodeploy.backends]\nzz-mine = mine\n")
    (folder / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin(
    world: World, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, reason = BROKEN[case]
    install(tmp_path / "third", text, monkeypatch)
    result = world.run("backends")
    assert result.code == 0
    assert f"zz-mine      BROKEN: {reason}\n" in result.out
    registry = load_registry()
    assert registry.broken == {"zz-mine": reason}
    assert list(registry.backends) == ["clay", "kiln", "oven"]
    assert world.run("check", "pot.yaml").code == 0
    assert "zz-mine" in world.run("doctor").out
    world.recipe(("kiln-a", "phone"))
    assert world.run("check", "pot.yaml").error == (
        "pot.yaml:8:1: no installed backend ships to `phone`. Allowed: kiln-a, kiln-b, oven-x. "
        f"Plugin `zz-mine` {reason}."
    )


@pytest.mark.parametrize("member", ["problem", "versions"])
def test_a_plugin_that_cannot_answer(
    world: World, tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "third", GOOD + f"def {member}(): raise OSError('no reply')", monkeypatch)
    result = world.run("backends", "--json")
    rows = {row["name"]: row for row in result.json["backends"]}
    assert rows["mine"]["problem"] == "cannot say whether it works: OSError: no reply"
    assert rows["kiln"]["problem"] is None
    assert "mine" in world.run("doctor").out


def test_backends_and_devices(world: World) -> None:
    result = world.run("backends", "--json").json
    assert result["broken"] == []
    rows: dict[str, Any] = {row["name"]: row for row in result["backends"]}
    assert rows["kiln"] == {
        "name": "kiln",
        "problem": None,
        "steps": ["export: clay -> brick", "press: brick -> brick"],
        "devices": ["kiln-a", "kiln-b"],
        "versions": {"kiln": "2.0"},
    }
    assert rows["oven"]["problem"].startswith("oven not installed.")
    assert world.run("devices", "--json").json[0] == {
        "name": "kiln-a",
        "title": "Kiln A (2021)",
        "backend": "kiln",
        "os": "KilnOS",
        "os_min": "3",
        "os_max": "5",
        "features": ["fire"],
        "generic": False,
        "gpus": [],
        "source": "",
    }
    lines = world.run("devices").out.splitlines()
    assert lines[0] == "kiln:"
    assert lines[1].split() == ["kiln-a", "KilnOS", "3-5", "Kiln", "A", "(2021)"]
    assert "KilnOS 4+" in lines[2]
    assert lines[3:5] == ["", "oven:"]


def _resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return part


def test_schema_names_steps_and_devices(world: World) -> None:
    schema = json.loads(world.run("schema").out)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["additionalProperties"] is False
    target = schema["properties"]["target"]["anyOf"]
    assert target[0] == {"enum": ["kiln-a", "kiln-b", "oven-x"]}
    step = _resolve(schema, schema["properties"]["steps"]["items"])
    assert step["anyOf"][0] == {"enum": ["bake", "export", "press", "teach", "trim"]}
    press = schema["$defs"]["kiln.press"]
    assert press["properties"]["method"]["enum"] == ["flat", "round"]
    assert press["additionalProperties"] is False
    refs = [value.removeprefix("#/$defs/") for value in _refs(schema)]
    assert set(refs) <= schema["$defs"].keys()


def test_schema_lets_a_recipe_that_extends_leave_anything_out(world: World) -> None:
    schema = json.loads(world.run("schema").out)
    for block in ("Model", "Data", "Target"):
        assert not schema["$defs"][block].get("required"), block


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for inner in value.values() for ref in _refs(inner)]
    return [ref for inner in value for ref in _refs(inner)] if isinstance(value, list) else []


def test_schema_to_a_file(world: World) -> None:
    result = world.run("schema", "-o", "s.json")
    assert (result.code, result.out, result.err) == (0, "", "s.json written\n")
    assert (world.root / "s.json").read_text() == world.run("schema").out
    assert world.run("schema", "-o", ".vscode/s.json").code == 0  # as docs/how-to/editor.md has it
    assert (world.root / ".vscode/s.json").read_text() == (world.root / "s.json").read_text()
    result = world.run("schema", "-o", "s.json/s.json")
    assert (result.code, result.error) == (4, "s.json: cannot be created: File exists")
