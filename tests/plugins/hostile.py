"""Checkpoints made to harm whoever opens them, and a process that watches itself reading them."""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amplifiers import amplifiers
from pickles import (
    LINK,
    MODEL,
    SEQUENTIAL,
    call,
    doubled,
    entry,
    named,
    nested,
    number,
    patched,
    several,
    shell,
    storage,
    table,
    tensor,
    text,
    thing,
    whole,
    zipped,
)

SYSTEM = named("posix", "system")
DETECT = named("ultralytics.nn.modules.head", "Detect")
KEPT_FORWARD = call(named("builtins", "getattr"), DETECT, text("forward"))
RUNS = r"asks to run `{}`.* nothing was run"
SHELL = RUNS.format(r"posix\.system")
NO_PICKLE = r"is damaged \(ValueError in its pickle\)"
HERE = Path(__file__).parent
SECONDS, MEGABYTES = 5.0, 150


def pickles(command: str) -> dict[str, tuple[bytes, str]]:
    """Pickles by what they try, each with the message that refuses it."""
    run = text(command)
    modules = text("_modules")
    return {
        "reduce": (whole(call(SYSTEM, run)), SHELL),
        "reduce without end": (b"\x80\x02" + call(SYSTEM, run), SHELL),
        "reduce, then damage": (b"\x80\x02" + call(SYSTEM, run) + b"\xff", SHELL),
        "newobj": (whole(SYSTEM + several(run) + b"\x81"), SHELL),
        "newobj_ex": (whole(SYSTEM + several(run) + b"}\x92"), SHELL),
        "inst": (whole(b"(" + run + b"iposix\nsystem\n"), SHELL),
        "obj": (whole(b"(" + SYSTEM + run + b"o"), SHELL),
        "text instructions": (f"cposix\nsystem\n(S'{command}'\ntR.".encode(), SHELL),
        "build on a function": (whole(SYSTEM + several(run) + b"b"), SHELL),
        "build with a setstate": (
            whole(thing(MODEL, (text("__setstate__"), SYSTEM)) + several(run) + b"b"),
            SHELL,
        ),
        "build with slots": (
            whole(MODEL + b")\x81" + several(b"N", table((text("__class__"), SYSTEM))) + b"b"),
            SHELL,
        ),
        "name from the stack": (
            whole(text("posix") + text("system") + b"\x93" + several(run) + b"R"),
            SHELL,
        ),
        "name from the memo": (
            whole(
                several(text("posix") + b"q\x07", text("system") + b"q\x08")
                + b"q\x09h\x07h\x08\x93"
                + several(run)
                + b"R"
            ),
            SHELL,
        ),
        "name that is not text": (whole(b"))\x93"), "gives a name that is not text"),
        "dotted name in an allowed module": (
            whole(call(named("torch", "serialization.os.system"), run)),
            RUNS.format(r"torch\.serialization\.os\.system"),
        ),
        "dotted name in an allowed class": (
            whole(call(named("ultralytics.nn.modules.conv", "Conv.forward.__globals__"))),
            RUNS.format(r"ultralytics\.nn\.modules\.conv\.Conv\.forward\.__globals__"),
        ),
        "dotted module": (whole(call(named("torch.os", "system"), run)), r"`torch\.os\.system`"),
        "getattr": (
            whole(call(call(named("builtins", "getattr"), MODEL, text("__init__")), run)),
            r"asks to run `builtins\.getattr`",
        ),
        "getattr of another function": (
            whole(call(named("builtins", "getattr"), DETECT, text("__init__"))),
            r"asks to run `builtins\.getattr`",
        ),
        "getattr of a head, and of more": (
            whole(KEPT_FORWARD + b"0" + call(named("builtins", "getattr"), MODEL, text("forward"))),
            r"asks to run `builtins\.getattr`",
        ),
        "call of what getattr gives": (
            whole(call(KEPT_FORWARD, run)),
            r"asks to run `builtins\.getattr`|`function\.__call__`",
        ),
        "torch's own loader": (
            whole(call(named("torch.storage", "_load_from_bytes"), run)),
            r"`torch\.storage\._load_from_bytes`",
        ),
        "reconstructor": (
            whole(call(named("copy_reg", "_reconstructor"), MODEL, SYSTEM, b"N")),
            r"`copyreg\._reconstructor`.*`posix\.system`",
        ),
        "operator": (
            whole(call(named("operator", "methodcaller"), text("system"))),
            r"`operator\.methodcaller`",
        ),
        "extension registry": (whole(b"\x82\x01" + several(run) + b"R"), "uses EXT1"),
        "long name with escapes": (
            whole(named("\x1b[2J" + "a" * 200, "b")),
            r"asks to run `\\x1b\[2Ja{50}\.\.\.`",
        ),
        "name of nine thousand characters": (
            whole(named("a" * 9000, "b")),
            "gives a name of 9,002 characters",
        ),
        "result of a call called": (
            whole(call(call(named("collections", "OrderedDict")), run)),
            "holds no Ultralytics detection model",
        ),
        "allowed name with odd arguments": (
            whole(call(named("torch._utils", "_rebuild_tensor_v2"), run)),
            "TypeError in its pickle",
        ),
        "numbers' type called": (
            whole(call(named("torch", "FloatStorage"), run)),
            "calls a type of numbers",
        ),
        "bytes in an encoding that runs code": (
            whole(call(named("_codecs", "encode"), run, text("rot13"))),
            "stores bytes in an unexpected encoding",
        ),
        "persistent id of text": (whole(text("0") + b"Q"), "is not a storage"),
        "persistent id as a line": (b"\x80\x02P0\n.", "uses PERSID"),
        "persistent id of a module": (whole(storage(4, tag="module")), "is not a storage"),
        "storage that is missing": (whole(tensor(4, key=text("../0"))), "has 0 bytes, not 16"),
        "storage whose key is not text": (whole(tensor(4, key=number(0))), "of an unknown type"),
        "storage of a type that takes forever to write": (
            whole(storage(4, kind=doubled(60))),
            "describes a storage of an unknown type",
        ),
        "a file name that takes forever to write": (
            whole(thing(MODEL, (text("yaml"), table((text("yaml_file"), doubled(60)))))),
            "its DetectionModel has no `model`",
        ),
        "attributes by the million": (
            whole(
                table(*((text(str(n)), b"N") for n in range(2000)))
                + b"q\x010"
                + call(named("collections", "OrderedDict"))
                + b"h\x01b" * 100_000
            ),
            "makes more than 1,048,576 values",
        ),
        "storage of a type without": (whole(tensor(4, kind=SYSTEM)), SHELL),
        "storage of complex numbers": (
            whole(tensor(2, kind=named("torch", "ComplexFloatStorage"))),
            r"`torch\.ComplexFloatStorage`",
        ),
        "storage larger than its file": (whole(tensor(1 << 40)), "has 16 bytes, not 4398046511104"),
        "storage of negative size": (whole(tensor(-4)), "has 16 bytes, not -16"),
        "negative size": (whole(tensor(4, size=[-4])), "negative size"),
        "negative offset": (whole(tensor(4, -1)), "negative size, stride or offset"),
        "negative stride": (whole(tensor(4, 3, stride=[-1])), "negative size, stride or offset"),
        "offset outside": (whole(tensor(4, 4, [1])), "reaches outside its storage of 4 numbers"),
        "stride outside": (whole(tensor(4, 0, [2], [4])), "reaches outside"),
        "size that overflows": (
            whole(tensor(4, 0, [1 << 62, 1 << 62], [1, 1])),
            "reaches outside its storage",
        ),
        "stride that overflows": (whole(tensor(4, 0, [3], [1 << 62])), "reaches outside"),
        "a thousand axes": (whole(tensor(4, 0, [1] * 1000, [1] * 1000)), "an impossible shape"),
        "more sizes than strides": (whole(tensor(4, 0, [1, 1], [1])), "ValueError in its pickle"),
        "numbers without end": (
            whole(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20)),
            "an integer of more than 64 bits",
        ),
        "text longer than the file": (b"\x80\x02X\xff\xff\xff\x7fabc.", NO_PICKLE),
        "bytes longer than the file": (b"\x80\x04\x8e" + b"\xff" * 8 + b"abc.", NO_PICKLE),
        "a key that takes forever to hash": (
            whole(b"}" + doubled(60) + b"Ns"),
            "has a tuple as a key",
        ),
        "a set that takes forever to hash": (
            whole(call(named("builtins", "set"), b"](" + doubled(60) + b"e")),
            "has a tuple as a key",
        ),
        "tuples in tuples": (whole(b")" + b"\x85" * 900_000), "holds no Ultralytics"),
        "lists in lists": (whole(b"]" * 400_000 + b"a" * 399_999), "holds no Ultralytics"),
        "a list in itself": (whole(b"]q\x00h\x00a"), "holds no Ultralytics"),
        "a table in itself": (b"\x80\x02}q\x00" + text("model") + b"h\x00s.", "holds no Ultra"),
        "a module in itself": (
            whole(MODEL + b")\x81q\x00" + table((modules, table((text("0"), b"h\x00")))) + b"b"),
            "nested deeper than 32",
        ),
        "modules without end": (
            whole(
                nested(60)
                + b"q\x01"
                + b"0"
                + thing(MODEL, (modules, table((text("model"), b"h\x01"))))
            ),
            "nested deeper than 32",
        ),
        "modules by the million": (
            whole(
                thing(SEQUENTIAL)
                + b"q\x010"
                + thing(
                    MODEL,
                    (modules, table(*((text(str(n)), b"h\x01") for n in range(50_000)))),
                )
            ),
            "more than 20,000",
        ),
        "modules under endless names": (
            whole(thing(MODEL, (modules, table((text("x" * 1_000_000), thing(SEQUENTIAL)))))),
            "DetectionModel is damaged",
        ),
        "modules under names of several lines": (
            whole(thing(MODEL, (modules, table((text("a\nok"), thing(SEQUENTIAL)))))),
            "DetectionModel is damaged",
        ),
        "modules under numbers": (
            whole(thing(MODEL, (modules, table((number(0), thing(SEQUENTIAL)))))),
            "DetectionModel is damaged",
        ),
        "weights that are text": (
            whole(thing(MODEL, (modules, table((text("model"), text("x")))))),
            "holds a str where a layer should be",
        ),
        "more instructions than a model has": (
            whole(b"N0" * 1_100_000),
            "more than 1,000,000 instr",
        ),
        "a million values": (whole(b"(" + b"N" * 1_100_000 + b"t"), "more than 1,000,000 instr"),
        "a pickle of nine megabytes": (
            whole(text("x" * 9_000_000)),
            "its pickle has more than 8 MiB",
        ),
        "a pickle in a pickle": (whole(b"\x80\x02N."), "is not an Ultralytics checkpoint"),
        "marks without end": (whole(b"(" * 10_000), "takes a mark for a value"),
        "memo that is not there": (whole(b"h\x63"), "KeyError in its pickle"),
        "nothing": (b"", NO_PICKLE),
        "an unknown instruction": (b"\x80\x02\xee.", NO_PICKLE),
        **amplifiers(),
    }


def _sparse(path: Path, size: int) -> None:
    zipped(path)
    os.truncate(path, size)


def _safetensors(path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    path.write_bytes(struct.pack("<Q", 1 << 60) + header)


def _tar(path: Path, command: str) -> None:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("pickle")
        data = f"cposix\nsystem\n(S'{command}'\ntR.".encode()
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))


def _large_directory(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", whole(b"N"))
        for number_ in range(40_000):
            file.writestr(f"archive/{number_:0200}", b"")


def _entry_beyond_the_end(path: Path) -> None:
    zipped(path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<II", data, at + 20, len(data) - 40, len(data) - 40)
    path.write_bytes(data)


def _zip64(path: Path) -> None:
    """An end of the directory that only readers of zip64 see, with sizes that overflow."""
    zipped(path)
    data = path.read_bytes()
    at = data.rindex(b"PK\x05\x06")
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, 1 << 62, 1 << 62)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    path.write_bytes(data[:at] + end64 + locator + data[at:])


def _two_ends(path: Path) -> None:
    """A table of contents of megabytes, and a second end of the archive inside the first."""
    _large_directory(path)
    data = path.read_bytes()
    end = struct.unpack("<4s4HIIH", data[-22:])
    fields = struct.pack("<4s4sHHIIH", *(b"PK\x05\x06",) * 2, *end[3:])
    path.write_bytes(data[:-22] + fields)


def _end_before_the_end(path: Path) -> None:
    zipped(path)
    path.write_bytes(path.read_bytes()[:-2] + struct.pack("<H", 40) + b"PK\x05\x06" + bytes(36))


def _directory_elsewhere(path: Path) -> None:
    """A table of contents that is not where the end record says."""
    zipped(path)
    data = path.read_bytes()
    path.write_bytes(data[:-6] + struct.pack("<IH", 0, 0))


def _hollow(path: Path, name: str, size: int, pickled: bytes) -> None:
    """An archive with an entry of zeros that takes no room on the disk."""
    with zipfile.ZipFile(path, "w") as file:
        for key, content in {"data.pkl": pickled, name: b""}.items():
            file.writestr(f"archive/{key}", content)
    data = bytearray(path.read_bytes())
    local, listed, end = (data.rindex(mark) for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6"))
    table_ = data.index(b"PK\1\2")
    checksum = functools.reduce(
        lambda sum_, _: zlib.crc32(bytes(1 << 20), sum_), range(size >> 20), 0
    )
    struct.pack_into("<III", data, local + 14, checksum, size, size)
    struct.pack_into("<III", data, listed + 16, checksum, size, size)
    struct.pack_into("<I", data, end + 16, table_ + size)
    with path.open("wb") as out:
        out.write(data[:table_])
        out.seek(size, os.SEEK_CUR)
        out.write(data[table_:])


def _differing_names(path: Path) -> None:
    """A name of thousands of words in the table of contents, and another one at the entry."""
    zipped(path, change=entry("archive/" + "a " * 30_000))
    data = path.read_bytes()
    at = data.index(b"archive/a a")
    path.write_bytes(data[:at] + b"brchive" + data[at + 7 :])


def _archives(command: str) -> dict[str, tuple[Callable[[Path], object], str]]:
    """Archives by what is odd about them, each with the message that refuses it."""
    evil = whole(call(SYSTEM, text(command)))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), evil)  # with a fixed date
    outside = r"holds '{}' outside the folder 'archive'"
    return {
        "zip as the pickle": (
            lambda p: zipped(p, inner.getvalue()),
            r"is damaged \(UnicodeDecodeError in its pickle\)",
        ),
        "zip in the zip": (
            lambda p: zipped(p, **{"data/1.zip": inner.getvalue()}),
            "holds no Ultralytics",
        ),
        "folder in the folder": (
            lambda p: zipped(p, change=entry("archive/a/data.pkl", evil)),
            "holds no Ultralytics",
        ),
        "second folder": (
            lambda p: zipped(p, change=entry("other/data.pkl", evil)),
            outside.format("other/data.pkl"),
        ),
        "path upwards": (
            lambda p: zipped(p, change=entry("archive/../../x")),
            outside.format(r"archive/\.\./\.\./x"),
        ),
        "absolute path": (lambda p: zipped(p, change=entry("/etc/x")), outside.format("/etc/x")),
        "windows path": (
            lambda p: zipped(p, change=entry("archive/C:\\x")),
            "holds .* under an odd name",
        ),
        "control characters": (
            lambda p: zipped(p, change=entry("archive/\x1b[2J")),
            "holds .* under an odd name",
        ),
        "link": (
            lambda p: zipped(p, change=entry("archive/data/1", b"/etc", external_attr=LINK)),
            "as a link",
        ),
        "same name twice": (
            lambda p: zipped(p, change=entry("archive/data.pkl", evil)),
            "holds 'archive/data.pkl' twice",
        ),
        "encrypted": (
            lambda p: patched(
                zipped(p),
                b"PK\x01\x02\x14\x03\x14\x00\x00\x00",
                b"PK\x01\x02\x14\x03\x14\x00\x01\x00",
            ),
            "encrypted",
        ),
        "compressed": (
            lambda p: zipped(
                p, os.urandom(9999), change=entry("archive/z", bytes(99), compress_type=8)
            ),
            "holds 'archive/z' compressed",
        ),
        "unpacks to gigabytes": (
            lambda p: zipped(p, change=entry("archive/z", bytes(50_000_000), compress_type=8)),
            "unpacks to more than its size",
        ),
        "odd compression": (
            lambda p: zipped(
                p, os.urandom(9999), change=entry("archive/z", bytes(99), compress_type=14)
            ),
            "holds 'archive/z' compressed",
        ),
        "zip64 that overflows": (_zip64, "table of contents of 4611686018427 MB"),
        "directory of megabytes": (_large_directory, "table of contents of 1. MB"),
        "three gigabytes": (lambda p: _sparse(p, 3_000_000_000), "has 3.0 GB"),
        "cut off": (lambda p: _sparse(p, 90), "its last bytes do not end an archive"),
        "storage cut off": (
            lambda p: zipped(p, whole(tensor(4)), **{"data/0": bytes(12)}),
            "has 12 bytes, not 16",
        ),
        "checksum": (lambda p: patched(zipped(p), b"little", b"lottle"), "checksum of"),
        "entry beyond the end": (_entry_beyond_the_end, r"damaged or cut off \(EOFError\)"),
        "two ends": (_two_ends, "its last bytes do not end an archive"),
        "an end before the end": (_end_before_the_end, "its last bytes do not end an archive"),
        "directory elsewhere": (_directory_elsewhere, "its table of contents is not where it says"),
        "names that differ": (_differing_names, r"the checksum of 'archive/a (a ){25}' is wrong"),
        "pickle of nothing but zeros": (
            lambda p: _hollow(p, "data.pkl", 300 << 20, b""),
            "its pickle has more than 8 MiB",
        ),
        "storage without room": (
            lambda p: _hollow(p, "data/1", 100 << 20, whole(tensor(25 << 20, key=text("1")))),
            "holds bare weights",
        ),
        "pipe": (os.mkfifo, "is a pipe or a device, not a file"),
        "device": (lambda p: p.symlink_to("/dev/zero"), "is a pipe or a device, not a file"),
        "big-endian": (lambda p: zipped(p, byteorder=b"big"), "big-endian"),
        "script": (lambda p: zipped(p, change=entry("archive/constants.pkl")), "is a TorchScript"),
        "legacy": (lambda p: p.write_bytes(shell(Path(command[6:]), 2)), "not a PyTorch check"),
        "tar": (lambda p: _tar(p, command), "not a PyTorch checkpoint"),
        "safetensors with a lying header": (_safetensors, "not a PyTorch checkpoint"),
        **{
            f"protocol {number_}": (
                lambda p, n=number_: zipped(p, shell(Path(command[6:]), n)),
                SHELL if number_ else "uses DICT",
            )
            for number_ in (0, 1, 2, 3, 4, 5)
        },
    }


CHILD = """
import copyreg, json, os, sys, time
import encodings.cp437, encodings.unicode_escape  # so that nothing imports them later
from pathlib import Path
from typing import Any
from torch_support import DEMO, load
from yolodeploy.errors import ModelError

copyreg.add_extension("posix", "system", 1)
folder, seen, armed = Path(sys.argv[1]), [], False
QUIET = {"os.listdir", "os.scandir", "os.fspath", "object.__getattr__", "sys._getframe", "builtins.id"}
HARMFUL = ("exec", "compile", "import", "pickle.", "marshal.", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")


def hook(event, arguments):
    if not armed or event in QUIET:
        return
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event.startswith(HARMFUL):
        seen.append(f"{event} {arguments!r:.90}")


sys.addaudithook(hook)
load(DEMO, folder / "work")  # so that nothing is imported later
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1e3
before, found = peak(), {}
for path in sorted(folder.glob("*.pt")):
    work = folder / f"{path.stem}.work"
    work.mkdir()
    source = path
    from yolodeploy_torch.checkpoint import read_checkpoint_model
    start = time.process_time()
    armed, said = True, None
    try:
        read_checkpoint_model(path)
    except ModelError as error:
        said = str(error)
    armed = False
    found[path.stem] = [said, time.process_time() - start, list(seen)]
    seen.clear()
print(json.dumps({"peak": peak() - before, "found": found}))
"""


def write_hostile(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write every hostile file; returns each with the message that must refuse it. None may create `canary`."""
    command = f"touch {folder / 'canary'}"
    files = {}
    for name, (pickled, said) in pickles(command).items():
        path = folder / f"{name.replace(' ', '-')}.pt"
        files[name] = (zipped(path, pickled), said)
    for name, (make, said) in _archives(command).items():
        path = folder / f"archive-{name.replace(' ', '-')}.pt"
        make(path)
        files[f"archive: {name}"] = (path, said)
    return files


def read_all(folder: Path) -> dict[str, Any]:
    """Read them all in a process that watches itself, and return what it saw.

    `found` has by file name the message, the CPU seconds, and the suspicious events; `peak` is in megabytes.
    """
    path = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, folder], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome
