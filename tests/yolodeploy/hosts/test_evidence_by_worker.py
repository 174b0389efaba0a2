"""Evidence from a worker in another process, by the command line: what it says of where it was measured is what is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from world import World


@pytest.fixture
def hosts(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own hosts.toml, with one host."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    file = tmp_path / "yolodeploy" / "hosts.toml"
    file.parent.mkdir()
    folder = tmp_path / "there"
    file.write_text(
        f'[shed]\nkind = "process"\ncommand = ["{sys.executable}"]\nfolder = "{folder}"\n'
    )
    return file


def test_a_host_measures_and_the_bundle_keeps_what_it_found(world: World, hosts: Path) -> None:
    here = world.good("--json").json
    result = world.run("measure", "pot.yaml", "--on", "shed")
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert "accuracy" not in result.err
    assert "measured on shed (" in text
    assert "not on the target device: its system is Linux, not KilnOS" in text
    kept = json.loads((world.bundle / "evidence/shed.json").read_text())
    assert (kept["place"]["host"], kept["conditions"]["runtime"]["host"]) == ("shed", "shed")
    accuracies = [
        [(m["key"], m["artifact"]) for m in measures if m["source"] is not None][:5]
        for measures in (kept["measures"], here["measures"])
    ]
    assert accuracies[0] == accuracies[1]
    alone = world.run("measure", "dist/pot", "--on", "shed")
    assert "golden output max difference 0 " in " ".join(alone.out.split()), alone.err
    told = " ".join(world.run("compare", "dist/pot", "dist/pot/report.json").out.split())
    shed = told.partition("ms on shed (")[2]
    assert "dist/pot " in shed
    assert shed.count("dist/pot ") == 1, told  # with the recipe and alone, on one machine
    verified = world.run("verify", "dist/pot")
    assert (verified.code, "evidence from shed (" in verified.out) == (0, True)


def test_what_one_of_two_equal_machines_found_is_not_told_of_the_other(
    world: World, hosts: Path
) -> None:
    world.good()
    hosts.write_text(hosts.read_text() + hosts.read_text().replace("[shed]", "[barn]"))
    for name in ("shed", "barn"):
        result = world.run("measure", "pot.yaml", "--on", name)
        assert result.code == 0, result.err
        kept = json.loads((world.bundle / f"evidence/{name}.json").read_text())
        assert kept["conditions"]["runtime"]["host"] == name


def test_layers_on_a_host_have_nothing_that_was_measured_here(world: World, hosts: Path) -> None:
    world.run("sensitivity", "pot.yaml", "--map")
    assert world.log.count("alone-a") == 2  # for the noise, and for mAP
    there = world.run("sensitivity", "pot.yaml", "--map", "--on", "shed")
    assert world.log.count("alone-a") == 4, there.err
    assert "measured in kiln 2.0 on shed (" in " ".join(there.out.split())
    written = world.root / "sensitivity"
    place = json.loads((written / "pot.shed.json").read_text())["steps"][0]["place"]
    assert place["host"] == "shed"
    assert " on shed (" in (written / "pot.shed.html").read_text()
    assert " on this machine (" in (written / "pot.html").read_text()


def test_nothing_that_is_not_finite_becomes_evidence(
    world: World, hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good()
    monkeypatch.setenv("BRICK_FAULT", "nan")
    result = world.run("measure", "dist/pot", "--on", "shed")
    assert result.code == 13, result.err
    assert "host `shed`" in result.error
    assert not (world.bundle / "evidence").exists()
    (world.bundle / "labels.txt").write_text("other\n")
    damaged = world.run("measure", "dist/pot", "--on", "shed")
    assert damaged.code == 10
    assert damaged.error.endswith("Deploy again, or bring it back as it was.")


def test_the_command_line_refuses_what_the_host_cannot_prove(world: World, hosts: Path) -> None:
    world.recipe(extra="checks: {latency_ms: 30}\n")
    refused = world.deploy("--on", "shed")
    assert refused.code == 3
    assert "and the host `shed` is not one: its system is Linux, not KilnOS" in refused.error
    assert world.log == []


def test_a_liar_is_refused_by_every_command_that_measures(world: World, hosts: Path) -> None:
    hosts.write_text(hosts.read_text() + 'device = "kiln-b"\n')
    world.good()
    log = world.log
    for command in (("measure", "pot.yaml"), ("measure", "dist/pot"), ("sensitivity", "pot.yaml")):
        result = world.run(*command, "--on", "shed")
        assert result.code == 13, command
        assert "hosts.toml says `device: kiln-b` (Kiln B (2024))" in result.error
    assert world.log == log
