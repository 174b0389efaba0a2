"""`yolodeploy compare`: bundles beside each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import World

import yolodeploy as yd
from yolodeploy.comparison.differences import differences
from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.page import comparison_page
from yolodeploy.comparison.reading import read_subjects
from yolodeploy.comparison.sides import side_by_side
from yolodeploy.tasks import Pictures, read_pictures

PUNCTUATION = '<img src=x onerror="alert(1)">|*cup*'


@pytest.fixture
def two(deployed: World) -> World:
    """Two bundles of the same model and data: `pot`, and `firm`, which is pressed less."""
    deployed.recipe(("strength: 0.25", "strength: 0.5"), name="firm.yaml")
    found = deployed.run("deploy", "firm.yaml")
    assert found.code == 0, found.err
    return deployed


def change(folder: str, **changes: Any) -> Path:
    """The report of a bundle as a file of its own, with some of it replaced."""
    report = json.loads(Path(folder, "report.json").read_text())
    report.update(changes)
    file = Path(f"{Path(folder).name}-changed.json")
    file.write_text(json.dumps(report))
    return file


def test_a_folder_of_bundles_is_one_table(two: World) -> None:
    found = two.run("compare", "dist")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert lines[0] == "detect, 6 images, source model 0.9720"
    assert [line.replace("*", "").split()[:3] for line in lines[2:4]] == [
        ["firm", "0.01", "0.9720"],
        ["pot", "0.01", "0.9720"],
    ]
    assert max(map(len, lines)) <= 80
    assert "  step press.strength" in lines
    assert "    0.25: pot" in lines
    assert "    0.5: firm" in lines
    assert "target.device" not in found.out  # the same
    assert "tool " not in found.out


def test_the_front_is_of_those_that_one_app_could_ship(two: World) -> None:
    report = json.loads(Path("dist/pot/report.json").read_text())
    artifact = {**report["artifact"], "bytes": report["artifact"]["bytes"] + 1}
    larger = change("dist/pot", name="larger", artifact=artifact)
    value = two.run("compare", "dist/pot", str(larger), "--json").json
    (group,) = value["groups"]
    assert {each["label"]: each["front"] for each in group["artifacts"]} == {
        "pot": True,
        "larger": False,
    }
    other = change("dist/firm", name="other", backend="oven")
    value = two.run("compare", "dist/pot", str(other), "--json").json
    assert [each["front"] for each in value["groups"][0]["artifacts"]] == [None, None]


def test_other_models_data_and_tasks_are_apart(two: World) -> None:
    report = json.loads(Path("dist/pot/report.json").read_text())
    data = {"evaluation": {**report["data"]["evaluation"], "digest": "f" * 64}}
    other = change("dist/pot", name="elsewhere", data=data)
    found = two.run("compare", "dist/pot", "dist/firm", str(other))
    assert found.code == 0
    assert "(other evaluation images: not compared with the above)" in (" ".join(found.out.split()))
    value = two.run("compare", "dist/pot", "dist/firm", str(other), "--json").json
    assert [len(group["artifacts"]) for group in value["groups"]] == [2, 1]


def test_latencies_of_two_machines_are_not_one_list(two: World) -> None:
    report = json.loads(Path("dist/pot/report.json").read_text())
    conditions = report["conditions"]
    conditions["place"] = {**conditions["place"], "cpu": "Cortex-A76"}
    other = change("dist/pot", name="arm", conditions=conditions)
    out = two.run("compare", "dist/firm", str(other)).out
    assert "ms on Cortex-A76: arm " in out
    assert out.count("ms on ") == 2


def test_the_same_recipe_twice_is_told_apart_by_its_folder(two: World) -> None:
    shutil.copytree("dist/pot", "before/pot")
    artifacts = two.run("compare", "before", "dist/pot", "dist/pot", "--json").json["groups"][0][
        "artifacts"
    ]
    assert [each["label"] for each in artifacts] == ["before/pot", "dist/pot"]


def test_what_cannot_be_read_is_a_sentence_and_the_rest_is_compared(two: World) -> None:
    Path("dist/firm/labels.txt").write_text("nothing\n")
    two.write("mine.json", json.dumps({"name": "mine", "target": [], "measures": 3}))
    found = two.run("compare", "dist", "mine.json", "nowhere", "data")
    assert found.code == 10
    told = found.err.splitlines()
    assert told[0].startswith(
        "error: dist/firm is not what was deployed and is left out: labels.txt was changed"
    )
    assert told[1] == (
        "error: mine.json is not a report.json that yolodeploy wrote, and is left out: its lists of measures or checks are damaged."
    )
    assert told[2].startswith("error: nowhere does not exist. Name bundles")
    assert told[3].startswith(
        "error: data is not a bundle: neither it nor a folder in it has a manifest.json. Name bundles"
    )
    assert "  pot " in found.out
    assert two.run("compare", "nowhere").code == 10


def test_a_figure_that_is_none_is_said(deployed: World) -> None:
    report = json.loads(Path("dist/pot/report.json").read_text())
    for value in (10**400, -(10**400), 1e300, True, "0.5"):
        measures = [
            [{**row, key: value} for row in report["measures"]] for key in ("artifact", "loss")
        ]
        cases = [{"measures": rows} for rows in measures] + [{"artifact": {"bytes": value}}]
        for changes in cases:
            found = deployed.run("compare", str(change("dist/pot", **changes)))
            assert found.code == 10, found.err
            assert found.error.startswith(
                "pot-changed.json is not a report.json that yolodeploy wrote"
            )


def test_every_artifact_has_a_label_of_its_own(deployed: World) -> None:
    """A bundle, its own report, and that of a stranger whose name is the path of the bundle."""
    other = change("dist/pot", name="dist/pot")
    value = deployed.run("compare", "dist/pot", "dist/pot/report.json", str(other), "--json").json
    labels = [each["label"] for each in value["groups"][0]["artifacts"]]
    assert labels == ["dist/pot", "dist/pot/report.json", "pot-changed.json"]


def test_names_of_any_length_become_names_of_files(deployed: World) -> None:
    found = deployed.run("report", str(change("dist/pot", name="\u540d" * 200)))
    assert found.code == 0, found.err
    found = deployed.run("report", "dist/pot", "-o", "x" * 300)
    assert (found.code, "cannot be written: File name too long" in found.error) == (4, True)


def test_half_of_a_character_is_no_name(deployed: World) -> None:
    for command in ("compare", "report"):
        found = deployed.run(command, str(change("dist/pot", name="\ud83d")))
        assert "it has half of a character, which no other file can hold" in found.error
    whole = deployed.run("compare", str(change("dist/pot", name="\U0001f600")))  # as two escapes
    assert "\U0001f600" in whole.out


def test_a_path_that_is_too_long_is_a_wrong_path(deployed: World) -> None:
    name = "x" * 300
    told = {"compare": 10, "report": 10, "verify": 10, "measure": 10, "inspect": 5, "init": 5}
    for command, code in told.items():
        assert deployed.run(command, name).code == code


def test_recipes_that_are_nested_deeply_are_compared(deployed: World) -> None:
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"a": deep}
    subject = replace(read_subjects([Path("dist/pot")])[0][0], recipe={"target": deep})
    other = replace(subject, recipe={"target": {"a": {}}})
    found = next(differences(["one", "two"], [subject, other]))
    assert found.field.startswith("target.a.a.a")


def test_an_older_report_is_compared_by_what_it_has(two: World) -> None:
    report = json.loads(Path("dist/pot/report.json").read_text())
    for key in ("model", "scores", "chain", "evidence", "notes"):
        del report[key]
    report["conditions"] = {"cpu": "an old one"}
    two.write("old.json", json.dumps({**report, "name": "old"}))
    found = two.run("compare", "old.json")
    assert found.code == 0, found.err
    assert found.out.startswith("detect, source model 0.9720\n")
    assert "ms on an old one: old " in found.out
    assert (
        "old: a report alone says neither its recipe nor its pictures; name the bundle for these"
        in (" ".join(found.out.split()))
    )


def test_markdown_leaves_nothing_of_a_name_to_be_read_as_markup(two: World) -> None:
    other = change("dist/pot", name=PUNCTUATION)
    out = two.run("compare", "dist/firm", str(other), "--markdown").out
    row = next(line for line in out.splitlines() if "onerror" in line)
    cells = row.replace("\\|", "").split("|")
    assert len(cells) == 11
    assert cells[2].strip() == f"`{PUNCTUATION}`".replace("|", "")


def test_ten_bundles_need_no_heavy_library(two: World) -> None:
    for number in range(9):
        shutil.copytree("dist/pot", f"many/pot{number}")
    code = (
        "import sys; from yolodeploy.cli.main import main\n"
        "code = main(['compare', 'many', 'dist', '-q'])\n"
        "print(code, sorted({'torch', 'numpy', 'cv2', 'pydantic', 'jinja2'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"


def test_the_page_shows_the_same_images_and_escapes_every_name(two: World) -> None:
    other = change("dist/pot", name=PUNCTUATION)
    found = two.run("compare", "dist", str(other), "-o", "page.html")
    assert found.code == 0, found.err
    page = Path("page.html").read_text()
    assert "The same images through all of them" in page
    assert "&lt;img src=x" in page
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("<image") == len(
        json.loads(Path("dist/pot/pictures.json").read_text())["pictures"]
    )
    assert "firm, fidelity" in page


def renamed(found: Pictures) -> Pictures:
    """The same with markup in the names of images and classes."""
    some = []
    for picture in found.pictures:
        shapes = {
            kind: tuple(replace(shape, name=PUNCTUATION) for shape in getattr(picture, kind))
            for kind in ("truth", "source", "artifact")
        }
        some.append(replace(picture, image=PUNCTUATION, **shapes))
    return Pictures(found.task, tuple(some))


def test_pictures_of_classes_with_markup_in_their_names(two: World, tmp_path: Path) -> None:
    (subject, *_), _ = read_subjects([Path("dist/pot")])
    entries = []
    for label in ("one", "other"):
        file = tmp_path / f"{label}.json"
        file.write_bytes(renamed(read_pictures(Path("dist/pot/pictures.json"))).encoded())
        entries.append(Entry(label, replace(subject, pictures=file), best=None))
    shown, notes = side_by_side(entries)
    assert notes == []
    assert [panel.title.split(",")[0] for panel in shown[0].panels][-2:] == ["one", "other"]
    assert all(not shape.mark for panel in shown[0].panels[:-2] for shape in panel.shapes)
    page = comparison_page([Group(entries, [])], ["<b>"])
    assert "<img" not in page
    assert "&lt;b&gt;" in page


def test_damaged_pictures_are_said_and_the_rest_is_shown(two: World, tmp_path: Path) -> None:
    (subject, *_), _ = read_subjects([Path("dist/pot")])
    file = tmp_path / "pictures.json"
    file.write_text("[]")
    page = comparison_page(
        [Group([Entry("pot", replace(subject, pictures=file), best=None)], [])], []
    )
    assert "pictures.json cannot be read: " in page


def test_a_page_is_not_written_into_a_bundle(two: World) -> None:
    found = two.run("compare", "dist", "-o", "dist/pot/compare.html")
    assert found.code == 4
    assert found.error.startswith("dist/pot/compare.html: lies in a bundle")
    assert two.run("verify", "dist/pot").code == 0


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(ValueError, match="an empty list: name at least one bundle"):
        yd.compare([])
