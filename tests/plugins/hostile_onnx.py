"""ONNX files made to harm whoever opens them, and a process that watches itself reading them.

All begin with a small good model: convolution, reshape, sigmoid, [1, 7, 16]. `EITHER` files may be read or refused; all
others must be refused. Whatever a reader does, it says one sentence, and stays below `SECONDS` and `MEGABYTES`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hostile_onnx_graphs import ATTRIBUTES, BOMBS, Made, base, bombed, changed, named, setting
from onnx import ModelProto, TensorProto

HERE = Path(__file__).parent
SECONDS, MEGABYTES = 5.0, 1024
Writer = Callable[[Path], object]
REFUSED, EITHER = True, False


@dataclass(frozen=True)
class Hostile:
    """How a file is written (its folder is its own), and whether it must be refused."""

    write: Writer
    refused: bool = REFUSED


def _saved(make: Made) -> Writer:
    return lambda path: path.write_bytes(make().SerializeToString())


def _external(location: str, *, beside: Callable[[Path], object] | None = None, attribute: bool = False, **more: str) -> Writer:  # fmt: skip
    """The weights of the convolution (or a constant) are said to lie at `location`."""

    def write(path: Path) -> None:
        model = base()
        tensor = model.graph.initializer[0]
        assert tensor.name == "weight"
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)
        if attribute:
            node = onnx.helper.make_node("Constant", [], ["weight"], value=tensor)
            del model.graph.initializer[0]
            model.graph.node.insert(0, node)
        path.write_bytes(model.SerializeToString())
        if beside is not None:
            beside(path.parent)

    return write


SIZE = 7 * 3 * 8 * 8 * 4  # bytes of the weights


def _linked_folder(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    (folder.parent / "secret.bin").write_bytes(bytes(SIZE))


def _hard_link(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(SIZE))
    (folder / "hard.bin").hardlink_to(folder.parent / "secret.bin")


def _placed() -> dict[str, Writer]:
    """External data."""
    secret = lambda folder: (folder.parent / "secret.bin").write_bytes(bytes(SIZE))  # noqa: E731
    good = lambda folder: (folder / "w.bin").write_bytes(bytes(SIZE))  # noqa: E731
    return {
        "above": _external("../secret.bin", beside=secret),
        "above, in a constant": _external("../secret.bin", beside=secret, attribute=True),
        "above, through a folder": _external("x/../../secret.bin", beside=secret),
        "above, with backslashes": _external("..\\secret.bin", beside=secret),
        "absolute": _external("/etc/passwd"),
        "absolute, in a constant": _external("/etc/passwd", attribute=True),
        "by a URL": _external("file:///etc/passwd"),
        "by a link": _external(
            "w.bin", beside=lambda folder: (folder / "w.bin").symlink_to("/etc/passwd")
        ),
        "by a linked folder": _external("sub/secret.bin", beside=_linked_folder),
        "a device": _external("/dev/zero"),
        "a linked device": _external(
            "w.bin", beside=lambda folder: (folder / "w.bin").symlink_to("/dev/zero")
        ),
        "a pipe": _external("w.bin", beside=lambda folder: os.mkfifo(folder / "w.bin")),
        "a folder": _external("w.bin", beside=lambda folder: (folder / "w.bin").mkdir()),
        "no name": _external(""),
        "a dot": _external("."),
        "a name with a zero byte": _external("w\0.bin"),
        "a name of megabytes": _external("w" * 5_000_000),
        "missing": _external("w.bin"),
        "cut off": _external(
            "w.bin", beside=lambda folder: (folder / "w.bin").write_bytes(bytes(SIZE - 1))
        ),
        "offset beyond the end": _external("w.bin", beside=good, offset="999999"),
        "negative offset": _external("w.bin", beside=good, offset="-8"),
        "offset in words": _external("w.bin", beside=good, offset="here"),
        "offset of 5000 digits": _external("w.bin", beside=good, offset="9" * 5000),
        "length of exabytes": _external("w.bin", beside=good, length=str(1 << 62)),
        "length that is not the shape's": _external("w.bin", beside=good, length="12"),
        "negative length": _external("w.bin", beside=good, length="-1"),
        "gigabytes without content": _external("w.bin", beside=lambda folder: _sparse(folder / "w.bin", 9 << 30), length=str(9 << 30)),
    }  # fmt: skip


def _files() -> dict[str, Hostile]:
    """Whatever is not a good protobuf."""
    good = base().SerializeToString()
    plain: dict[str, bytes] = {
        "empty": b"",
        "text": b"ir_version: 8\ngraph { name: 'x' }\n",
        "json": b'{"irVersion": "8", "graph": {}}',
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "cut off": good[: len(good) // 2],
        "cut in its header": good[:3],
        "a length of exabytes": b"\x3a" + b"\xff" * 8 + b"\x7f" + good,
        "a length of 2 GB": b"\x3a\xff\xff\xff\xff\x07" + good,
        "a varint without end": b"\x08" + b"\xff" * 50,
        "groups a million deep": b"\x3b" * 1_000_000,
        "messages a thousand deep": _nested(1000),
        "name that is not UTF-8": good.replace(b"images", b"im\xff\xfees"),
        "ORT format": b"\x1c\x00\x00\x00ORTM" + bytes(500),
        "a pickle": b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00true\x85R.",
    }
    return {
        **{name: Hostile(lambda path, b=data: path.write_bytes(b)) for name, data in plain.items()},
        "twice": Hostile(lambda path: path.write_bytes(good * 2)),
        "unknown fields": Hostile(lambda path: path.write_bytes(good + b"\xfa\x7f\x03abc"), EITHER),
        "a zip": Hostile(_zip),
        "three gigabytes": Hostile(lambda path: _sparse(path, 3 << 30)),
        "a pipe": Hostile(os.mkfifo),
        "a folder": Hostile(Path.mkdir),
        "a device": Hostile(lambda path: path.symlink_to("/dev/zero")),
        "a link to nowhere": Hostile(lambda path: path.symlink_to("nowhere")),
    }


def _nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph in an attribute..."""
    inner = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute's graph, node's attribute, graph's node
            inner = tag + _varint(len(inner)) + inner
    return b"\x08\x08\x3a" + _varint(len(inner)) + inner


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", base().SerializeToString())


def _sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def _graphs() -> dict[str, Hostile]:
    """Files that are good protobufs of bad graphs."""

    def tensor(**fields: Any) -> Made:
        def change(model: ModelProto) -> None:
            weight = model.graph.initializer[0]
            for key, value in fields.items():
                weight.ClearField(key)
                if isinstance(value, list):
                    getattr(weight, key).extend(value)
                else:
                    setattr(weight, key, value)

        return changed(change)

    makes: dict[str, Made] = {
        "weights without data": tensor(raw_data=b""),
        "weights of exabytes, without data": tensor(raw_data=b"", dims=[1 << 40, 1 << 20]),
        "weights whose size overflows to 0": tensor(raw_data=b"", dims=[1 << 32, 1 << 32]),
        "weights whose size overflows to theirs": tensor(dims=[7, 3, 8, 8, 1 << 32, 1 << 32]),
        "weights with a negative side": tensor(dims=[-7, 3, 8, 8]),
        "weights of two negative sides": tensor(dims=[-7, -3, 8, 8]),
        "weights with an empty side": tensor(raw_data=b"", dims=[7, 3, 0, 8]),
        "weights of a million sides": tensor(dims=[1] * 1_000_000),
        "weights cut off": tensor(raw_data=bytes(SIZE - 3)),
        "weights twice": tensor(float_data=[1.0] * (SIZE // 4)),
        "weights of no type": tensor(data_type=0),
        "weights of an unknown type": tensor(data_type=99),
        "weights of text": tensor(raw_data=b"", data_type=8, string_data=[b"x"] * (SIZE // 4)),
        "weights of complex numbers": tensor(raw_data=bytes(2 * SIZE), data_type=14),
        "weights of booleans": tensor(raw_data=bytes(SIZE // 4), data_type=9),
        "weights of another rank": tensor(dims=[7, 192]),
        "weights that are not a number": tensor(raw_data=np.full(SIZE // 4, np.nan, np.float32).tobytes()),
        "weights without end": tensor(raw_data=np.full(SIZE // 4, np.inf, np.float32).tobytes()),
        **{f"a model: {name}": changed(change) for name, change in named().items()},
        **{f"{op}: {what}": make for op, what, make in ATTRIBUTES},
        **{f"a bomb: {name}": bombed(*nodes) for name, nodes in BOMBS.items()},
    }  # fmt: skip
    return {name: Hostile(_saved(make)) for name, make in makes.items()}


def _metadata() -> dict[str, Hostile]:
    """What a file says of itself."""
    texts = {
        "names that run": "__import__('os').system('touch {canary}')",
        "names a hundred thousand deep": "[" * 100_000,
        "names a hundred deep": "{" * 90 + "}" * 90,
        "names of megabytes": "{" + ", ".join(f"{n}: 'n{n}'" for n in range(300_000)) + "}",
        "names that multiply": "{0: 'x' * 10**10}",
        "a power in names": "{0: 9**9**9}",
        "digits without end in names": "{" + "9" * 10_000 + ": 'a'}",
        "negative numbers in names": "{-1: 'a', 0: 'b', 1: 'c'}",
        "names with escapes": "{0: '\\x1b[2J', 1: 'a\\nb', 2: 'c'}",
        "names of one class for three": "{0: 'a'}",
        "names twice": "{0: 'a', 1: 'a', 2: 'a'}",
        "names as a list of lists": "[['a'], ['b'], ['c']]",
        "zero bytes in names": "{0: 'a\\x00', 1: 'b', 2: 'c'}",
    }
    return {
        **{name: Hostile(_saved(setting(names=text)), EITHER) for name, text in texts.items()},
        "no stride": Hostile(_saved(setting(stride="0")), EITHER),
        "a negative stride": Hostile(_saved(setting(stride="-32")), EITHER),
        "a stride of exabytes": Hostile(_saved(setting(stride=str(1 << 62))), EITHER),
        "a size of exabytes": Hostile(_saved(setting(imgsz=f"[{1 << 62}, 32]")), EITHER),
        "a task that nobody knows": Hostile(_saved(setting(task="\x1b]0;x\x07")), EITHER),
        "segmentation": Hostile(_saved(setting(task="segment"))),
        "a key of megabytes": Hostile(_saved(setting(**{"k" * 3_000_000: "v"})), EITHER),
        "a value of megabytes": Hostile(_saved(setting(args="[" * 3_000_000)), EITHER),
    }


_HARMLESS = (
    "a model: unsorted",
    "a model: names with escapes",
    "a model: node names twice",
    "a model: a producer of megabytes",
    "a model: a hundred thousand nodes",
    "a model: two hundred thousand initializers",
    "a model: a name of megabytes",
    "a model: training beside",
    "a model: a known domain, not used",
    "a model: a function, not used",
    "a model: an input that is a constant too",
    "a model: an older IR",
    "a model: the same output twice",
    "a model: an input with a negative side",
    "a model: an output of another shape",
    "a model: an output of another rank",
    "a model: an output of exabytes",
    "weights twice",
    "external: a hard link",
    "external: the file itself",
)


def everything() -> dict[str, Hostile]:
    """Every hostile file by what it tries."""
    found = {
        **{f"external: {name}": Hostile(write) for name, write in _placed().items()},
        "external: a hard link": Hostile(_external("hard.bin", beside=_hard_link)),
        "external: the file itself": Hostile(_external("model.onnx", length=str(SIZE))),
        **{f"a file: {name}": made for name, made in _files().items()},
        **_graphs(),
        **{f"metadata: {name}": made for name, made in _metadata().items()},
    }
    for name in _HARMLESS:
        found[name] = Hostile(found[name].write, EITHER)
    return found


CHILD = """
import json, os, resource, signal, sys, time
from pathlib import Path
from torch_support import context
import yolodeploy_onnx
from yolodeploy.backend import Artifact
from yolodeploy.errors import YolodeployError

status = lambda key: int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) / 1e3
first = True
def read(path, work):
    return yolodeploy_onnx.STEPS[0].run(Artifact(".onnx", path, ""), yolodeploy_onnx.STEPS[0].params(), context(work, 32))
for line in sys.stdin:
    name, path = json.loads(line)
    path = Path(path)
    print(json.dumps([name]), flush=True)
    if first:
        read(path.parent.parent / "good.onnx", path.parent.parent / f"good{os.getpid()}")
        resource.setrlimit(resource.RLIMIT_DATA, (int((status("VmData") + 2500) * 1e6), resource.RLIM_INFINITY))
        first = False
    Path("/proc/self/clear_refs").write_text("5")
    before, start, said, kind = status("VmRSS"), time.process_time(), None, "read"
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    signal.alarm(60)
    try:
        read(path, path.parent / "work")
    except YolodeployError as error:
        said, kind = str(error), "refused"
    except BaseException as error:
        said, kind = f"{type(error).__name__}: {error}"[:2000], "fault"
    signal.alarm(0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps([name, kind, said, time.process_time() - start + children.ru_utime - theirs.ru_utime, status("VmHWM") - before, (children.ru_maxrss if children.ru_maxrss > theirs.ru_maxrss else 0) / 1e3]), flush=True)
"""


@dataclass(frozen=True)
class Seen:
    """What became of a file: `kind` is read, refused, fault or crash."""

    kind: str
    said: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0

    def wrong(self, hostile: Hostile) -> str:
        """What is wrong with it, or nothing."""
        if self.kind not in ("read", "refused"):
            return f"{self.kind}: {self.said}"
        if self.kind == "read" and hostile.refused:
            return "was read"
        if self.seconds > SECONDS or self.megabytes > MEGABYTES:
            return f"took {self.seconds:.1f} s and {self.megabytes:.0f} MB: {self.said:.80}"
        if self.kind == "refused" and not (self.said.isprintable() and 20 < len(self.said) < 600):
            return f"says {len(self.said)} characters: {self.said[:200]!r}"
        return ""


def read_all(folder: Path, wanted: dict[str, Hostile] | None = None) -> dict[str, Seen]:
    """Write all files, read them in processes that watch themselves; a process that dies costs one file."""
    paths = dict(_written(folder, wanted or everything()))
    path = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    left, found = dict(paths), {}
    while left:
        given = "".join(json.dumps([name, str(path)]) + "\n" for name, path in left.items())
        done = subprocess.run(
            [sys.executable, "-c", CHILD], input=given, env=env, capture_output=True, text=True, check=False
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        if not lines:
            raise RuntimeError(done.stderr[-2000:])
        for name, *rest in lines:
            if rest:
                kind, said, seconds, own, children = rest
                found[name] = Seen(kind, said or "", seconds, max(own, children))
        for name, *_ in lines:
            if name not in found:
                found[name] = Seen("crash", f"ended with {done.returncode}: {done.stderr[-300:]}")
            left.pop(name, None)
    return found


def _written(folder: Path, wanted: dict[str, Hostile]) -> Iterator[tuple[str, Path]]:
    onnx.save(base(), folder / "good.onnx")
    for number, (name, hostile) in enumerate(wanted.items()):
        path = folder / f"{number:03}" / "model.onnx"
        path.parent.mkdir()
        hostile.write(path)
        yield name, path
