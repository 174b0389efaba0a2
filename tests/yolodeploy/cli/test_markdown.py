"""`deploy --markdown`: tables for a pull request in which no name does anything."""

from __future__ import annotations

import re

import pytest
from world import World

from yolodeploy.report.markdown import markdown_code


def test_the_figures_of_one_recipe(deployed: World) -> None:
    result = deployed.good("--markdown")
    lines = result.out.splitlines()
    assert lines[0] == "**yolodeploy**: 1 of 1 shipped"
    summary = re.fullmatch(
        r"\| `pot` \| `kiln-a` \| ✅ shipped \| 0\.\d\d \| mAP50-95 \| (.*) \|", lines[4]
    )
    assert summary
    source, now, change, _ = summary[1].split(" | ")
    assert round(float(now) - float(source), 4) == pytest.approx(float(change), abs=1e-4)
    assert lines.count("</details>") == 1
    (where,) = (line for line in lines if line.startswith("Measured in `"))
    assert " on `this machine (" in where
    assert where.endswith("), not on the target device: its system is Linux, not KilnOS`")
    assert result.err == deployed.good().err
    widths = {line.count("|") for line in lines[2:5]}
    assert widths == {10}


def test_a_speed_that_says_nothing_about_the_device_stands_in_no_table(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "runtime:untimed")
    deployed.recipe(name="jug.yaml", extra="name: jug\n")
    result = deployed.deploy("jug.yaml", "--cache", "fresh", "--markdown")
    assert result.code == 0, result.err
    rows = [line for line in result.out.splitlines() if "✅ shipped" in line]
    assert len(rows) == 2
    assert all(row.endswith(" | - |") for row in rows)
    table = deployed.deploy("jug.yaml", "--cache", "fresh").out.splitlines()
    assert all(line.split()[-2] == "-" for line in table[1:3])


def test_what_stops_a_recipe_is_named_and_the_exit_code_stays(deployed: World) -> None:
    deployed.recipe(extra="checks:\n  size_mb: 0.000001\n")
    deployed.recipe(("kiln-a", "kiln-z"), name="other.yaml")
    result = deployed.deploy("other.yaml", "--markdown")
    assert result.code == 3
    assert "**yolodeploy**: 0 of 2 shipped" in result.out
    assert "| ❌ checks failed |" in result.out
    assert re.search(r"\* `pot`: `size_mb` failed: [0-9.]+, at most 1e-06 allowed", result.out)
    assert "| `other.yaml` | - | ❌ plan refused | - |" in result.out
    assert re.search(r"\* `other.yaml`: `+ ?other.yaml:\d+:\d+: .*kiln-z", result.out)
    assert deployed.deploy("--markdown", "--json").code == 2


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("cat", "`cat`"),
        ("a`b", "``a`b``"),
        ("``a", "``` ``a ```"),
        ("a | b\\|c", "`a \\| b\\ \\|c`"),
        ("<b>@all</b> #1\nhttps://x.org", "`<b>@all</b> #1 https://x.org`"),
        ("", ""),
        ("x\u202e", "`x\\u202e`"),
    ],
)
def test_a_name_does_nothing(text: str, span: str) -> None:
    assert markdown_code(text) == span


def test_a_class_with_markup_in_its_name(deployed: World) -> None:
    bad = "|</details><img src=x>@octocat `"
    data = deployed.root / "data/data.yaml"
    for name in ("red", "green", "blue"):
        data.write_text(data.read_text().replace(f" {name}\n", f' "{bad}{name}"\n'))
    deployed.weights(names=[f"{bad}{name}" for name in ("red", "green", "blue")])
    out = deployed.good("--markdown").out
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", out)
    assert "octocat" not in outside
    assert "<img" not in outside
    assert all(
        line.count("|") - line.count("\\|") in (5, 10)
        for line in out.splitlines()
        if line[:1] == "|"
    )
