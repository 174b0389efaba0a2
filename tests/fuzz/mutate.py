"""Ways to damage a file: blindly, by its tokens, and by its format with everything else kept right."""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

_NUMBERS = (
    b"0", b"-1", b"1", b"2", b"-0.0", b"255", b"65536", b"2147483648", b"-2147483649", b"4294967295",
    b"9223372036854775807", b"18446744073709551616", b"1" + b"0" * 40, b"9" * 5000, b"1e308", b"1e999",
    b"-1e999", b"nan", b"NaN", b"inf", b"Infinity", b".nan", b"0x10", b"1_000", b"1e-320", b"true", b"null",
    b'""', b'"text"', b"[]", b"{}", b"[[1]]", b'{"a": 1}',
)  # fmt: skip
_WORDS = (
    b"!!python/object/apply:os.system", b"&a", b"*a", b"<<", b"---", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\\u0000", b"\\ud800", b"\\e[2J", b"../../../../etc/passwd", b"/dev/zero", b"~root", b"$HOME", b"${HOME}",
    b"\xf0\x9f\x90\x8d", b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"x" * 70_000, b"'", b'"', b"\t", b"\r\n", b": ",
    b"- ", b"#", b"|", b">", b"? ",
)  # fmt: skip
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_.-]*|-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?|[^\sA-Za-z0-9]")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?")
_EDGES = (
    0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
)  # fmt: skip


def flip(data: bytes, rng: Random) -> bytes:
    """Flip some bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: Random) -> bytes:
    """Cut the end or the beginning off."""
    at = rng.randrange(len(data) + 1)
    return data[:at] if rng.random() < 0.8 else data[at:]


def splice(data: bytes, rng: Random) -> bytes:
    """Drop, double, move or overwrite a stretch."""
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 4, 8, 64, 1000))]
    rest = data[:start] + data[start + len(part) :]
    to = rng.randrange(len(rest) + 1)
    filled = bytes([rng.randrange(256)]) * len(part)
    return rng.choice(
        (
            rest,
            data[:start] + part + data[start:],
            rest[:to] + part + rest[to:],
            rest[:start] + filled + rest[start:],
        )
    )


def integers(data: bytes, rng: Random) -> bytes:
    """Overwrite an integer of 1 to 8 bytes by one at the edge of a range."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) < size:
        return data
    at = rng.randrange(len(data) - size + 1)
    value = rng.choice((*_EDGES, -1, -2, 1 << 62, 1 << 63)) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def tokens(data: bytes, rng: Random) -> bytes:
    """Replace, swap, drop or double words and numbers of a text."""
    found = list(_WORD.finditer(data))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = list(_WORD.finditer(data[:200_000]))
        if not found:
            return data
        one, other = rng.choice(found), rng.choice(found)
        new = rng.choice((*_NUMBERS, *_WORDS, other[0], b"", one[0] * 2, one[0] + b" " + other[0]))
        if _NUMBER.fullmatch(one[0]) and rng.random() < 0.6:
            new = rng.choice(_NUMBERS)
        data = data[: one.start()] + new + data[one.end() :]
    return data


def lines(data: bytes, rng: Random) -> bytes:
    """Swap, drop, double or indent lines."""
    rows = data.split(b"\n")
    one, other = rng.randrange(len(rows)), rng.randrange(len(rows))
    how = rng.randrange(5)
    if how == 0:
        rows[one], rows[other] = rows[other], rows[one]
    elif how == 1:
        del rows[one]
    elif how == 2:
        rows.insert(other, rows[one])
    elif how == 3:
        rows[one] = b"  " + rows[one]
    else:
        rows[one:one] = [rows[one]] * rng.choice((10, 1000))
    return b"\n".join(rows)


def json_values(data: bytes, rng: Random) -> bytes:
    """Replace, drop or add a value of a JSON document, which stays one."""
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    for _ in range(rng.choice((1, 1, 2, 5)) if places else 0):
        holder, key = rng.choice(places)
        odd: list[Any] = [
            None, True, -1, 0, 1, 2, 1 << 40, 10**30, 1e300, float("nan"), float("inf"), "", "x", "\0", "\x1b[2J",
            "../../x", "/etc/passwd", [], {}, [1], {"a": 1}, "x" * 10_000, _deep(900), _deep(200), _deep(90_0 // 9),
        ]  # fmt: skip
        other, name = rng.choice(places)
        odd.append(other[name] if _has(other, name) else None)
        if not _has(holder, key):
            continue
        if rng.random() < 0.2:
            del holder[key]
            places = [(h, k) for h, k in places if h is not holder]
            if not places:
                break
        else:
            holder[key] = rng.choice(odd)
    try:
        return json.dumps(value).encode()
    except (RecursionError, ValueError):  # a value in itself
        return data[: len(data) // 2]


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            _collect(value[key], places)


def pickle_code(data: bytes, rng: Random) -> bytes:
    """Drop, double, swap or replace instructions of a pickle."""
    starts = [at for _, _, at in pickletools.genops(data)]
    ends = [*starts[1:], len(data)]
    odd = (b"N", b"(", b"]", b"}", b")", b"R", b"b", b"\x81", b"t", b"u", b"s", b"Q", b"\x86", b"K\xff", b"h\x05",
           b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"J\xff\xff\xff\xff", b"X\x02\x00\x00\x00ab", b"0", b"2",
           b"cposix\nsystem\n", b"\x93", b"\x94", b"G\x7f\xf8" + bytes(6), b"o", b".", b"e", b"a", b"\x88")  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 4))):
        one = rng.randrange(len(starts))
        start, end = starts[one], ends[one]
        if end > len(data):
            break
        code = data[start:end]
        new = rng.choice(
            (b"", code * 2, rng.choice(odd), rng.choice(odd) + code, integers(code, rng))
        )
        data = data[:start] + new + data[end:]
        if len(new) != len(code):
            break
    return data


def zip_entries(
    data: bytes, rng: Random, inner: Sequence[Mutator] = (pickle_code, flip, integers)
) -> bytes:
    """Write a checkpoint archive again, checksums right, with an entry changed, dropped or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = [(entry.filename, file.read(entry)) for entry in file.infolist()]
    pickled = next(n for n, (name, _) in enumerate(entries) if name.endswith("/data.pkl"))
    at = pickled if rng.random() < 0.7 else rng.randrange(len(entries))
    name, content = entries[at]
    how = rng.random()
    if how < 0.8:
        mutator = rng.choice(list(inner)) if at == pickled else rng.choice((flip, truncate, splice))
        entries[at] = name, mutator(content, rng)
    elif how < 0.9:
        entries[at] = rng.choice((name + "x", "../" + name, "/" + name, name.upper())), content
    else:
        del entries[at]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, content in entries:
            file.writestr(name, content)
    return made.getvalue()


def tar_headers(data: bytes, rng: Random) -> bytes:
    """Change one header of an archive of a result, its checksum right."""
    starts = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(starts)
    header = bytearray(
        rng.choice((flip, splice, integers))(data[at : at + 512], rng)[:512].ljust(512)
    )
    if rng.random() < 0.3:
        header[156:157] = rng.choice((b"0", b"1", b"2", b"5", b"L", b"x", b"S", b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


def safetensors_header(data: bytes, rng: Random) -> bytes:
    """Change the header of a safetensors file and keep its length right."""
    (size,) = struct.unpack_from("<Q", data)
    header = rng.choice((json_values, tokens))(data[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def protobuf(message: type[Any]) -> Mutator:
    """Change single fields of a message of this type, which stays one."""

    def mutate(data: bytes, rng: Random) -> bytes:
        root = message.FromString(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change(root, rng)
        return bytes(root.SerializeToString())

    return mutate


def _change(root: Any, rng: Random) -> None:
    """Walk down from the root by chance and change the field that is reached."""
    while root is not None and (fields := root.ListFields()):
        field, value = rng.choice(fields)
        if rng.random() < 0.03:
            root.ClearField(field.name)
            return
        if field.message_type is None:
            _set(root, field, value, rng)
            return
        if field.message_type.GetOptions().map_entry:
            root = _below_map(field, value, rng)
        elif hasattr(value, "add"):
            root = _below_list(value, rng)
        else:
            root = value


def _below_map(field: Any, value: Any, rng: Random) -> Any:
    """The message under a key by chance; None where the key was dropped or its value changed."""
    key = rng.choice(sorted(value))
    if rng.random() < 0.1:
        del value[key]
    elif field.message_type.fields_by_name["value"].message_type is None:
        value[key] = rng.choice(("", "x", "{", "{0: 1}", "[" * 300, "\0"))
    else:
        return value[key]
    return None


def _below_list(value: Any, rng: Random) -> Any:
    """A message of a list by chance; None where one was dropped, doubled or overwritten."""
    at = rng.randrange(len(value))
    if rng.random() >= 0.1:
        return value[at]
    how = rng.randrange(3)
    if how == 0:
        del value[at]
    elif how == 1:
        value.add().CopyFrom(value[at])
    else:
        value[at].CopyFrom(value[rng.randrange(len(value))])
    return None


def _set(root: Any, field: Any, value: Any, rng: Random) -> None:
    values: list[Any] = [*_EDGES, -1, 1 << 40, (1 << 63) - 1, 1 << 63, 0.5, float("nan"), float("inf"),
                         "", "x", "main", "conv", "../x", b"", b"\xff" * 9, True, False]  # fmt: skip
    for _ in range(8):
        new = rng.choice(values)
        try:
            if hasattr(value, "append"):
                if value and rng.random() < 0.8:
                    value[rng.randrange(len(value))] = new
                else:
                    value.append(new)
            else:
                setattr(root, field.name, new)
        except (TypeError, ValueError):
            continue
        return


def sealed(data: bytes, rng: Random) -> bytes:
    """Change JSON of the store that has a checksum, in the line before it or as `seal`, and mend that."""
    line, _, rest = data.partition(b"\n")
    if re.fullmatch(rb"[0-9a-f]{64}", line):
        text = json_values(rest, rng)
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text
    raw = json.loads(data)
    if isinstance(raw, dict):
        raw.pop("seal", None)
    return json_values(json.dumps(raw).encode(), rng)


BLIND: Sequence[Mutator] = (flip, truncate, splice, integers)
TEXT: Sequence[Mutator] = (tokens, tokens, tokens, lines, flip, truncate, splice)
JSON: Sequence[Mutator] = (json_values, json_values, *TEXT)
SEALED: Sequence[Mutator] = (sealed, sealed, *TEXT)
