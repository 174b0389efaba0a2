"""A worker that misbehaves: python misbehaving_worker.py HOW -c BOOT ...; needs nothing but the standard library.

It answers like a worker does, but for what `HOW` says, which it does instead of answering, or to the answer.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

Answer = tuple[dict[str, Any], list[bytes]]
OUT = sys.stdout.buffer
SHAPE = [6, 4]  # of the output for one image
MACHINE = {
    "system": "Linux",
    "release": "6.1",
    "arch": "aarch64",
    "cpu": "Cortex-A76",
    "board": "Pi",
    "processors": 4,
    "names": [],
    "features": [],
    "emulated": False,
    "python": "3.11.2",
    "distributions": {},
    "free_bytes": 1 << 30,
    "kept": [],
}


def honest(head: dict[str, Any], blobs: list[bytes]) -> Answer:
    """What a good worker answers."""
    do = head["do"]
    if do == "hello":
        return {"id": head["id"], "result": MACHINE}, []
    if do == "open":
        about = {"name": "ncnn", "version": "1", "device": "Cortex-A76"}
        return {"id": head["id"], "result": {"runtime": about, "batch": 1}}, []
    if do == "predict":
        shape = [len(head.get("images", ())) or len(blobs), *SHAPE]
        return predicted(head, [("output", shape)], struct.pack("<f", 0.5) * shape[0] * 24)
    return {"id": head["id"], "result": {}}, []


def predicted(head: dict[str, Any], outputs: list[tuple[str, list[int]]], *blobs: bytes) -> Answer:
    told = [{"name": name, "shape": shape} for name, shape in outputs]
    return {"id": head["id"], "result": {"outputs": told}}, list(blobs)


def write(head: dict[str, Any], blobs: list[bytes]) -> None:
    OUT.write(json.dumps({**head, "blobs": [len(blob) for blob in blobs]}).encode() + b"\n")
    OUT.write(b"".join(blobs))
    OUT.flush()


def say(data: bytes) -> Callable[..., None]:
    """Write this, and nothing else ever."""

    def act(*_: object) -> None:
        OUT.write(data)
        OUT.flush()
        time.sleep(60)

    return act


def endless(part: bytes) -> Callable[..., None]:
    def act(*_: object) -> None:
        while True:
            OUT.write(part * 4096)

    return act


def changed(**values: Any) -> Callable[..., None]:
    """The honest answer with other values in its head."""

    def act(head: dict[str, Any], blobs: list[bytes]) -> None:
        answer, sent = honest(head, blobs)
        write({**answer, **values}, sent)

    return act


def outputs(*named: tuple[str, list[int]], values: bytes | None = None) -> Callable[..., None]:
    """Predictions with these outputs, full of a value, or of other values."""

    def act(head: dict[str, Any], _: list[bytes]) -> None:
        sizes = [
            max(1, abs(shape[0] * (shape[1:] or [1])[0] * (shape[2:] or [1])[0]))
            for _, shape in named
        ]
        write(*predicted(head, list(named), *(values or b"\0\0\0?" * size for size in sizes)))

    return act


def always_half(head: dict[str, Any], _: list[bytes]) -> None:
    while True:
        write({"id": head["id"], "progress": 0.5}, [])


def cut(head: dict[str, Any], blobs: list[bytes]) -> None:
    OUT.write(json.dumps({"id": head["id"], "result": {}, "blobs": [100]}).encode() + b"\n half")
    OUT.flush()
    os._exit(0)


def die(*_: object) -> None:
    sys.stderr.write("noise\n" * 100_000 + "\x1b[31mred\x07 death\n")
    sys.stderr.flush()
    os._exit(9)


BEGINNINGS: dict[str, Callable[[], None]] = {
    "begins silently": lambda: time.sleep(60),
    "babbles": endless(b"welcome\n"),
    "babbles in one line": endless(b"welcome "),
    "dies": die,
}
NAN = struct.pack("<f", float("nan"))
ANSWERS: dict[str, Callable[..., None]] = {
    "is silent": lambda *_: time.sleep(60),
    "sends one byte": say(b"{"),
    "is no JSON": say(b"hello\n"),
    "is a list": say(b"[]\n"),
    "is deep": say(b"[" * 100_000 + b"\n"),
    "has no sizes": say(b'{"id": 3, "result": {}}\n'),
    "has sizes below nothing": say(b'{"id": 3, "result": {}, "blobs": [-1]}\n'),
    "has sizes that are no number": say(b'{"id": 3, "result": {}, "blobs": [NaN]}\n'),
    "has too many blobs": say(b'{"id": 3, "blobs": [' + b"0," * 9000 + b"0]}\n"),
    "is too large": say(b'{"id": 3, "result": {}, "blobs": [1000000000000]}\n'),
    "is larger than a number": say(
        b'{"id": 3, "blobs": [' + b"9" * 4300 + b"," + b"9" * 4300 + b"]}\n"
    ),
    "has no end": endless(b"x"),
    "is always half done": always_half,
    "is done twice": changed(progress=2),
    "answers another request": changed(id=2),
    "has no result": lambda head, _: write({"id": head["id"]}, []),
    "has another result": changed(result=[1, {"a": "b"}]),
    "has a key of a terminal": changed(result={"\x1b[2J": 3}),
    "complains in colour": lambda head, _: write(
        {"id": head["id"], "error": "\x1b[31mred\n" * 1000, "kind": "model"}, []
    ),
    "complains of no disk": lambda head, _: write(
        {"id": head["id"], "error": "x", "kind": "disk", "errno": 10**30}, []
    ),
    "is cut": cut,
    "has too few images": outputs(("output", [1, *SHAPE])),
    "has too many images": outputs(("output", [3, *SHAPE])),
    "has another output": outputs(("boxes", [2, *SHAPE])),
    "has one output more": outputs(("output", [2, *SHAPE]), ("more", [2, *SHAPE])),
    "has no output": outputs(),
    "has another shape": outputs(("output", [2, 4, 6])),
    "has a negative shape": outputs(("output", [2, -6, -4])),
    "has another size": outputs(("output", [2, *SHAPE]), values=b"\0" * 4),
    "is not finite": outputs(("output", [2, *SHAPE]), values=NAN * 48),
}


def main(how: str) -> None:
    if how in BEGINNINGS:
        BEGINNINGS[how]()
    OUT.write(
        b"a greeting\n\x1b]0;a title\x07yolodeploy-worker 1 have\nyolodeploy-worker 1 ready\n"
    )
    OUT.flush()
    for line in sys.stdin.buffer:
        head = json.loads(line)
        blobs = [sys.stdin.buffer.read(size) for size in head["blobs"]]
        if head["do"] == "predict" and how in ANSWERS:
            ANSWERS[how](head, blobs)
        else:
            write(*honest(head, blobs))


if __name__ == "__main__":
    main(sys.argv[1])
