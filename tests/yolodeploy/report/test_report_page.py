"""What the page says: the verdict, every figure or why there is none, and nothing that a name could smuggle in."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from made_up import EVIL, full, pictures, with_names
from markupsafe import escape
from world import World

from yolodeploy.report import report_page
from yolodeploy.report.page.verdict import verdict
from yolodeploy.tasks import Key

TASKS = ("detect", "segment", "pose", "obb", "classify")


@pytest.fixture(scope="module")
def report(fired: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((fired / "world/dist/pot/report.json").read_text())
    return found


def test_the_first_line_says_what_ships_and_whether_it_passed(report: dict[str, Any]) -> None:
    ok, failed, unsure = ({"verdict": word} for word in ("ok", "FAILED", "UNDECIDED"))
    device = report["target"]["title"]
    words = (
        ([], f"ships for {device}. The recipe asks for no check."),
        ([ok], f"ships for {device}: 1 of 1 check passed."),
        ([ok, failed, unsure], f"does not ship for {device}: 1 of 3 checks failed."),
        ([ok, unsure], f"ships for {device} although 1 of 2 checks could not be decided."),
    )
    for checks, sentence in words:
        assert verdict({**report, "checks": checks}).sentence.endswith(sentence)
    assert verdict({**report, "checks": [ok]}).word == "Passed"


@pytest.mark.parametrize("task", TASKS)
def test_pictures_of_every_task_mark_what_differs(report: dict[str, Any], task: str) -> None:
    changed = full(report)
    changed["model"] = {**report["model"], "task": task}
    if task == "classify":
        share = {"confidence": [0, 1], "accuracy": [0.5, 1], "share": [1, 0]}
        changed["curves"] = {name: {"confidence": share} for name in ("source", "artifact")}
    page = report_page(changed, (), pictures(task, 12, name=EVIL, image=EVIL))
    assert (
        page.count("data:image/jpeg;base64,") == 12
    )  # each image once, although three panels show it
    right = "✓ " if task == "classify" else ""
    assert page.count("≠ changed: ") == 1  # every mark is explained
    assert f"✕ {right}{escape(EVIL)}" in page
    assert f"+ {right}{escape(EVIL)}" in page
    assert "3 more that differ" in page
    assert "3 images spread over all of them" in page
    assert "<script" not in page
    assert "style=" not in page.replace("<style>", "")
    for title in ("Precision over recall", "Accuracy over confidence"):
        assert (title in page) == ((task == "classify") == title.startswith("Accuracy"))


def test_names_are_escaped_wherever_they_stand(report: dict[str, Any]) -> None:
    changed = full(with_names(report, "red", EVIL))
    changed |= {"name": EVIL, "notes": [EVIL]}
    changed["bytes_by_layer"][0] |= {"layer": EVIL, "form": EVIL, "part": EVIL}
    changed["target"] = {**report["target"], "title": EVIL}
    changed["interface"]["layers"][EVIL] = EVIL
    page = report_page(changed)
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("&lt;script&gt;") > 8


def test_no_name_turns_the_figures_behind_it(report: dict[str, Any]) -> None:
    marks = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
    changed = full(with_names(report, "red", f"red{marks}"))
    changed |= {"name": marks, "notes": [marks], "target": {**report["target"], "title": marks}}
    page = report_page(changed, (), pictures("detect", name=f"cat{marks}", image=marks))
    assert not set(marks) & set(page)
    assert "cat\ufffd" in page


def test_what_is_missing_is_said(report: dict[str, Any]) -> None:
    page = report_page({**report, "curves_reason": "the images have no labels", "curves": None})
    assert "Not measured: the images have no labels." in page
    assert "No pictures: " in page
    bare = {key: value for key, value in report.items() if not key.startswith("curves")}
    for key in ("latencies", "bytes_by_layer", "bytes_by_layer_reason"):
        bare.pop(key, None)
    assert report_page(bare).count("The report does not have them: an older release wrote it.") == 3


def test_ten_thousand_classes_stay_a_page(report: dict[str, Any]) -> None:
    row = next(m for m in report["measures"] if m["key"] == Key.CLASS_AP)
    rows = [
        {**row, "group": f"class {number}", "source": 0.5, "artifact": 0.5 - number / 30_000}
        for number in range(10_000)
    ]
    others = [m for m in report["measures"] if m["key"] != Key.CLASS_AP]
    page = report_page({**report, "measures": [*others, *rows]})
    assert len(page) < 500_000
    assert "The 20 of 10000 classes that lost most" in page
    assert "class 9999 (" in page
    assert "report.json has the other 9500" in page


def _oldest(report: dict[str, Any]) -> dict[str, Any]:
    """As the first releases wrote it."""
    old = copy.deepcopy(report)
    for name in ("notes", "model", "scores", "curves", "curves_reason", "latencies"):
        old.pop(name, None)
    for name in ("place", "batch", "waited", "climate"):
        old["conditions"].pop(name, None)
    for row in old["chain"]:
        row["map50_95"] = row.pop("score")
        for name in ("host", "runtime", "fidelity"):
            row.pop(name)
    for measure in old["measures"]:
        measure.pop("confidence")
    old["measures"] = [m for m in old["measures"] if m["key"] != Key.PEAK_MEMORY]
    old["checks"] = [{"name": "size_mb", "value": 0.04, "limit": 1.0, "ok": True, "note": ""}]
    old["measures"].append({"key": "of_a_later_release", "group": "", "artifact": 1.0})
    return old


def test_a_report_of_another_release_is_shown_with_what_it_has(report: dict[str, Any]) -> None:
    page = report_page(_oldest(report))
    assert "1 of 1 check passed." in page
    assert f'<dd class="figure">{report["artifact"]["bytes"] / 1e6:.2f} MB</dd>' in page
    assert "an older release wrote it" in page
    assert "of_a_later_release" not in page


def test_the_command_writes_the_page_of_a_bundle_again(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    before = deployed.state()
    result = deployed.run("report", "dist/pot", "--open")
    page = deployed.root / "reports/pot.html"
    assert result.code == 0, result.err
    assert result.out.startswith("page: reports/pot.html\n")
    assert opened == [page.as_uri()]
    written = page.read_text(encoding="utf-8")
    assert written == (deployed.bundle / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in written
    assert deployed.state() == before
    plain = deployed.run("report", "dist/pot", "--no-images", "-o", "plain.html", "--json")
    assert "pictures: left out, as --no-images says" in plain.json["missing"]
    assert "data:image/jpeg" not in (deployed.root / "plain.html").read_text(encoding="utf-8")


def test_the_command_shows_a_report_alone_and_a_bundle_that_was_changed(deployed: World) -> None:
    old = _oldest(json.loads((deployed.bundle / "report.json").read_text()))
    deployed.write("old.json", json.dumps({**old, "name": "../../up"}))
    result = deployed.run("report", "old.json")
    assert result.code == 0, result.err
    assert "not in it: pictures: there is a report alone, without its bundle" in result.out
    assert (deployed.root / "reports/_.._up.html").is_file()
    (deployed.bundle / "labels.txt").write_text("others\n")
    (deployed.bundle / "pictures.json").write_text("{}")
    result = deployed.run("report", "dist/pot", "-o", "page.html")
    assert result.code == 0, result.err
    assert "dist/pot is not what was deployed: " in result.err
    assert "pictures: pictures.json cannot be read: it lacks format" in result.out


def test_the_page_of_a_deployment_that_failed(world: World) -> None:
    world.recipe(extra="checks: {size_mb: 0.001}\n")
    world.write("failed.json", world.deploy("--json").out)
    result = world.run("report", "failed.json", "-o", "failed.html")
    assert result.code == 0, result.err
    page = (world.root / "failed.html").read_text(encoding="utf-8")
    assert '<p class="verdict failed">' in page
    assert "does not ship for" in page


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("data", "data is not a bundle: neither it nor a folder in it has a manifest.json. Name"),
        ("nowhere", "nowhere does not exist. Name a bundle such as dist/NAME, or a report.json."),
        (
            "data/data.yaml",
            "data/data.yaml: cannot be read as a report: it is not JSON (line 1, column 1)",
        ),
        ("torn", "torn: neither its manifest.json nor a report.json is a file. Deploy again."),
        ("model.bin", "model.bin: cannot be read as a report: it is not a text file"),
        ("list.json", "list.json: cannot be read as a report: it is not a JSON object"),
        (
            "other.json",
            "other.json: its report is not one that this release can show (it has no 'artifact').",
        ),
        ("wrong.json", "wrong.json: its report is not one that this release can show ("),
        (
            "endless.json",
            "endless.json: its report is not one that this release can show (Overflow",
        ),
        ("nan.json", "nan.json: its report is not one that this release can show (ValueError("),
    ],
)
def test_what_is_no_bundle_is_refused(deployed: World, argument: str, problem: str) -> None:
    (deployed.root / "torn").mkdir()
    (deployed.root / "torn/manifest.json").symlink_to("nowhere")
    deployed.write("list.json", "[]")
    deployed.write("model.bin", b"\x80")
    deployed.write("other.json", '{"name": "x"}')
    deployed.write("wrong.json", '{"artifact": {"bytes": 1}, "checks": 5, "measures": "no"}')
    deployed.write("endless.json", '{"artifact": {"bytes": 1e999}}')
    report = json.loads((deployed.bundle / "report.json").read_text())
    report["curves"]["source"]["precision_recall"]["precision"][0] = float("nan")
    deployed.write("nan.json", json.dumps(report))
    result = deployed.run("report", argument)
    assert result.code == 10
    assert result.error.startswith(problem)


def test_a_page_never_lands_in_the_bundle(deployed: World) -> None:
    result = deployed.run("report", "dist/pot/report.json", "-o", "dist/pot/report.html")
    assert "lies in the bundle, which must stay as it was deployed" in result.error
