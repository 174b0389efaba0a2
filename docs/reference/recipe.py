"""The page of all keys of a recipe, from the JSON Schema that editors use."""

from __future__ import annotations

from typing import Any

from reference.text import Schema, allowed, default, sentence, table
from yolodeploy.backend import Registry, recipe_schema

INTRODUCTION = """\
# Keys of a recipe

Generated from the [JSON Schema](../recipe.schema.json) that editors complete recipes with. [Recipes](../recipes.md) explains the
keys with examples; [steps](steps.md) has the parameters of each step.
"""
_HEADER = ("key", "takes", "default", "meaning")


def recipe_page(registry: Registry) -> str:
    """Every key of every block."""
    schema = recipe_schema(registry)
    blocks = _blocks(schema)
    parts = [INTRODUCTION, "## Top level", _table(schema, blocks)]
    for name, keys in blocks.items():
        block = schema["$defs"][name]
        parts += [
            f"## {' and '.join(f'`{key}`' for key in keys)} {{#{name.lower()}}}",
            sentence(block.get("description", "")),
            _table(block, blocks),
        ]
    return "\n\n".join(parts) + "\n"


def _blocks(schema: Schema) -> dict[str, list[str]]:
    """The blocks that the schema's keys hold, with the keys that hold them, nested ones after their parents."""
    found: dict[str, list[str]] = {}
    waiting: list[tuple[str, Schema]] = [("", schema)]
    while waiting:
        prefix, block = waiting.pop(0)
        for key, field in block.get("properties", {}).items():
            for name in _references(field):
                inner = schema["$defs"][name]
                if "properties" in inner and "." not in name:
                    if name not in found:
                        waiting.append((f"{prefix}{key}.", inner))
                    found.setdefault(name, []).append(f"{prefix}{key}")
    return found


def _references(field: Schema) -> list[str]:
    refs = [each.get("$ref", "") for each in (field, *field.get("anyOf", []))]
    return [ref.rpartition("/")[2] for ref in refs if ref]


def _table(block: Schema, blocks: dict[str, list[str]]) -> str:
    required = block.get("required", [])
    rows = []
    for key, field in block["properties"].items():
        takes = allowed(field)
        for name in _references(field):
            takes = (
                takes.replace(f"`{name}`", f"[mapping](#{name.lower()})")
                if name in blocks
                else takes
            )
        rows.append(
            (
                f"`{key}`",
                _takes(key, takes),
                default(field, required=key in required),
                _meaning(field),
            )
        )
    return table(_HEADER, rows)


def _takes(key: str, words: str) -> str:
    """What a key takes; long lists are on pages of their own."""
    if key == "device" or (key == "target" and "," in words):
        return "a [device](devices.md)" + (", or [mapping](#target)" if key == "target" else "")
    return "list of [steps](steps.md)" if key == "steps" else words


def _meaning(field: dict[str, Any]) -> str:
    return sentence(field.get("description", ""))
