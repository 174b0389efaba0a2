"""Pickles that make much out of little: values that are remembered once and used a thousand times."""

from __future__ import annotations

import struct

from pickles import (
    CONCAT,
    MODEL,
    SEQUENTIAL,
    named,
    number,
    several,
    storage,
    table,
    tensor,
    text,
    thing,
    whole,
)

COPIES = "makes more than 1,048,576 values out of few"
MODULES = text("_modules")
NUMBERS = b"".join(b"M" + struct.pack("<H", n) for n in range(65_000))
KEYS = b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(65_000))
LIST = b"](" + b"N" * 200_000 + b"e"


def again(first: bytes, second: bytes, times: int, then: bytes = b"R") -> bytes:
    """The same instruction on the same two values, again and again."""
    return (
        b"\x80\x02("
        + (first + b"q\x000" + second + b"q\x010")
        + (b"h\x00h\x01" + then) * times
        + b"t."
    )


def detector(rows: bytes, before: bytes = b"") -> bytes:
    """A model of some rows; `before` makes what they refer to."""
    body = thing(SEQUENTIAL, (MODULES, rows))
    return before + whole(thing(MODEL, (MODULES, table((text("model"), body)))))[2 * bool(before) :]


def _kept(value: bytes) -> bytes:
    """The beginning of a pickle that remembers a value."""
    return b"\x80\x02" + value + b"q\x010"


def _rows(times: int, node: bytes) -> bytes:
    """A model that has the same layer many times."""
    return detector(table(*((text(str(n)), b"h\x01") for n in range(times))), _kept(node))


def _joined(sources: bytes) -> bytes:
    return thing(CONCAT, (text("f"), sources), (text("d"), number(1)))


def amplifiers() -> dict[str, tuple[bytes, str]]:
    """Pickles by what they repeat, each with the message that refuses it."""
    half = tensor(8, 0, [1 << 29], [0], kind=named("torch", "HalfStorage"))
    wide = table(*((text(f"{n:x}"), b"N") for n in range(15_000)))
    view = tensor(4)
    function, arguments = view[: view.index(b"(")], view[view.index(b"(") : -1]
    return {
        "bytes made again and again": (
            again(
                named("_codecs", "encode"),
                several(text("x" * 1_000_000), text("latin1")),
                1200,
            ),
            COPIES,
        ),
        "lists copied again and again": (
            again(named("torch", "Size"), LIST + b"\x85", 300),
            COPIES,
        ),
        "sets made again and again": (
            again(named("builtins", "set"), b"](" + NUMBERS + b"e\x85", 2000, b"R0"),
            COPIES,
        ),
        "one table given to everything": (
            again(thing(MODEL), b"}(" + KEYS + b"u", 1500, b"b0"),
            COPIES,
        ),
        "names made of long texts": (
            again(text("a" * 100_000), text("b" * 100_000), 3000, b"\x93"),
            "gives a name of 200,001 characters",
        ),
        "names made of short texts": (
            again(text("a" * 120), text("b" * 120), 200_000, b"\x93"),
            r"asks to run `a{57}\.\.\.`",
        ),
        "calls without end": (
            again(named("torch.nn.modules.linear", "Identity"), b")", 300_000),
            COPIES,
        ),
        "tensors without end": (again(function, arguments, 300_000), COPIES),
        "storages without end": (
            b"\x80\x02(" + storage(4)[:-1] + b"q\x000" + b"h\x00Q" * 400_000 + b"t.",
            COPIES,
        ),
        "paths to a long table": (
            _kept(thing(SEQUENTIAL, (MODULES, wide)))
            + whole(
                thing(MODEL, (MODULES, table(*((text(f"{n}"), b"h\x01") for n in range(15_000)))))
            )[2:],
            "more than 20,000",
        ),
        "paths to a long table of weights": (
            _rows(400, thing(SEQUENTIAL, (text("_buffers"), wide))),
            "more than 20,000",
        ),
        "layers in a long row": (
            detector(
                table(*((text(str(n)), b"h\x01") for n in range(19_000))),
                _kept(_joined(b"J\xff\xff\xff\xff")),
            ),
            "its last layer is not the head of a known task",
        ),
        "layers that read from a million": (
            _rows(400, _joined(b"](" + b"K\x00" * 200_000 + b"e")),
            "reads from more than 16 layers",
        ),
        "a layer that reads from gigabytes": (
            _rows(1, _joined(b"]" + half + b"a")),
            "does not say which layers it reads",
        ),
    }
