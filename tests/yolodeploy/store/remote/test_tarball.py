"""Objects packed as one file: the same bytes for the same object; anything else is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from yolodeploy.store.objects import Meta
from yolodeploy.store.remote.tarball import MAX_FILES, BadArchive, pack, read_head, unpack
from yolodeploy.system.digest import tree_digest, tree_files

FILES = {"a.bin": b"x" * 700, "deep/er/b.txt": b"", "c ü.txt": b"y" * 512}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def meta(data: Path) -> Meta:
    size = sum(map(len, FILES.values()))
    return Meta("ab" * 32, "export", "brick", tree_digest(data), size, 1.5, 1e9)


def test_there_and_back(tmp_path: Path, data: Path, meta: Meta) -> None:
    pack(meta, data, tmp_path / "one.tar")
    (data / "a.bin").touch()
    (data / "a.bin").chmod(0o600)
    pack(meta, data, tmp_path / "two.tar")
    raw = (tmp_path / "one.tar").read_bytes()
    assert raw == (tmp_path / "two.tar").read_bytes()
    (tmp_path / "out").mkdir()
    assert unpack(io.BytesIO(raw), tmp_path / "out") == meta == read_head(io.BytesIO(raw))
    assert tree_digest(tmp_path / "out") == meta.digest
    with tarfile.open(tmp_path / "one.tar") as others:  # Python's reader agrees
        assert others.getnames() == ["meta.json", *(f"data/{name}" for name in tree_files(data))]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n" * 120, "name is too long"),
        ("a:b", "a file with a name that is not allowed"),
        ("a\\b", "a file with a name that is not allowed"),
        ("a\u200bb", "a file with a name that is not allowed"),
    ],
)
def test_what_would_not_be_read_is_not_written(
    tmp_path: Path, meta: Meta, name: str, message: str
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        pack(meta, folder, tmp_path / "one.tar")


def test_more_files_than_are_read_are_not_written(
    tmp_path: Path, meta: Meta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.store.remote.tarball.MAX_FILES", 2)
    folder = tmp_path / "many"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match="more than 2 files"):
        pack(meta, folder, tmp_path / "one.tar")


def _tar(meta: Meta, *entries: tarfile.TarInfo, format_: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    text = json.dumps(asdict(meta)).encode()
    with tarfile.open(fileobj=out, mode="w", format=format_) as tar:
        head = tarfile.TarInfo("meta.json")
        head.size = len(text)
        tar.addfile(head, io.BytesIO(text))
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return out.getvalue()


def _entry(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, to: str = ""
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size, kind, to
    return entry


Bad = Callable[[Meta], bytes]
BAD: dict[str, tuple[Bad, str]] = {
    "empty": (lambda _: b"", "ends too early"),
    "zeros": (lambda _: bytes(1024), "does not begin with a description"),
    "text": (lambda _: b"<html>" * 200, "is not the archive of a result"),
    "compressed": (lambda m: gzip.compress(_tar(m)).ljust(1024), "is not the archive of a result"),
    "no end": (lambda m: _tar(m, _entry("data/a", m.bytes))[:2048], "ends too early"),
    "cut": (lambda m: _tar(replace(m, bytes=9000), _entry("data/a", 9000))[:4096], "ends too early"),
    "link": (lambda m: _tar(m, _entry("data/a", kind=tarfile.SYMTYPE, to="/etc")), "is not a file"),
    "hard link": (lambda m: _tar(m, _entry("data/a", kind=tarfile.LNKTYPE, to="x")), "is not a file"),
    "pipe": (lambda m: _tar(m, _entry("data/a", kind=tarfile.FIFOTYPE)), "is not a file"),
    "folder": (lambda m: _tar(m, _entry("data/a", kind=tarfile.DIRTYPE)), "is not a file"),
    "extended": (lambda m: _tar(m, _entry("data/" + "n" * 200), format_=tarfile.PAX_FORMAT), "is not a file"),
    "gnu": (lambda m: _tar(m, _entry("data/" + "n" * 200), format_=tarfile.GNU_FORMAT), "is not a file"),
    "up": (lambda m: _tar(m, _entry("data/../../x")), "a file with a name that is not allowed"),
    "root": (lambda m: _tar(m, _entry("/data/x")), "a file with a name that is not allowed"),
    "beside": (lambda m: _tar(m, _entry("meta.json")), "a file with a name that is not allowed"),
    "dot": (lambda m: _tar(m, _entry("data/./x")), "a file with a name that is not allowed"),
    "backslash": (lambda m: _tar(m, _entry("data/..\\x")), "a file with a name that is not allowed"),
    "drive": (lambda m: _tar(m, _entry("data/c:x")), "a file with a name that is not allowed"),
    "control": (lambda m: _tar(m, _entry("data/\x1b[2J")), "a file with a name that is not allowed"),
    "twice": (lambda m: _tar(m, _entry("data/x"), _entry("data/x")), "twice"),
    "file and folder": (lambda m: _tar(m, _entry("data/x"), _entry("data/x/y")), "twice"),
    "folder and file": (lambda m: _tar(m, _entry("data/x/y"), _entry("data/x")), "twice"),
    "more": (lambda m: _tar(m, _entry("data/x", m.bytes + 1)), "holds more bytes than its description says"),
    "fewer": (lambda m: _tar(m, _entry("data/x", m.bytes - 1)), "holds fewer bytes than its description says"),
    "huge": (lambda m: _tar(replace(m, bytes=10**13)), "claims to hold 10000000000000 bytes; at most 8000000000 are allowed"),
    "negative": (lambda m: _tar(replace(m, bytes=-1)), "has a description that cannot be read"),
    "many": (
        lambda m: _tar(m, *(_entry(f"data/{number}") for number in range(MAX_FILES + 1))),
        f"holds more than {MAX_FILES} files",
    ),
    "no numbers": (lambda m: _tar(replace(m, bytes="1")), "has a description that cannot be read"),  # type: ignore[arg-type]
    "long description": (lambda m: _tar(replace(m, step="s" * 70_000)), "begin with a description"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_written_is_not_read(tmp_path: Path, meta: Meta, name: str) -> None:
    make, message = BAD[name]
    folder = tmp_path / "out" / "data"
    folder.mkdir(parents=True)
    with pytest.raises(BadArchive, match=message):
        unpack(io.BytesIO(make(meta)), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["data"]
    assert not any(path.is_symlink() for path in folder.rglob("*"))
