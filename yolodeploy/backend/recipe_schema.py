"""The JSON Schema of recipes, for completion and checking in editors.

It is of draft-07, which editors support best (https://github.com/SchemaStore/schemastore/blob/master/CONTRIBUTING.md), where
Pydantic writes a later one: they differ in the tuples.
"""

from __future__ import annotations

from typing import Any, get_args

from yolodeploy.backend.named_files import loader_options
from yolodeploy.backend.params import Params
from yolodeploy.backend.registry import Registry
from yolodeploy.recipe import NOTHING, Head, Recipe


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Build the schema of a recipe with the registry's steps and devices."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    definitions.pop("StepRequest")
    definitions["Step"] = _steps(registry, definitions)
    definitions["SearchStep"] = _search_steps(registry)
    devices = {"enum": sorted(registry.devices())}
    definitions["Target"]["properties"]["device"].update(devices)
    gpus = {gpu for device in registry.devices().values() for gpu in device.gpus}
    gpu = definitions["Target"]["properties"]["gpu"]
    gpu["anyOf"] = [{"enum": sorted(gpus)}, {"type": "null"}]
    properties = schema["properties"]
    properties["target"] = {"anyOf": [devices, {"$ref": "#/$defs/Target"}]}
    definitions.pop("LoaderRequest")
    definitions["Model"]["properties"]["loader"].update(_loaders(registry))
    head = definitions["Model"]["properties"]["head"]
    head["anyOf"] = [{"enum": list(get_args(Head))}, *head["anyOf"]]
    properties["steps"]["items"] = {"$ref": "#/$defs/Step"}
    for block in ("Model", "Data", "Target"):  # `extends` may supply any of their keys
        definitions[block].pop("required", None)
    properties["extends"] = {
        "type": "string",
        "description": "Another recipe whose values this one starts from.",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:yolodeploy:recipe",
        **{key: _with_plain_tuples(value) for key, value in schema.items()},
        "title": "yolodeploy recipe",
        "required": [],  # `extends` may supply any of them
    }


def _with_plain_tuples(value: Any) -> Any:
    """The part of a schema with `items` in place of `prefixItems`, which draft-07 does not have."""
    if isinstance(value, list):
        return [_with_plain_tuples(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        "items" if key == "prefixItems" else key: _with_plain_tuples(each)
        for key, each in value.items()
    }


def _loaders(registry: Registry) -> dict[str, Any]:
    """Describe `loader`: the name of a plugin that loads weights, or a mapping from it to its options."""
    names, mappings = set[str](), []
    for backend in registry.backends.values():
        for step in backend.STEPS:
            if step.accepts.startswith("."):
                names.add(backend.NAME)
                if options := _options(step.params):
                    mappings.append(_mapping(backend.NAME, options))
    return {"anyOf": [{"enum": sorted(names)}, *mappings, {"type": "null"}]}


def _options(params: type[Params]) -> dict[str, Any]:
    """Describe what a recipe may say to a loader; folders of modules are paths."""
    known = loader_options(params)
    fields = params.model_json_schema()["properties"] if known else {}
    path = {"type": "string"}
    return {
        name: {"description": fields[name]["description"], **(path if is_path else fields[name])}
        for name, is_path in known.items()
    }


def _mapping(name: str, options: dict[str, Any]) -> dict[str, Any]:
    inner = {"properties": options, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {name: {"anyOf": [{"type": "object", **inner}, {"type": "null"}]}},
        "required": [name],
        "additionalProperties": False,
    }


def _search_steps(registry: Registry) -> dict[str, Any]:
    """Describe an entry of the steps to search: a step whose parameters may be open, or several ways to go on."""
    steps = {step.name: step for backend in registry.backends.values() for step in backend.STEPS}
    names = sorted(name for name, step in steps.items() if not step.accepts.startswith("."))
    entry = {"$ref": "#/$defs/SearchStep"}
    way = {"anyOf": [{"const": NOTHING}, entry, {"type": "array", "items": entry}]}
    ways = {"type": "array", "items": way, "minItems": 2}
    closed = {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    known = {name: {"type": ["object", "null"]} for name in names}
    return {"anyOf": [{"enum": names}, {**closed, "properties": {**known, "one_of": ways}}]}


def _steps(registry: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """Describe a step: its name, or a mapping from its name to its parameters."""
    by_name: dict[str, list[dict[str, str]]] = {}
    for backend in registry.backends.values():
        for step in backend.STEPS:
            if step.accepts.startswith("."):
                continue
            title = f"{backend.NAME}.{step.name}"
            params = step.params.model_json_schema(ref_template="#/$defs/{model}")
            definitions.update(params.pop("$defs", {}))
            definitions[title] = {**params, "title": title}
            by_name.setdefault(step.name, []).append({"$ref": f"#/$defs/{title}"})
    mappings = [
        {
            "type": "object",
            "properties": {name: {"anyOf": [*choices, {"type": "null"}]}},
            "required": [name],
            "additionalProperties": False,
        }
        for name, choices in sorted(by_name.items())
    ]
    return {"anyOf": [{"enum": sorted(by_name)}, *mappings]}
