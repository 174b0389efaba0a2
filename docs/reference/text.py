"""Markdown of generated pages: tables, cells, and what a JSON Schema allows in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
    "null": "nothing",
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every cell becomes one line, and no cell can end another."""
    lines = [_row(header), "|" + "---|" * len(header), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def code(value: object) -> str:
    """A value as a recipe writes it, in a monospaced font."""
    shown = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
    return f"`{shown}`"


def allowed(schema: Schema) -> str:
    """What a schema allows, in words: "`fp32`, `fp16`" or "number, at least 0"."""
    if "anyOf" in schema:
        choices = [allowed(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        return ", or ".join(dict.fromkeys(choices))
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(schema["const"])
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    return ", ".join([_kind(schema), *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    """The limits of a number, of the length of a text or of a list."""
    for low, high, words in (
        ("minimum", "maximum", "{}"),
        ("minItems", "maxItems", "{} entries"),
        ("minLength", "maxLength", "{} characters"),
    ):
        least, most = schema.get(low), schema.get(high)
        if least is not None and least == most:
            yield words.format(f"exactly {least}")
        elif least is not None and most is not None:
            yield words.format(f"{least} to {most}")
        elif most is not None:
            yield words.format(f"at most {most}")
        elif least not in (None, 1) or (low == "minimum" and least is not None):
            yield words.format(f"at least {least}")
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']}"


def _kind(schema: Schema) -> str:
    if schema.get("type") == "array":
        items = schema.get("items")
        items = items[0] if isinstance(items, list) else items  # all of a tuple are alike
        return f"list of {_bracketed(allowed(items))}" if items else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping from names to {_bracketed(allowed(schema['additionalProperties']))}"
    return _KINDS.get(str(schema.get("type")), "any value")


def _bracketed(words: str) -> str:
    return f"({words})" if "," in words else words


def default(schema: Schema, *, required: bool) -> str:
    """The default of a field; empty where leaving it out means something that its description says."""
    if required:
        return "required"
    value = schema.get("default")
    if isinstance(value, dict) or value is None:
        return ""
    return code(f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value)


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a full stop at its end."""
    text = _escaped(" ".join(text.split()))
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def _escaped(text: str) -> str:
    """The text without HTML: `dist/<name>` is no element. Code keeps its characters."""
    parts = text.split("`")
    return "`".join(
        part if place % 2 else part.replace("<", "&lt;").replace("*", r"\*")
        for place, part in enumerate(parts)
    )
