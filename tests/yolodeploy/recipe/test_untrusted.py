"""Hostile content in the files that the core reads."""

from __future__ import annotations

import json

import pytest
import yaml
from world import World

from yolodeploy.backend.model_info import ModelInfo
from yolodeploy.errors import StepFailed, YolodeployError

# Every tag that PyYAML's unsafe loaders give a meaning to.
TAGS = sorted(
    tag
    for loader in (yaml.UnsafeLoader, yaml.FullLoader)
    for table in (loader.yaml_constructors, loader.yaml_multi_constructors)
    for tag in table
    if tag
)


def test_there_are_tags_to_refuse() -> None:
    assert "tag:yaml.org,2002:python/object/apply:" in TAGS
    assert len(TAGS) > 25


@pytest.mark.parametrize("value", ["[touch canary]", "{a: b}", "touch canary"])
def test_no_tag_means_anything(world: World, value: str) -> None:
    for tag in TAGS:
        name = f"{tag}os.system" if tag.endswith(":") else tag
        world.write("pot.yaml", f"model: !<{name}> {value}\n")
        result = world.run("check", "pot.yaml")
        assert (result.code, result.error) == (
            2,
            f"pot.yaml:1:8: tags such as `{name}` are not supported; write the plain value",
        )
        assert not (world.root / "canary").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "model: {<<: {weights: x}}\n",
        "seed: " + "9" * 100_000,
        "seed: 1e999",
        "seed: .nan",
        "seed: -.inf",
        "seed: 0x10",
        "model: {weights: " + "x" * 500_000 + "}",
        "'" * 200_000,
        "? " * 50_000,
        "- " * 50_000,
        "{" * 50_000,
        "a: " * 50_000,
        "[a,\n" * 30,
        "seed: 1\n" * 2,
        'target: {device: kiln-a, os: "' + "1" * 5000 + '"}',
        'target: "\\e[2J\\n\\0\\ud800"',
    ],
    ids=lambda text: text[:24],
)
def test_text_that_swells_or_means_nothing(world: World, text: str) -> None:
    world.write("pot.yaml", text)
    result = world.run("check", "pot.yaml")
    assert result.code == 2, result.err
    assert len(result.error) < 4000


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe\x00", b"\xfe\xff\x00a", b"a: \xc3", b"a: \x00b", b"a: \x1b[2J"]
)
def test_bytes_that_are_no_text(world: World, raw: bytes) -> None:
    world.write("pot.yaml", raw)
    assert world.run("check", "pot.yaml").code == 2


def test_a_byte_order_mark_is_no_part_of_the_text(world: World) -> None:
    path = world.recipe()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert world.run("check", "pot.yaml").code == 0


def test_no_message_steers_the_terminal(world: World) -> None:
    world.recipe(("kiln-a", '"kiln\\e]0;x\\a\\r"'))
    result = world.run("check", "pot.yaml")
    assert result.code == 3
    assert "`kiln\\u001b]0;x\\u0007\\u000d`" in result.error
    assert not {"\x1b", "\x07", "\r"}.intersection(result.err)


def test_no_message_turns_the_direction_of_text(world: World) -> None:
    world.recipe(("kiln-a", '"kiln\\u202e\\u2066\\u2028"'))
    result = world.run("check", "pot.yaml")
    assert "`kiln\\u202e\\u2066\\u2028`" in result.error


def test_json_stays_json_whatever_a_name_holds(world: World) -> None:
    """U+009B starts a terminal command, and JSON does not escape it."""
    world.recipe(("kiln-a", '"kiln\\x9b2J"'))
    result = world.run("plan", "pot.yaml", "--json")
    assert "\x9b" not in result.out
    assert result.json["error"]["exit_code"] == 3


def test_json_of_a_file_name_with_control_characters(world: World) -> None:
    result = world.run("verify", "dist/\x9b2J", "--json")
    assert "\x9b" not in result.out
    assert result.json[0]["bundle"] == "dist/\x9b2J"


@pytest.mark.parametrize("version", ["9" * 4000, "1.2.3.4.5", "12345"])
def test_versions_have_few_digits(world: World, version: str) -> None:
    world.recipe(("target: kiln-a", f'target: {{device: kiln-a, os: "{version}"}}'))
    result = world.run("check", "pot.yaml")
    assert result.code == 2
    assert "must be a version" in result.error


@pytest.mark.parametrize("change", [["a", "b"], [[1]], [], None, 3, {"a": 1}])
def test_lock_whose_lists_hold_something_else(deployed: World, change: object) -> None:
    lock = json.loads(deployed.lock.read_text())
    lock["steps"][1]["params"] = {"strength": change, "precision": [change, change]}
    lock["steps"][0]["name"] = [change] * 3
    lock["data"] = [change]
    deployed.lock.write_text(json.dumps(lock))
    result = deployed.deploy("--locked")
    assert result.code == 8
    assert "does not describe this build" in result.error


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"task": 1, "names": [], "strides": [], "parameters": 1}',
     '{"task": "detect", "names": "ab", "strides": [8.5], "parameters": 1}', "\ud800"],
)  # fmt: skip
def test_info_that_is_none(world: World, text: str) -> None:
    world.write("info.json", text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StepFailed, match=r"info\.json is damaged"):
        ModelInfo.read(world.root)


def test_a_message_shows_only_the_beginning_of_an_endless_word() -> None:
    assert len(str(YolodeployError("x" * 100_000))) < 600
    assert str(YolodeployError("a " * 3000)) == "a " * 3000
