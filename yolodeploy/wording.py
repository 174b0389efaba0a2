"""How faults are worded: the value, what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolodeploy.errors import quotable

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from yolodeploy.yamlfile import Document, Loc

MOST_LINES = 20
NAME = "^[a-z0-9][a-z0-9._-]*$"
SHA256 = "^[0-9a-f]{64}$"
VERSION = r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$"
_PATTERNS = {
    NAME: "must be lower-case letters, digits, `.`, `_` or `-`, beginning with a letter or digit",
    SHA256: "must be a sha256: 64 lower-case hex digits",
    VERSION: 'must be a version, such as "16" or "17.4"',
}
_REASONS = {
    "is_instance_of": "must be a path",
    "tuple_type": "must be a list, each entry beginning with `- `",
    "too_short": "must not be empty",
}


def describe_errors(
    fault: ValidationError, document: Document, model: type[BaseModel], prefix: Loc = ()
) -> str:
    """One line per fault: file, line and column, the value, what is allowed, the likely intent."""
    errors = fault.errors()
    told = [error for error in errors if not _implied(error, errors)]
    lines = [_describe(error, document, model, prefix) for error in told[:MOST_LINES]]
    more = len(told) - MOST_LINES
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def _implied(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """A list that is empty only because its entries are wrong."""
    size = len(error["loc"])
    return error["type"] == "too_short" and any(
        other["loc"][:size] == error["loc"] and len(other["loc"]) > size for other in errors
    )


def _describe(
    error: Mapping[str, Any], document: Document, model: type[BaseModel], prefix: Loc
) -> str:
    loc: Loc = error["loc"]
    at = document.where((*prefix, *loc))
    kind, key = error["type"], ".".join(map(str, loc))
    if kind == "value_error":
        return f"{at}: {error['msg'].removeprefix('Value error, ')}."
    if kind in ("extra_forbidden", "invalid_key"):
        allowed = [
            *_fields_at(model, loc[:-1]),
            *(["extends"] if (*prefix, *loc)[1:] == () else []),
        ]
        return f"{at}: unknown key `{quotable(loc[-1])}`.{suggestion(str(loc[-1]), allowed)}"
    if kind == "missing":
        return f"{at}: `{key}` is missing{_purpose(model, loc)}"
    choices = _choices(error) if kind == "literal_error" else _members(error, model)
    hint = suggestion(str(error["input"]), choices) if choices else _quoting(error)
    return f"{at}: `{key}{_value(error)}` {_reason(error)}.{hint}"


def _reason(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind == "string_pattern_mismatch":
        fallback = f"must match {error['ctx']['pattern']}"
        return _PATTERNS.get(error["ctx"]["pattern"], fallback)
    if kind in ("model_type", "dict_type"):
        return "must be a mapping"
    if kind in ("too_long", "string_too_long"):
        unit = "entries" if kind == "too_long" else "characters"
        return f"must have at most {error['ctx']['max_length']} {unit}"
    return _REASONS.get(kind) or re.sub("^Input should be", "must be", str(error["msg"]))


def _quoting(error: Mapping[str, Any]) -> str:
    value = error["input"]
    if error["type"] == "string_type" and isinstance(value, int | float):
        return f' Quote it: "{value}".'
    return ""


def _value(error: Mapping[str, Any]) -> str:
    """`: value` as YAML writes it; nothing for a block, whose lines the position shows."""
    value = error["input"]
    if isinstance(value, dict | list):
        return ""
    if value is None or isinstance(value, bool):
        return f": {json.dumps(value)}"
    if isinstance(value, str) and error["type"].endswith(("_type", "_parsing")):
        return f': "{quotable(value)}"'
    return f": {quotable(value)}"


def _choices(error: Mapping[str, Any]) -> list[str]:
    return re.findall("'([^']*)'", str(error.get("ctx", {}).get("expected", "")))


def _members(error: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    return list(_fields_at(model, error["loc"])) if error["type"] == "model_type" else []


def _purpose(model: type[BaseModel], loc: Loc) -> str:
    """What a missing key is for, from its description."""
    fields = dict(_fields_at(model, loc[:-1]))
    field = fields.get(str(loc[-1]))
    inner = getattr(field, "annotation", None)
    text = getattr(field, "description", None) or getattr(inner, "__doc__", None) or ""
    return f": {text[:1].lower()}{text[1:].rstrip('.')}" if text else ""


def _fields_at(model: type[BaseModel], loc: Iterable[str | int]) -> Mapping[str, Any]:
    from pydantic import BaseModel

    fields: Mapping[str, Any] = model.model_fields
    for name in loc:
        inner = fields[name].annotation if isinstance(name, str) and name in fields else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return fields
        fields = found[0].model_fields
    return fields


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """A closing sentence: the nearest allowed word if there is one, then all of them."""
    options = list(allowed)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    guess = f" Perhaps you meant `{near[0]}`." if near else ""
    return f"{guess} Allowed: {', '.join(options)}." if options else guess
