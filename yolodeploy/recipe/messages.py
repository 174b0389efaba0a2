"""Word validation errors: the value, what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolodeploy.system import quotable

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from yolodeploy.recipe.yaml_file import Document, Loc


_MAX_LINES = 20
NAME = "^[a-z0-9][a-z0-9._-]*$"
SHA256 = "^[0-9a-f]{64}$"
VERSION = r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$"
PART = "^[0-9]{1,3}/[0-9]{1,3}$"
_PATTERNS = {
    NAME: "must be lower-case letters, digits, `.`, `_` or `-`, beginning with a letter or digit",
    SHA256: "must be a sha256: 64 lower-case hex digits",
    PART: 'must be a part of so many, such as "1/2"',
    VERSION: 'must be a version, such as "16" or "17.4"',
}
_REASONS = {  # by the types of errors in Pydantic, with their `ctx`
    "dict_type": "must be a mapping",
    "float_type": "must be a number",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "is_instance_of": "must be a path",
    "less_than_equal": "must be at most {le:g}",
    "model_type": "must be a mapping",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must not be empty",
    "tuple_type": "must be a list, each entry beginning with `- `",
}


def describe_errors(
    found: ValidationError, document: Document, model: type[BaseModel], prefix: Loc = ()
) -> str:
    """Describe each error in one line: file, line and column, the value, what is allowed, the likely intent."""
    errors = found.errors()
    told = [error for error in errors if not _is_implied(error, errors)]
    lines = [_describe(error, document, model, prefix) for error in told[:_MAX_LINES]]
    more = len(told) - _MAX_LINES
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def _is_implied(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list counts as too short only because its entries are wrong."""
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
        allowed = [*_fields_at(model, loc[:-1]), *([] if prefix or loc[1:] else ["extends"])]
        return f"{at}: unknown key `{quotable(loc[-1])}`.{suggestion(str(loc[-1]), allowed)}"
    if kind == "missing":
        return f"{at}: `{key}` is missing{_purpose(model, loc)}"
    hint = ""
    if kind == "literal_error":
        choices = re.findall("'([^']*)'", error["ctx"]["expected"])
        hint = suggestion(str(error["input"]), choices)
    elif kind == "model_type":
        hint = suggestion(str(error["input"]), _fields_at(model, loc))
    elif kind == "string_type" and isinstance(error["input"], int | float):
        hint = f' Quote it: "{error["input"]}".'
    return f"{at}: `{key}{_value(error)}` {_reason(error)}.{hint}"


def _reason(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if reason := _REASONS.get(error["type"]):
        return reason.format(**context)
    return re.sub("^Input should be", "must be", str(error["msg"]))


def _value(error: Mapping[str, Any]) -> str:
    """`: value` as YAML writes it; nothing for a mapping or a list, which the position shows."""
    value = error["input"]
    if isinstance(value, dict | list):
        return ""
    if value is None or isinstance(value, bool):
        return f": {json.dumps(value)}"
    if isinstance(value, str) and error["type"].endswith(("_type", "_parsing")):
        return f': "{quotable(value)}"'
    return f": {quotable(value)}"


def _purpose(model: type[BaseModel], loc: Loc) -> str:
    """What a missing key is for, from the description of its field."""
    field = _fields_at(model, loc[:-1]).get(str(loc[-1]))
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
    """Close a message: name the nearest allowed word, if there is one, then all of them."""
    options = list(allowed)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    guess = f" Perhaps you meant `{near[0]}`." if near else ""
    return f"{guess} Allowed: {', '.join(options)}." if options else guess
