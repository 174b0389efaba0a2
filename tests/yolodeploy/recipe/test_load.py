"""The recipe: every error is reported with its position, the value, what is allowed, and the remedy."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
from world import WEIGHTS, World

WEIGHTS_SHA256 = hashlib.sha256(json.dumps(WEIGHTS).encode()).hexdigest()
MODELS = "Allowed: weights, sha256, loader, imgsz, head, preprocess, classes."
WRONG: dict[str, tuple[list[tuple[str, str]], int, str]] = {
    "typo in a block": (
        [("imgsz: 64", "imgzs: 64")],
        2,
        f"pot.yaml:3:3: unknown key `imgzs`. Perhaps you meant `imgsz`. {MODELS}",
    ),
    "unknown block": (
        [("target:", "taget:")],
        2,
        (
            "pot.yaml:1:1: `target` is missing: the device to ship to\n"
            "pot.yaml:8:1: unknown key `taget`. Perhaps you meant `target`. "
            "Allowed: name, model, data, target, steps, checks, seed, search, extends."
        ),
    ),
    "nothing alike": (
        [("imgsz: 64", "zzz: 64")],
        2,
        f"pot.yaml:3:3: unknown key `zzz`. {MODELS}",
    ),
    "deep": (
        [("{split: val}", "{splitt: val}")],
        2,
        "pot.yaml:6:16: unknown key `splitt`. Perhaps you meant `split`. Allowed: split, images, part.",
    ),
    "quoted number": (
        [("imgsz: 64", 'imgsz: "64"')],
        2,
        'pot.yaml:3:3: `model.imgsz: "64"` must be a whole number, or [height, width].',
    ),
    "not a multiple": (
        [("imgsz: 64", "imgsz: 65")],
        2,
        "pot.yaml:3:3: `model.imgsz: 65` is not a multiple of 32: use 64 or 96.",
    ),
    "not a multiple, in a pair": (
        [("imgsz: 64", "imgsz: [736, 720]")],
        2,
        (
            "pot.yaml:3:3: `model.imgsz` has the width 720, which is not a multiple of 32: "
            "use 704 or 736."
        ),
    ),
    "a pair of one": (
        [("imgsz: 64", "imgsz: [64]")],
        2,
        "pot.yaml:3:3: `model.imgsz` must be a whole number, or [height, width].",
    ),
    "a size too large": (
        [("imgsz: 64", "imgsz: [64, 4128]")],
        2,
        "pot.yaml:3:3: `model.imgsz` has the width 4128, which must be at most 4096.",
    ),
    "boolean": (
        [("imgsz: 64", "imgsz: true")],
        2,
        "pot.yaml:3:3: `model.imgsz: true` must be a whole number, or [height, width].",
    ),
    "a head that is none": (
        [("imgsz: 64", "head: one2one")],
        2,
        "pot.yaml:3:3: `model.head.kind: one2one` must be 'one-to-one' or 'one-to-many'. Perhaps you meant "
        "`one-to-one`. Allowed: one-to-one, one-to-many.",
    ),
    "no classes": (
        [("imgsz: 64", "classes: []")],
        2,
        "pot.yaml:3:3: `model.classes` must not be empty.",
    ),
    "a class twice": (
        [("imgsz: 64", "classes: [red, blue, red]")],
        2,
        "pot.yaml:3:3: `classes` names `red` twice. Remove one.",
    ),
    "a class that is a number": (
        [("imgsz: 64", "classes: [red, 7]")],
        2,
        'pot.yaml:3:18: `model.classes.1: 7` must be text. Quote it: "7".',
    ),
    "block is a word": (
        [("target: kiln-a", "target: 5")],
        2,
        "pot.yaml:8:1: `target: 5` must be a device name, or `device:` and `os:`.",
    ),
    "steps is a mapping": (
        [("  - export: {precision: fp16}\n  - press: {strength: 0.25}\n", "  export: {}\n")],
        2,
        "pot.yaml:9:1: `steps` must be a list, each entry beginning with `- `.",
    ),
    "no steps": (
        [("  - export: {precision: fp16}\n  - press: {strength: 0.25}\n", "  []\n")],
        2,
        "pot.yaml:9:1: `steps` must not be empty.",
    ),
    "several errors at once": (
        [("imgsz: 64", "imgsz: 0"), ("{split: train}", "{images: 0}"), ("kiln-a", "{os: 16}")],
        2,
        (
            "pot.yaml:3:3: `model.imgsz: 0` must be at least 32.\n"
            "pot.yaml:7:17: `data.calibration.images: 0` must be at least 1.\n"
            "pot.yaml:8:1: `target.device` is missing: "
            "a device name; `yolodeploy devices` lists them\n"
            'pot.yaml:8:10: `target.os: 16` must be text. Quote it: "16".'
        ),
    ),
    "two steps in one entry": (
        [("{precision: fp16}\n  - press", "{precision: fp16}\n    press")],
        2,
        (
            "pot.yaml:10:5: an entry of `steps` must be one step, but here are 2: export, press. "
            "Begin each with its own `- `."
        ),
    ),
    "parameters are a word": (
        [("export: {precision: fp16}", "export: fp16")],
        2,
        (
            "pot.yaml:10:5: the parameters of `export` must be a mapping, such as "
            "`export: {name: value}`, not `fp16`."
        ),
    ),
    "parameter typo": (
        [("precision: fp16", "precison: fp16")],
        2,
        (
            "pot.yaml:10:14: unknown key `precison`. Perhaps you meant `precision`. "
            "Allowed: precision."
        ),
    ),
    "parameter value": (
        [("precision: fp16", "precision: fp61")],
        2,
        (
            "pot.yaml:10:14: `precision: fp61` must be 'fp32' or 'fp16'. Perhaps you meant `fp16`. "
            "Allowed: fp32, fp16."
        ),
    ),
    "parameter range": (
        [("strength: 0.25", "strength: 7")],
        2,
        "pot.yaml:11:13: `strength: 7` must be at most 1.",
    ),
    "infinite": (
        [("strength: 0.25", "strength: .nan")],
        2,
        "pot.yaml:11:13: `strength: nan` must be a finite number.",
    ),
    "unknown step": (
        [("- export:", "- exprot:")],
        3,
        (
            "pot.yaml:10:5: there is no step `exprot`. Perhaps you meant `export`. "
            "Allowed: export, press, teach, trim."
        ),
    ),
    "step of another backend": (
        [("- press: {strength: 0.25}", "- bake")],
        3,
        (
            "pot.yaml:11:5: `bake` is a step of oven, but the device is served by kiln. "
            "Remove it or choose another device."
        ),
    ),
    "step that gains nothing": (
        [("- press: {strength: 0.25}", "- glaze: {colour: red}")],
        3,
        (
            "pot.yaml:11:5: `glaze` gains nothing here: a kiln fires glazed bricks as long as plain "
            "ones. Remove it."
        ),
    ),
    "parameter that gains nothing": (
        [("{strength: 0.25}", "{strength: 0.25, speed: 3}")],
        3,
        "pot.yaml:11:29: `speed` gains nothing here: a kiln presses at one speed. Remove it.",
    ),
    "misplaced": (
        [
            ("  - export: {precision: fp16}\n", ""),
            ("{strength: 0.25}\n", "{}\n  - export"),
        ],
        3,
        (
            "pot.yaml:10:5: `press` takes a `brick`, but here the model is a `clay`. "
            "Move it after `export`."
        ),
    ),
    "no export": (
        [("  - export: {precision: fp16}\n", "")],
        3,
        (
            "pot.yaml:10:5: `press` takes a `brick`, but here the model is a `clay`. "
            "Put `export` before it."
        ),
    ),
    "twice": (
        [("{precision: fp16}", "{}\n  - export")],
        3,
        (
            "pot.yaml:11:5: `export` takes a `clay`, but here the model is a `brick`. "
            "Remove it, or move it to where the model has that format."
        ),
    ),
    "not exported": (
        [("  - export: {precision: fp16}\n  - press: {strength: 0.25}", "  - trim")],
        3,
        "pot.yaml:9:1: the last step leaves a `clay`, which no device runs. End with `export`.",
    ),
    "needs calibration": (
        [("  calibration: {split: train}\n", "")],
        3,
        "pot.yaml:10:5: `press` needs calibration images. Add `data: calibration:` to the recipe.",
    ),
    "refused by the backend": (
        [("strength: 0.25", "method: round")],
        3,
        "pot.yaml:11:5: Kiln A (2021) cannot press `round`. Write method: flat.",
    ),
    "unknown device": (
        [("kiln-a", "kiln-c")],
        3,
        (
            "pot.yaml:8:1: no installed backend ships to `kiln-c`. Perhaps you meant `kiln-b` or `kiln-a`. "
            "Allowed: kiln-a, kiln-b, oven-x."
        ),
    ),
    "OS too old": (
        [("kiln-a", '{device: kiln-a, os: "2.9"}')],
        3,
        (
            "pot.yaml:8:26: Kiln A (2021) never ran KilnOS 2.9; it starts at 3. "
            'Write os: "3" or leave `os` out.'
        ),
    ),
    "OS too new": (
        [("kiln-a", '{device: kiln-a, os: "6"}')],
        3,
        (
            "pot.yaml:8:26: Kiln A (2021) cannot run KilnOS 6; its last is 5. "
            'Write os: "5" or an older one.'
        ),
    ),
    "OS without versions": (
        [("kiln-a", '{device: oven-x, os: "6"}'), ("\n  - press: {strength: 0.25}", "")],
        3,
        "pot.yaml:8:26: Oven X has no OS versions to choose from. Leave `os` out.",
    ),
    "OS is no version": (
        [("kiln-a", "{device: kiln-a, os: latest}")],
        2,
        'pot.yaml:8:26: `target.os: latest` must be a version, such as "16" or "17.4".',
    ),
    "weights missing": (
        [("model.clay", "modle.clay")],
        5,
        "pot.yaml:2:3: the weights file modle.clay does not exist",
    ),
    "weights of another kind": (
        [("model.clay", "model.onnx")],
        3,
        "pot.yaml:2:3: no installed backend loads `model.onnx`. Loadable: .clay.",
    ),
    "weights a number": (
        [("model.clay", "5")],
        2,
        "pot.yaml:2:3: `model.weights: 5` must be a path.",
    ),
    "pin of another file": (
        [("imgsz: 64", "sha256: " + "a" * 64)],
        5,
        (
            f"pot.yaml:3:3: model.clay has sha256 {WEIGHTS_SHA256}, not the pinned one. "
            "Restore the file, or change the pin if the new weights are meant."
        ),
    ),
    "pin too short": (
        [("imgsz: 64", "sha256: abc")],
        2,
        "pot.yaml:3:3: `model.sha256: abc` must be a sha256: 64 lower-case hex digits.",
    ),
    "data missing": (
        [("data/data.yaml", "dat/data.yaml")],
        6,
        "pot.yaml:5:3: the data set cannot be used.\ndat/data.yaml: no such file",
    ),
    "split missing": (
        [("{split: val}", "{split: vall}")],
        6,
        (
            "pot.yaml:5:3: the data set cannot be used.\n"
            "data/data.yaml:1:1: there is no split `vall`. Perhaps you meant `val`. "
            "Allowed: train, val."
        ),
    ),
    "too many images": (
        [("{split: val}", "{images: 7}")],
        6,
        (
            "pot.yaml:5:3: the data set cannot be used.\n"
            "data/data.yaml: the recipe asks for 7 images of `val`, which has 6. "
            "Ask for fewer, or leave `images` out to take all."
        ),
    ),
    "one calibration image": (
        [("{split: train}", "{split: train, images: 1}")],
        6,
        (
            "pot.yaml:11:5: 1 calibration image says nothing about the range of activations. Name more "
            "under `data: calibration:`; 32 to 64 are usual."
        ),
    ),
    "overlap": (
        [("{split: train}", "{split: val, images: 2}")],
        6,
        (
            "pot.yaml:7:3: data/images/val/val002.png is both a calibration and an evaluation image, "
            "so the measured accuracy would flatter. Choose another split or fewer images."
        ),
    ),
}


WRONG |= {
    "name too long": (
        [("model:", f"name: {'x' * 101}\nmodel:")],
        2,
        f"pot.yaml:1:1: `name: {'x' * 57}...` must have at most 100 characters.",
    ),
    "too many steps": (
        [("  - press: {strength: 0.25}\n", "  - press\n" * 64)],
        2,
        "pot.yaml:9:1: `steps` must have at most 64 entries.",
    ),
    "thousands of wrong steps": (
        [
            (
                "  - export: {precision: fp16}\n  - press: {strength: 0.25}\n",
                "  [" + "1, " * 19_000 + "]\n",
            )
        ],
        2,
        "\n".join(
            f"pot.yaml:10:{3 * n + 4}: an entry of `steps` must be a step's name, alone or with its parameters, not `1`."
            for n in range(20)
        )
        + "\nand 18980 more",
    ),
    "unknown keys": (
        [("target:", "".join(f"k{n}: 1\n" for n in range(25)) + "target:")],
        2,
        "\n".join(
            f"pot.yaml:{8 + n}:1: unknown key `k{n}`. Allowed: name, model, data, target, steps, checks, "
            "seed, search, extends."
            for n in range(20)
        )
        + "\nand 5 more",
    ),
    "more values than a recipe has": (
        [("target:", "a: [" + "1, " * 20_000 + "]\ntarget:")],
        2,
        "pot.yaml:8:59972: a file may hold at most 20,000 values",
    ),
    "a value of two lines": (
        [("model.clay", '"x\\nok: y"')],
        2,
        "pot.yaml:2:12: `x\\nok: y` must be one line of at most 4,096 characters",
    ),
    "a value of many words": (
        [("kiln-a", "a " * 3000)],
        2,
        f"pot.yaml:8:9: `{('a ' * 29)[:57]}...` must be one line of at most 4,096 characters",
    ),
    "a key of two lines": (
        [("imgsz: 64", '"img\\nsz": 64')],
        2,
        "pot.yaml:3:3: a key must be on one line",
    ),
    "a list where a step is": (
        [("press: {strength: 0.25}", "[" + "a b, " * 100 + "]")],
        2,
        (
            "pot.yaml:11:5: an entry of `steps` must be a step's name, alone or with its parameters, "
            f"not `{str(['a b'] * 100)[:57]}...`."
        ),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_recipe(world: World, case: str) -> None:
    changes, code, message = WRONG[case]
    world.recipe(*changes)
    result = world.run("check", "pot.yaml")
    assert result.error == message
    assert (result.code, result.out) == (code, "")
    assert not world.cache.exists() or not list(world.cache.glob("objects/*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "pot.yaml:1:1: a recipe must be a mapping with `model:`, `data:`, `target:` and `steps:`",
        ),
        (
            "- a\n",
            "pot.yaml:1:1: a recipe must be a mapping with `model:`, `data:`, `target:` and `steps:`",
        ),
        ("1: x\nmodel: {}\n", None),
    ],
)
def test_not_a_recipe(world: World, text: str, message: str | None) -> None:
    world.write("pot.yaml", text)
    result = world.run("deploy", "pot.yaml")
    assert result.code == 2
    if message:
        assert result.error == message
    else:
        assert "pot.yaml:1:1: unknown key `1`." in result.error


def test_missing_recipe(world: World) -> None:
    for command in ("check", "plan", "build", "deploy"):
        result = world.run(command, "no.yaml")
        assert (result.code, result.error) == (2, "no.yaml: no such file")


def test_name_from_file_must_fit(world: World) -> None:
    world.recipe(name="My Pot.yaml")
    result = world.run("check", "My Pot.yaml")
    assert result.code == 2
    assert result.error == (
        "My Pot.yaml:1:1: `name: My Pot` must be lower-case letters, digits, `.`, `_` or `-`, "
        "beginning with a letter or digit."
    )


def test_weights_is_a_folder(world: World) -> None:
    (world.root / "model.clay").unlink()
    (world.root / "model.clay").mkdir()
    result = world.run("check", "pot.yaml")
    assert (result.code, result.error) == (
        5,
        "pot.yaml:2:3: the weights file model.clay is a folder",
    )


def test_pin_that_fits(world: World) -> None:
    digest = world.plan().weights_digest
    world.recipe(("imgsz: 64", f"sha256: {digest}"))
    assert world.run("check", "pot.yaml").code == 0


def test_extends_merges_blocks_and_keeps_each_files_paths(world: World) -> None:
    world.recipe(
        ("model.clay", "../model.clay"), ("data/data", "../data/data"), name="base/base.yaml"
    )
    world.write("pyproject.toml", "")  # one project
    world.write("sub/pot.yaml", "extends: ../base/base.yaml\nmodel: {imgsz: 96}\nsteps: [export]\n")
    plan = world.plan("sub/pot.yaml")
    recipe = plan.file.recipe
    assert (recipe.name, recipe.model.imgsz.plain, recipe.target.device) == ("pot", 96, "kiln-a")
    assert recipe.model.weights.resolve() == (world.root / "model.clay").resolve()
    assert [step.name for step in recipe.steps] == ["export"]
    assert str(plan.file.where("model", "imgsz")) == "sub/pot.yaml:2:9"
    assert str(plan.file.where("data", "path")).endswith("base/base.yaml:5:3")
    world.write("sub/pot.yaml", "extends: ../base/base.yaml\nmodel: {weights: here.clay}\n")
    result = world.run("check", "sub/pot.yaml")
    assert result.error == "sub/pot.yaml:2:9: the weights file sub/here.clay does not exist"


def test_a_pair_of_equal_sides_is_the_square(world: World) -> None:
    square = world.plan()
    world.recipe(("imgsz: 64", "imgsz: [64, 64]"))
    assert world.plan().final.id == square.final.id
    ids = [square.final.id]
    for size in ("[64, 96]", "[96, 64]"):
        world.recipe(("imgsz: 64", f"imgsz: {size}"))
        plan = world.plan()
        assert str(plan.file.recipe.model_dump(mode="json")["model"]["imgsz"]) == size
        ids.append(plan.final.id)
    assert len(set(ids)) == 3


def test_extends_has_the_id_of_the_whole_recipe(world: World) -> None:
    before = world.plan().final.id
    world.recipe(name="base.yaml")
    world.write("pot.yaml", "extends: base.yaml\n")
    assert world.plan().final.id == before


EXTENDS = {
    "missing": (
        {"pot.yaml": "name: pot\nextends: no.yaml\n"},
        "pot.yaml:2:1: `extends: no.yaml`: no such file",
    ),
    "itself": (
        {"pot.yaml": "extends: pot.yaml\n"},
        "pot.yaml:1:1: `extends: pot.yaml` leads back to a recipe that is already being read",
    ),
    "cycle": (
        {"pot.yaml": "extends: a.yaml\n", "a.yaml": "x: 1\nextends: ./pot.yaml\n"},
        "a.yaml:2:1: `extends: ./pot.yaml` leads back to a recipe that is already being read",
    ),
    "too long": (
        {"pot.yaml": "extends: 0.yaml\n"}
        | {f"{i}.yaml": f"extends: {i + 1}.yaml\n" for i in range(9)},
        "7.yaml:1:1: a chain of `extends` may have at most 8 links",
    ),
    "a list": (
        {"pot.yaml": "extends: [a.yaml]\n"},
        "pot.yaml:1:1: `extends: ['a.yaml']` must be the path of another recipe",
    ),
    "not a mapping": (
        {"pot.yaml": "extends: a.yaml\n", "a.yaml": "- x\n"},
        "a.yaml:1:1: a recipe must be a mapping with `model:`, `data:`, `target:` and `steps:`",
    ),
    "broken": (
        {"pot.yaml": "extends: a.yaml\n", "a.yaml": "a: 1\na: 2\n"},
        "a.yaml:2:1: `a` is given twice (first on line 1); remove one",
    ),
}


@pytest.mark.parametrize("case", EXTENDS)
def test_bad_extends(world: World, case: str) -> None:
    files, message = EXTENDS[case]
    for name, text in files.items():
        world.write(name, text)
    result = world.run("plan", "pot.yaml")
    assert (result.code, result.error) == (2, message)


def test_a_fault_in_the_extended_file_is_reported_there(world: World) -> None:
    world.recipe(("imgsz: 64", "imgsz: 1"), name="base.yaml")
    world.write("pot.yaml", "extends: base.yaml\nseed: 1\n")
    result = world.run("check", "pot.yaml")
    assert result.error == ("base.yaml:3:3: `model.imgsz: 1` must be at least 32.")


def test_large_recipes_that_extend_each_other_are_merged_at_once(world: World) -> None:
    for depth in range(8):
        keys = "".join(f"k{n}: {{a: {depth}}}\n" for n in range(9_000))
        world.write(f"{depth}.yaml", f"extends: {depth + 1}.yaml\n{keys}")
    world.recipe(name="8.yaml")
    start = time.process_time()
    result = world.run("check", "0.yaml")
    assert (result.code, result.error.splitlines()[-1]) == (2, "and 8980 more")
    assert time.process_time() - start < 20


def test_merging_keeps_the_places_of_what_stays(world: World) -> None:
    world.recipe(name="base.yaml")
    world.write("pot.yaml", "extends: base.yaml\ndata: {evaluation: {split: 5}}\ntarget: {os: 5}\n")
    assert world.run("check", "pot.yaml").error == (
        'pot.yaml:2:21: `data.evaluation.split: 5` must be text. Quote it: "5".\n'
        "pot.yaml:3:1: `target.device` is missing: a device name; `yolodeploy devices` lists them\n"
        'pot.yaml:3:10: `target.os: 5` must be text. Quote it: "5".'
    )


def test_planning_reads_only_the_digest_of_the_weights(world: World) -> None:
    world.write("model.clay", b"\x00 not a model at all")
    assert world.run("check", "pot.yaml").code == 0


def test_check_takes_several_recipes(world: World) -> None:
    world.recipe(name="two.yaml")
    result = world.run("check", "pot.yaml", "two.yaml", "--json")
    seen = {"labelled": 6, "background": 0, "objects": 18, "skipped": {}, "left_out": 0}
    views = {"images": 6, "available": 6, **seen}
    for row, name in zip(result.json, ("pot", "two"), strict=True):
        assert row.pop("views")["evaluation"] == views
        good = {"ok": True, "problem": None, "imgsz": 64, "warnings": []}
        assert row == {"recipe": f"{name}.yaml", "name": name, **good}


def test_check_goes_on_after_a_bad_recipe(world: World) -> None:
    world.recipe(("imgsz: 64", "imgsz: 1"), name="bad.yaml")
    result = world.run("check", "bad.yaml", "pot.yaml")
    assert (result.code, result.out) == (2, "pot.yaml: ok\n")
    assert result.error.splitlines() == [
        "bad.yaml:3:3: `model.imgsz: 1` must be at least 32.",
        "data/data.yaml, `val`: 6 images, 6 with a label file, 0 without objects, 18 objects",
        "data/data.yaml, `train`: 4 images, 4 with a label file, 0 without objects, 12 objects",
    ]


def test_a_name_is_not_inherited(world: World) -> None:
    """Otherwise a child would silently replace its parent's bundle."""
    world.recipe(("model:", "name: jug\nmodel:"), name="jug.yaml")
    world.write("child.yaml", "extends: jug.yaml\nseed: 1\n")
    names = [row["name"] for row in world.run("check", "jug.yaml", "child.yaml", "--json").json]
    assert names == ["jug", "child"]


@pytest.mark.parametrize("path", ["x" * 300 + ".clay", '"a\\0b.clay"'])
def test_a_path_that_is_none(world: World, path: str) -> None:
    world.recipe(("model.clay", path))
    result = world.run("plan", "pot.yaml")
    assert result.code in {2, 5}
    assert "does not exist" in result.error or "NUL character" in result.error


def test_paths_with_spaces_and_unicode(world: World, tmp_path: Path) -> None:
    (world.root / "model.clay").rename(world.root / "mödel naïve.clay")
    world.recipe(("model.clay", "mödel naïve.clay"))
    assert world.run("plan", "pot.yaml").out.startswith(
        "pot: mödel naïve.clay -> Kiln A (2021), 64 x 64 px\n"
    )


def test_what_is_named_in_place_of_a_recipe(world: World) -> None:
    """A folder, weights, and a name without its ending."""
    for name, message in {
        "data": "data is a folder. Name the recipes in it: data/*.yaml",
        "best.pt": (
            "best.pt is not a recipe. `yolodeploy init best.pt` writes recipes for a checkpoint or an ONNX file."
        ),
        "pot": "pot: no such file. Perhaps you meant pot.yaml.",
    }.items():
        found = world.run("check", name)
        assert (found.code, found.error) == (2, message)
