"""Read a small, safe subset of YAML in which every value knows its file, line and column.

Only plain data: mappings, sequences, and scalars by the YAML 1.2 core schema (so `no` is a
string, not a boolean). Anchors, aliases, tags and duplicate keys are refused. Files that were written for
PyYAML are read by its rules, those of YAML 1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yolodeploy.errors import RecipeError, YolodeployError
from yolodeploy.system import quotable, read_plain, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 20_000  # values; a data.yaml may name thousands of classes
_MAX_VALUE = 4096  # characters of a value in a recipe; no path is longer

_MAX_SCALAR = 64  # characters of the longest value that may be a number or a date
Loc = tuple[str | int, ...]
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan,
}  # fmt: skip


@dataclass(frozen=True)
class Position:
    """A position in a file; line and column count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}:{self.column}"


@dataclass
class Document:
    """A loaded file: its plain value, and the position of every key and item."""

    file: Path
    value: Any
    positions: dict[Loc, Position] = field(default_factory=dict)

    def where(self, loc: Loc) -> Position:
        """Find the position of a value, or of its nearest ancestor that is in the file."""
        for end in range(len(loc), -1, -1):
            if loc[:end] in self.positions:
                return self.positions[loc[:end]]
        return Position(self.file, 1, 1)


def load_yaml(
    path: Path,
    error_class: type[YolodeployError] = RecipeError,
    *,
    short: bool = False,
    pyyaml: bool = False,
) -> Document:
    """Read a YAML file; raises `error_class` with file, line and column for anything wrong.

    With `short`, every value must be one line of at most 4096 characters. With `pyyaml`, scalars are read by the
    rules of YAML 1.1, and bytes that are no UTF-8 or not printable are left out, as Ultralytics does.
    """
    text = _read(path, error_class, strict=not pyyaml)
    if pyyaml:
        text = yaml.reader.Reader.NON_PRINTABLE.sub("", text)
    document = Document(path, None)
    try:
        _Builder(document, error_class, short, _pyyaml_scalar if pyyaml else _core_scalar).build(
            iter(yaml.parse(text, Loader=Loader))
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(path, mark.line + 1, mark.column + 1) if mark else Position(path, 1, 1)
        raise error_class(f"{at}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="replace")
        at = Position(path, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise error_class(
            f"{at}: not valid YAML: {error.reason} (#x{error.character:04x})"
        ) from None
    return document


def _read(path: Path, error_class: type[YolodeployError], *, strict: bool) -> str:
    name = shown(path)
    try:
        raw = read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        raise error_class(f"{name}: no such file") from None
    except OSError as error:
        raise error_class(f"{name}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # not a path at all
        raise error_class(f"{name}: cannot be read: {error}") from None
    try:
        return raw.decode("utf-8-sig", "strict" if strict else "ignore")
    except UnicodeDecodeError:
        raise error_class(f"{name}: not a text file; it must be encoded as UTF-8") from None


def scalar_readings(text: str) -> frozenset[str]:
    """The texts that a plain YAML scalar may become: as it stands, by YAML 1.1, and by YAML 1.2."""
    return frozenset({text, str(_pyyaml_scalar(text)), str(_core_scalar(text))})


def _core_scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _pyyaml_scalar(text: str) -> object:
    if len(text) > _MAX_SCALAR:
        return text
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (
        ValueError,
        OverflowError,
        yaml.YAMLError,
    ):  # a date that does not exist; a lone `=` or `<<`
        return text


class _Builder:
    """Builds the value from the parser's events, so that depth and size are bounded and aliases refused."""

    def __init__(
        self,
        document: Document,
        error_class: type[YolodeployError],
        short: bool,
        scalar: Callable[[str], object],
    ) -> None:
        self._document = document
        self._scalar = scalar
        self._error_class = error_class
        self._short = short
        self._nodes = 0

    def build(self, events: Iterator[yaml.Event]) -> None:
        """Consume the events of one document."""
        for event in events:
            if isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                continue
            if isinstance(event, yaml.StreamEndEvent):
                return
            if isinstance(event, yaml.DocumentEndEvent):
                break
            self._document.value = self._node(event, events, ())
        if not isinstance(extra := next(events), yaml.StreamEndEvent):
            raise self._error(extra, "a second document begins here; a file may hold only one")

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> object:
        self._document.positions.setdefault(loc, self._at(event))
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._error(event, "anchors and aliases are not supported; write the value out")
        if getattr(event, "tag", None) is not None:
            tag = quotable(event.tag)  # type: ignore[attr-defined]
            raise self._error(
                event, f"tags such as `{tag}` are not supported; write the plain value"
            )
        if len(loc) > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(event, f"a file may hold at most {MAX_NODES:,} values")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, loc)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, loc)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - the only kind that is left
        if self._short and ("\n" in event.value or len(event.value) > _MAX_VALUE):
            limit = f"must be one line of at most {_MAX_VALUE:,} characters"
            raise self._error(event, f"`{quotable(event.value)}` {limit}")
        return event.value if event.style else self._scalar(event.value)

    def _mapping(self, events: Iterator[yaml.Event], loc: Loc) -> dict[str | int, object]:
        result: dict[str | int, object] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event)
            if key in result:
                line = self._document.positions[(*loc, key)].line
                text = f"`{quotable(key)}` is given twice (first on line {line}); remove one"
                raise self._error(event, text)
            self._document.positions[(*loc, key)] = self._at(event)
            result[key] = self._node(next(events), events, (*loc, key))
        return result

    def _sequence(self, events: Iterator[yaml.Event], loc: Loc) -> list[object]:
        result: list[object] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            result.append(self._node(event, events, (*loc, len(result))))
        return result

    def _key(self, event: yaml.Event) -> str | int:
        if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
            raise self._error(event, "a key must be a plain word, without an anchor or a tag")
        if "\n" in event.value:
            raise self._error(event, "a key must be on one line")
        value = event.value if event.style else self._scalar(event.value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            return str(event.value)
        return value

    def _error(self, event: yaml.Event, message: str) -> YolodeployError:
        return self._error_class(f"{self._at(event)}: {message}")

    def _at(self, event: yaml.Event) -> Position:
        mark = event.start_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return Position(self._document.file, line + 1, column + 1)
