"""Exit codes: each is documented, and the command line ends with it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

from yolodeploy import errors
from yolodeploy.worker.noise import Ratio

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    kind.exit_code: kind.kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.YolodeployError)
}
Act = Callable[[World, pytest.MonkeyPatch], object]

DEPLOY = ("deploy", "pot.yaml")


def _liar(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is no kiln, though its hosts.toml says so."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda _: str(world.root))
    text = f'kind = "process"\ncommand = ["{sys.executable}"]\ndevice = "kiln-b"\n'
    world.write("hosts.toml", f'[shed]\n{text}folder = "{world.root / "there"}"\n')


PROVOKED: dict[int, tuple[Act, tuple[str, ...]]] = {
    1: (lambda w, _: w.recipe(extra="checks: {size_mb: 0.001}\n"), DEPLOY),
    2: (lambda w, _: w.write("pot.yaml", "model: ["), DEPLOY),
    3: (lambda w, _: w.recipe(("  - export: {precision: fp16}\n", "")), DEPLOY),
    4: (lambda _, m: m.setenv("KILN_PROBLEM", "the kiln is cold."), DEPLOY),
    5: (lambda w, _: w.write("model.clay", "[]"), DEPLOY),
    6: (lambda w, _: (w.root / "data/data.yaml").unlink(), DEPLOY),
    7: (lambda _, m: m.setenv("CLAY_FAULT", "press:raise"), DEPLOY),
    8: (lambda w, _: None, (*DEPLOY, "--locked")),
    9: (lambda w, _: w.write("occupied", ""), (*DEPLOY, "--cache", "occupied")),
    10: (lambda w, _: (w.root / "dist").mkdir(), ("verify", "dist")),
    11: (
        lambda w, m: (w.good(), m.setenv("CLAY_FAULT", "export:clock")),
        ("reproduce", "pot.yaml"),
    ),
    12: (
        lambda w, m: (
            w.recipe(extra="checks: {latency_ratio: 1}\n"),
            m.setattr("yolodeploy.worker.turns.ratio_of", lambda *_: Ratio(1.0, 0.9, 1.1)),
        ),
        DEPLOY,
    ),
    13: (_liar, (*DEPLOY, "--on", "shed")),
    70: (
        lambda _, m: m.setattr("yolodeploy.deployment.label_warnings", lambda *_, **__: 1 / 0),
        DEPLOY,
    ),
    139: (lambda _, m: m.setenv("CLAY_FAULT", "press:segfault"), DEPLOY),
    130: (lambda _, m: m.setenv("CLAY_FAULT", "press:interrupt"), DEPLOY),
}


def test_every_class_of_error_has_a_code_a_row_and_a_way_to_it() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", text, re.MULTILINE)
    assert {int(code): kind for code, kind in rows} == {0: "ok", **KINDS}
    assert len(rows) == len(KINDS) + 1
    assert set(PROVOKED) == set(KINDS)


@pytest.mark.parametrize("code", PROVOKED)
def test_the_command_line_ends_with_the_code(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    act, command = PROVOKED[code]
    act(world, monkeypatch)
    run = world.process if code >= 128 else world.run  # a signal is for a process of its own
    result = run(*command, "-q", "--json")
    assert result.code == code, result.err
    if code == 10:  # a row for each bundle
        assert result.json[0]["faults"]
    elif code == 11:  # and for each recipe
        assert result.json["recipes"][0]["exit_code"] == code
    else:
        assert result.json["error"]["exit_code"] == code
    assert result.err.count("error: ") == 1
    assert "Traceback" not in result.err
