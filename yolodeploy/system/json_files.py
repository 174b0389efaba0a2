"""Write JSON in one form, read JSON of unknown origin within bounds, and read plain data as typed values."""

from __future__ import annotations

import functools
import json
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from yolodeploy.system.files import read_plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_T = TypeVar("_T")

_MAX_BYTES = 8 << 20
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a surrogate pair, perhaps without its other half


def encoded(value: object) -> bytes:
    """Encode plain data as the JSON of bundles: indented by one, no NaN."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def shown_json(value: object) -> str:
    """Format plain data as JSON for people; values that JSON does not know are shown as text."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


def write_json(path: Path, value: object) -> None:
    """Write plain data as a JSON file of a bundle."""
    path.write_bytes(encoded(value))


def read_json(file: Path, *, links: bool = False) -> dict[str, Any]:
    """Read a JSON object of at most 8 MiB; raises ValueError with the reason, or OSError.

    A link to a file is only followed if `links` is set.
    """
    if not links and not stat.S_ISREG(file.lstat().st_mode):
        raise ValueError("it is a link or a device, not a file")
    try:
        text = read_plain(file, _MAX_BYTES).decode("utf-8")
        raw = json.loads(text)
        if _HALF.search(text):
            json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it has half of a character, which no other file can hold") from None
    except UnicodeDecodeError:
        raise ValueError("it is not a text file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - the file's text is wrong
    return raw


def adapter(kind: type[_T]) -> TypeAdapter[_T]:
    """Pydantic's adapter of a type, made once: making it takes longer than most readings."""
    made: TypeAdapter[_T] = _made(cast("Any", kind))
    return made


@functools.cache
def _made(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
