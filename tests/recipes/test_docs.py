"""A setting, step, device or command that is not documented fails here."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

import yolodeploy_onnx
import yolodeploy_ultralytics
from yolodeploy import errors
from yolodeploy.backend.recipe_schema import recipe_schema
from yolodeploy.backend.registry import load_registry
from yolodeploy.cli import main as cli
from yolodeploy.recipe.fields import Checks, Data, Model, Recipe, Target, View

ROOT = Path(__file__).resolve().parents[2]
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
REGISTRY = load_registry()
GENERATED = re.compile(r"^(\.\./)*(reference/\w+\.md|project/.*|decisions/index\.md)$")
"""Pages that only the site has; building it fails if one is missing."""


def shipped():
    return [REGISTRY.backends[name] for name in ("coreml", "ncnn", "onnxruntime", "openvino")]


def sources():
    return [REGISTRY.backends["torch"], yolodeploy_onnx, yolodeploy_ultralytics]


@pytest.mark.parametrize(
    "block", [Recipe, Model, Data, View, Target, Checks], ids=lambda b: b.__name__
)
def test_every_key_is_in_the_recipe_reference_and_described(block):
    for name, field in block.model_fields.items():
        assert f"`{name}`" in RECIPES, f"{block.__name__}.{name} is missing in docs/recipes.md"
        if field.annotation not in {Model, Data, View, Checks, View | None} and name != "target":
            assert field.description, f"{block.__name__}.{name} has no description for the schema"


def test_every_step_parameter_is_in_the_recipe_reference():
    for backend in [*shipped(), *sources()]:
        for step in backend.STEPS:
            assert f"### `{step.name}`" in RECIPES or step.accepts.startswith(".")
            for name in step.params.model_fields:
                assert f"`{name}`" in RECIPES, f"{backend.NAME}.{step.name}.{name}"


def _name(backend):
    return backend.NAME


def test_every_error_kind_is_documented():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.YolodeployError):
            assert kind.kind in text
            assert re.search(rf"\b{kind.exit_code}\b", text)


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = next(a for a in cli.parser()._actions if a.dest == "command").choices
    for name in commands:
        assert f"yolodeploy {name}" in readme, name


def test_committed_schema_is_current():
    committed = json.loads((ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8"))
    registry = type(REGISTRY)({b.NAME: b for b in sorted([*shipped(), *sources()], key=_name)}, {})
    assert committed == recipe_schema(registry), "run: make schema"


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda p: p.stem)
def test_schema_accepts_the_shipped_recipes_and_refuses_a_typo(recipe):
    schema = json.loads((ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    value = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert not list(Draft7Validator(schema).iter_errors(value))
    assert list(Draft7Validator(schema).iter_errors({**value, "chekcs": {}}))


def test_links_between_documents_lead_somewhere():
    for document in [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "models").glob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
            if "://" not in target and not GENERATED.search(target):
                assert (document.parent / target).exists(), f"{document}: {target}"
