"""The page of all keys of a recipe, from the JSON Schema that editors use."""

from __future__ import annotations

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
    parts = [INTRODUCTION, "## Top level", _table(schema, schema, blocks)]
    for name, keys in blocks.items():
        block = schema["$defs"][name]
        parts += [
            f"## {', '.join(f'`{key}`' for key in keys)} {{#{name.lower()}}}",
            sentence(block.get("description", "")),
            _table(schema, block, blocks),
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


def _table(schema: Schema, block: Schema, blocks: dict[str, list[str]]) -> str:
    required = block.get("required", [])
    rows = [
        (
            f"`{key}`",
            _takes(key, field, blocks),
            default(field, required=key in required),
            _meaning(schema, field),
        )
        for key, field in block["properties"].items()
    ]
    return table(_HEADER, rows)


def _takes(key: str, field: Schema, blocks: dict[str, list[str]]) -> str:
    """What a key takes, with links to blocks; long lists are on pages of their own."""
    words = allowed(field)
    if key == "device" or (key == "target" and "," in words):
        return "a [device](devices.md)" + (", or [mapping](#target)" if key == "target" else "")
    for name in blocks.keys() & _references(field):
        words = words.replace(f"`{name}`", f"[mapping](#{name.lower()})")
    return "list of [steps](steps.md)" if key == "steps" else words


def _meaning(schema: Schema, field: Schema) -> str:
    """The description of a key, or else of the block that it holds."""
    blocks = (schema["$defs"][name].get("description", "") for name in _references(field))
    return sentence(field.get("description") or next(blocks, ""))
