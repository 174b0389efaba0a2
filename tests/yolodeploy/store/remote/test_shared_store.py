"""The shared store: which results are used, which are refused, and what happens when it is down."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from world import World, objects

import yolodeploy.store.remote.tarball
from yolodeploy.store.objects import read_meta
from yolodeploy.store.remote.cache import storage_at
from yolodeploy.store.remote.object_store import TRANSFER
from yolodeploy.store.remote.storage import Address
from yolodeploy.store.remote.tarball import pack
from yolodeploy.store.store import Store
from yolodeploy.system.digest import tree_digest

SHARED = ["load", "export", "press"]
STEPS = [*SHARED, "export"]  # the last is the float export to compare with, which no lock names


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Any]]:
    """A real S3 server, and a client of it."""
    import boto3
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("AWS_ACCESS_KEY_ID", "potter")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "clay")
        running = ThreadedMotoServer(port=0, verbose=False)
        running.start()
        url = "http://{}:{}".format(*running.get_host_and_port())
        yield url, boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        running.stop()


@pytest.fixture
def bucket(server: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An empty bucket `team`, and environment variables that lead to it."""
    url, client = server
    for name, value in {
        "AWS_ENDPOINT_URL_S3": url, "AWS_ACCESS_KEY_ID": "potter", "AWS_SECRET_ACCESS_KEY": "clay",
        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client.create_bucket(Bucket="team")
    yield client
    for entry in client.list_objects_v2(Bucket="team").get("Contents", ()):
        client.delete_object(Bucket="team", Key=entry["Key"])
    client.delete_bucket(Bucket="team")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shared store in a folder."""
    team = tmp_path / "team"
    team.mkdir()
    return team


def _url(folder: Path) -> str:
    return folder.as_uri()


def _forget(world: World) -> None:
    """Become another machine: an empty store, and no bundle."""
    import shutil

    world.cache.rename(world.cache.with_name(f"cache-{time.monotonic_ns()}"))
    shutil.rmtree(world.root / "dist", ignore_errors=True)
    Path(os.environ["CLAY_LOG"]).unlink(missing_ok=True)


def _shared(folder: Path, world: World, step: str) -> Path:
    """Where the result of a step lies in a shared store."""
    planned = next(p for p in world.plan().steps if p.step.name == step)
    return folder / "objects" / planned.id[:2] / f"{planned.id}.tar"


def _warnings(error: str) -> list[str]:
    return [line for line in error.splitlines() if line.startswith("warning: ")]


def test_what_one_made_another_fetches(world: World, bucket: Any) -> None:
    world.good("--store", "s3://team/pots")
    assert sorted(world.log) == sorted(STEPS)
    lock, digest = world.lock.read_bytes(), json.loads((world.bundle / "report.json").read_text())
    _forget(world)
    result = world.good("--store", "s3://team/pots", "--locked")
    assert world.log == ["export"]
    assert "press brick fetched from s3://team/pots, as locked (" in result.err
    assert world.lock.read_bytes() == lock
    again = json.loads((world.bundle / "report.json").read_text())
    assert again["artifact"]["digest"] == digest["artifact"]["digest"]
    assert world.run("cache", "verify").code == 0
    assert _warnings(result.err) == []


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Google Cloud Storage, emulated, with a bucket `team`."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="team")
    server.start()
    port = server._api._httpd.server_port
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv(
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false"
    )  # it would ask for something that the emulator lacks
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server._storage
    server.stop()


def test_google(world: World, google: Any) -> None:
    assert _warnings(world.good("--store", "gs://team/pots").err) == []
    names = [entry["name"] for entry in google.get_file_list("team")[0]]
    assert sorted(names) == sorted(
        f"pots/objects/{p.id[:2]}/{p.id}.tar" for p in world.plan().steps
    )
    _forget(world)
    result = world.good("--store", "gs://team/pots", "--locked")
    assert "press brick fetched from gs://team/pots, as locked (" in result.err
    assert (_warnings(result.err), world.log) == ([], ["export"])
    storage = storage_at(Address("gs://team/pots", "--store"))
    with pytest.raises(FileExistsError):
        storage.put(world.lock, names[0].removeprefix("pots/"))


def test_the_last_result_is_enough(world: World, folder: Path) -> None:
    assert world.run("build", "pot.yaml", "--store", _url(folder)).code == 0
    _forget(world)
    result = world.run("build", "pot.yaml", "--store", _url(folder))
    assert (result.code, world.log) == (0, [])
    assert len(objects(world.cache)) == 1
    assert "which no lock names yet" in result.err


def test_the_variable_names_it_and_an_empty_option_names_none(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLODEPLOY_STORE", _url(folder))
    world.good("--store", "")
    assert list(folder.iterdir()) == []
    _forget(world)
    world.good()
    assert len(list(folder.glob("objects/??/*.tar"))) == len(SHARED)
    assert not list(folder.glob("tmp/*"))
    ran = len(world.log)
    assert world.run("reproduce", "pot.yaml").code == 0
    assert len(world.log) == ran + 3  # built again, not fetched


def test_http_only_gives(world: World, folder: Path) -> None:
    world.good("--store", _url(folder))
    before = sorted(folder.rglob("*"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder.parent))
    with _serving(handler) as url:
        _forget(world)
        assert _warnings(world.good("--store", url).err) == []
        assert world.log == ["export"]
        world.recipe(("0.25", "0.5"))
        assert _warnings(world.good("--store", url).err) == []
        assert world.log == ["export", "press"]
    assert sorted(folder.rglob("*")) == before


@contextlib.contextmanager
def _serving(handler: Any) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/team"
        server.shutdown()


def _cut(file: Path, _: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(file: Path, _: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _swap(file: Path, other: Path) -> None:
    file.write_bytes(other.read_bytes())


def _page(file: Path, _: Path) -> None:
    file.write_text("<html>moved</html>" * 100)


@pytest.mark.parametrize(
    ("damage", "reason", "warnings"),
    [
        (_cut, "ends too early", 1),
        (_flip, "does not match its own digest", 1),
        (_swap, r"belongs to another step \(load, [0-9a-f]{12}\)", 2),
        (_page, "is not the archive of a result", 2),
    ],
)
def test_what_is_damaged_is_made_here(
    world: World, folder: Path, damage: Callable[[Path, Path], None], reason: str, warnings: int
) -> None:
    world.good("--store", _url(folder))
    file, other = _shared(folder, world, "press"), _shared(folder, world, "load")
    file.chmod(0o644)
    damage(file, other)
    spoilt = file.read_bytes()
    _forget(world)
    result = world.good("--store", _url(folder), "--locked")
    assert world.log == ["press", "export"]
    told = _warnings(result.err)
    assert re.search(rf"{file.stem}\.tar is not used: it {reason}\. `press` runs here", told[0])
    assert len(told) == warnings  # a description that does not match gets a warning and is left
    assert all("It is not overwritten" in line for line in told[1:])
    assert file.read_bytes() == spoilt
    assert world.run("cache", "verify").code == 0


def _exchange(world: World, folder: Path, step: str, name: str = "more") -> None:
    """Replace a result as an attacker with write access can: other bytes, with a matching description."""
    file = _shared(folder, world, step)
    home = next(home for home in objects(world.cache) if home.name == file.stem)
    evil = folder.parent / f"evil-{step}"
    evil.mkdir()
    for path in (home / "data").iterdir():
        (evil / path.name).write_bytes(path.read_bytes())
    (evil / name).write_bytes(b"evil")
    meta = read_meta(home)
    assert meta
    size = sum(path.stat().st_size for path in evil.iterdir())
    lie = type(meta)(**{**vars(meta), "digest": tree_digest(evil), "bytes": size})
    file.chmod(0o644)
    pack(lie, evil, file)


def test_what_was_exchanged_is_refused_where_a_lock_names_the_digest(
    world: World, folder: Path
) -> None:
    world.good("--store", _url(folder))
    _exchange(world, folder, "press")
    _forget(world)
    result = world.good("--store", _url(folder))
    assert world.log == ["press", "export"]
    assert re.search(r"it has the digest [0-9a-f]{12}, but the lock names", result.err)
    world.lock.unlink()
    _forget(world)
    result = world.good("--store", _url(folder))  # as docs/shared-store.md says
    assert "press brick fetched" in result.err
    assert "which no lock names yet" in result.err


def test_what_came_before_a_lock_named_it_is_held_against_it_too(
    world: World, folder: Path
) -> None:
    """A recipe without a lock fetches replaced results into the local store; one with a lock does not use them."""
    world.good("--store", _url(folder))
    lock = world.lock.read_bytes()
    for step in ("export", "press"):
        _exchange(world, folder, step)
    _forget(world)
    world.recipe(name="jug.yaml")
    world.recipe(("  - press: {strength: 0.25}\n", ""), name="cup.yaml")
    for name in ("jug.yaml", "cup.yaml"):
        assert world.run("build", name, "--store", _url(folder)).code == 0
    assert world.log == []
    result = world.good("--locked")
    told = (
        "came from file:///.*/team and is not what the lock names; it is removed and will be made"
    )
    assert len(re.findall(told, result.err)) == 2
    assert sorted(world.log) == ["export", "export", "load", "press"]
    assert "warning" not in world.good().err
    assert world.lock.read_bytes() == lock


def test_what_was_made_of_an_exchanged_result_goes_too(world: World, folder: Path) -> None:
    """`export` is fetched while no lock names it, and `press` made of it here; then there is a lock."""
    world.good("--store", _url(folder))
    lock, good = world.lock.read_bytes(), (world.bundle / "weights.bin").read_bytes()
    _exchange(world, folder, "export", "weights.bin")
    press = _shared(folder, world, "press")
    press.chmod(0o644)
    press.unlink()
    _forget(world)
    world.recipe(name="jug.yaml")
    assert world.run("deploy", "jug.yaml", "--store", _url(folder)).code == 0
    assert "press" in world.log
    for more in ("--locked",), ():
        result = world.good(*more)
        assert (world.bundle / "weights.bin").read_bytes() == good
        assert world.lock.read_bytes() == lock
        if more:
            assert (
                "(press) was made from an artifact other than the result of the step before it; it is"
                in result.err
            )
            assert "(measure) was measured on other models than are there now; it is" in result.err
            assert "(export) was made from an artifact" not in result.err
    assert "warning" not in result.err


def test_what_another_build_uses_is_not_taken_away(world: World, folder: Path) -> None:
    world.good("--store", _url(folder))
    _exchange(world, folder, "press")
    _forget(world)
    world.recipe(name="jug.yaml")
    assert world.run("build", "jug.yaml", "--store", _url(folder)).code == 0
    other = Store(world.cache, print)
    other.hold([world.plan().final.id])
    result = world.deploy("--locked")
    assert (result.code, "but another build is using it. Run again when" in result.error) == (
        9,
        True,
    )
    del other
    world.good("--locked")


def test_a_result_that_varies_is_not_made_again_for_an_exchanged_one(
    world: World, folder: Path
) -> None:
    world.recipe(
        ("  calibration:", "  training: {split: train}\n  calibration:"),
        ("  - export", "  - teach: {device: gpu}\n  - export"),
    )
    world.good("--store", _url(folder))
    _exchange(world, folder, "teach")
    _forget(world)
    text = (world.root / "pot.yaml").read_text()
    world.write("jug.yaml", text)
    assert world.run("build", "jug.yaml", "--store", _url(folder)).code == 0
    ran = len(world.log)
    result = world.deploy("--locked", "--store", _url(folder))
    assert (result.code, "cannot be made again" in result.error) == (8, True)
    assert "teach" not in world.log[ran:]


def test_what_no_lock_names_is_neither_given_nor_taken(world: World, folder: Path) -> None:
    world.good("--store", _url(folder))
    world.lock.unlink()
    planned = world.plan().floats[0]
    file = folder / "objects" / planned.id[:2] / f"{planned.id}.tar"
    assert not file.exists()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(_shared(folder, world, "press").read_bytes())
    _forget(world)
    assert _warnings(world.good("--store", _url(folder)).err) == []
    assert world.log == ["export"]


def _sparse(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(20 << 30)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda file: file.mkdir(), "is a folder, a link or a device, not a file"),
    "pipe": (os.mkfifo, "is a folder, a link or a device, not a file"),
    "link": (
        lambda file: file.symlink_to("/dev/zero"),
        "is a folder, a link or a device, not a file",
    ),
    "sparse": (_sparse, "has 21474836480 bytes, which is more than"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_file_of_a_mounted_folder(world: World, folder: Path, what: str) -> None:
    make, message = ODD[what]
    file = _shared(folder, world, "press")
    file.parent.mkdir(parents=True)
    make(file)
    result = world.good("--store", _url(folder))
    told = _warnings(result.err)
    assert f"{file.stem}.tar is not used: it {message}" in told[0]
    assert "holds nothing readable, but `press` gave " in told[1]
    assert len(told) == 2
    assert not world.leftovers()


def test_a_folder_that_is_not_mounted(world: World, folder: Path) -> None:
    folder.rmdir()
    told = _warnings(world.good("--store", _url(folder)).err)
    assert len(told) == 1
    assert (
        "team cannot be written: the bucket or folder does not exist, or is not mounted" in told[0]
    )
    assert not folder.exists()


def test_a_folder_with_a_name_that_a_url_encodes(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "größe 100%"
    folder.mkdir()
    world.good("--store", _url(folder))
    assert len(list(folder.glob("objects/??/*.tar"))) == len(SHARED)
    _forget(world)
    world.good("--store", _url(folder), "--locked")
    assert world.log == ["export"]


def test_a_file_system_without_hard_links(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    world.good("--store", _url(folder))
    assert len(list(folder.glob("objects/??/*.tar"))) == len(SHARED)
    assert list(folder.glob("tmp/*")) == []
    file = world.write("other", "x")
    storage = storage_at(Address(_url(folder), "--store"))
    taken = next(folder.glob("objects/??/*.tar"))
    with pytest.raises(FileExistsError):
        storage.put(file, taken.relative_to(folder).as_posix())


def test_what_killed_writers_left_goes_after_a_day(world: World, folder: Path) -> None:
    (folder / "tmp").mkdir()
    old, new = (f"{id_ * 64}.tar.{id_ * 32}" for id_ in "ab")
    for name, age in ((old, 90_000), (new, 100), ("thesis.doc", 90_000)):
        (folder / "tmp" / name).write_bytes(b"x")
        os.utime(folder / "tmp" / name, (time.time() - age,) * 2)
    world.good("--store", _url(folder))
    assert sorted(path.name for path in folder.glob("tmp/*")) == [new, "thesis.doc"]


def test_a_link_is_not_written_through(world: World, folder: Path) -> None:
    victim = world.write("victim", "mine")
    for step in SHARED:
        file = _shared(folder, world, step)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(victim)
    world.good("--store", _url(folder))
    assert victim.read_text() == "mine"


def test_the_store_of_this_machine_cannot_be_the_shared_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = world.cache.as_uri()
    said = f"{url}: this is the store of this machine. Name another folder."
    result = world.deploy("--store", url)
    assert (result.code, result.error) == (2, f"--store {said}")
    monkeypatch.setenv("YOLODEPLOY_STORE", url)
    result = world.deploy()
    assert (result.code, result.error) == (2, f"YOLODEPLOY_STORE {said}")


def test_no_temporary_folder_is_needed(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container in which only the store and the shared store are writable."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    result = world.run("build", "pot.yaml", "--store", _url(folder))
    assert (result.code, _warnings(result.err)) == (0, [])
    assert len(list(folder.glob("objects/??/*.tar"))) == len(SHARED)


def test_no_room_for_a_copy_costs_a_warning(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("yolodeploy.store.remote.cache.pack", full)
    told = _warnings(world.good("--store", _url(folder)).err)
    assert len(told) == len(SHARED)
    assert told[0].startswith("warning: `load` is not shared: no copy could be made in ")


def test_a_result_that_differs_is_not_overwritten(world: World, folder: Path) -> None:
    world.good("--store", _url(folder))
    theirs = _shared(folder, world, "press").read_bytes()
    _exchange(world, folder, "press")
    taken = _shared(folder, world, "press").read_bytes()
    assert taken != theirs
    _forget(world)
    told = _warnings(world.good("--store", _url(folder)).err)
    assert (
        "It is not overwritten: either the step is not reproducible, or the file was damaged"
        in told[1]
    )
    assert _shared(folder, world, "press").read_bytes() == taken


def test_s3_overwrites_nothing_either(world: World, bucket: Any) -> None:
    (world.root / "one").write_bytes(b"one")
    (world.root / "two").write_bytes(b"two")
    storage: Any = storage_at(Address("s3://team/x", "--store"))
    storage.put(world.root / "one", "objects/k.tar")
    with pytest.raises(FileExistsError):
        storage.put(world.root / "two", "objects/k.tar")
    with pytest.raises(FileExistsError):  # not even if both saw that the key was free
        storage._fs.put_file(str(world.root / "two"), "team/x/objects/k.tar", mode="create")
    assert storage.head("objects/k.tar") == b"one"


def test_a_server_that_is_down_costs_one_warning_and_little_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "potter")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "clay")
    for url in ("s3://team/pots", f"http://127.0.0.1:{port}/team"):
        start = time.monotonic()
        result = world.good("--store", url)
        assert time.monotonic() - start < 15
        told = _warnings(result.err)
        assert "cannot be read: " in told[0]
        assert len(told) == (
            2 if url.startswith("s3") else 1
        )  # the second says that it cannot be written
        _forget(world)


def test_no_bucket_no_rights_no_credentials(
    world: World, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _warnings(world.good("--store", "s3://nobody").err)
    assert len(told) == 1
    assert "s3://nobody cannot be written: the bucket or folder does not exist" in told[0]
    _forget(world)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(world.root))
    told = _warnings(world.good("--store", "s3://team").err)
    assert len(told) == 2
    assert all("no credentials were found; name a profile" in line for line in told)


class _Forbidding(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None: ...


class _Dying(_Forbidding):
    """Promises more bytes than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        self.wfile.flush()
        self.connection.close()


class _Endless(_Forbidding):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 20))


class _Hanging(_Forbidding):
    def do_GET(self) -> None:
        time.sleep(2)


class _Dripping(_Forbidding):
    """Never silent, never done: sends a line of the header, or a byte of the body, every 0.2 seconds."""

    line = b"X-Wait: 1\r\n"
    start = b"HTTP/1.0 200 OK\r\n"

    def do_GET(self) -> None:
        self.wfile.write(self.start)
        with contextlib.suppress(OSError):
            for _ in range(60):
                self.wfile.write(self.line)
                time.sleep(0.2)


class _Trickling(_Dripping):
    line = b"x"
    start = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (_Forbidding, "cannot be read: 403"),
        (_Dying, "cannot be read: "),
        (_Hanging, "cannot be read: "),
        (_Dripping, "cannot be read: transfers less than 50 kB/s"),
        (_Trickling, "cannot be read: transfers less than 50 kB/s"),
        (_Endless, r"is not used: it has more than \d+ bytes"),
    ],
)
def test_servers_that_misbehave(
    world: World, handler: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.store.remote.object_store.SILENCE", 1.0)
    monkeypatch.setattr("yolodeploy.store.remote.object_store.PATIENCE", 2.0)
    monkeypatch.setattr("yolodeploy.store.remote.cache.MAX_BYTES", 5 << 20)
    monkeypatch.setattr("yolodeploy.store.remote.cache._OVERHEAD", 0)
    with _serving(handler) as url:
        start = time.monotonic()
        result = world.good("--store", url)
        assert time.monotonic() - start < 20
    told = _warnings(result.err)
    assert re.search(message, told[0]), told
    _require_no_transfer()
    assert len(told) == (len(SHARED) if handler is _Endless else 1)
    assert sorted(world.log) == sorted(STEPS)
    assert not world.leftovers()


def _require_no_transfer() -> None:
    """A transfer that was given up has ended, and its connection with it."""
    end = time.monotonic() + 5
    while any(thread.name == TRANSFER for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.1)


class _Slow(_Forbidding):
    """Just enough of S3: nothing is there, and uploads are read a little at a time."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        self.send_error(404)

    def do_PUT(self) -> None:
        with contextlib.suppress(OSError):
            while self.rfile.read(100):
                time.sleep(0.2)


def test_a_server_that_takes_next_to_nothing(
    world: World, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.store.remote.object_store.PATIENCE", 1.0)
    world.weights(padding=8_000_000)  # more than the buffers of the sockets hold
    with _serving(_Slow) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url.removesuffix("/team"))
        monkeypatch.setattr("yolodeploy.store.remote.object_store.MIN_RATE", 8e6)
        start = time.monotonic()
        result = world.run("build", "pot.yaml", "--store", "s3://team/pots")
        assert (result.code, time.monotonic() - start < 20) == (0, True)
    told = _warnings(result.err)
    assert len(told) == 1
    assert "cannot be written: transfers less than 8000 kB/s. New results stay" in told[0]
    _require_no_transfer()


def test_a_password_is_not_shown(world: World) -> None:
    with _serving(_Forbidding) as url:
        result = world.good("--store", url.replace("http://", "http://me:secret@"))
    assert "cannot be read: " in result.err
    assert "secret" not in result.err


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@[::1/x", "https://me:AKIA/secret@host/x", "https://me:sec#secret@host/x",
        "http:/me:secret@host/x", "me:secret@host/x", "https://host/x?signature=secret", "http://[zz]/x",
        "file://[x", "s3://me:secret@",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_not_shown_either(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLODEPLOY_STORE", url)
    result = world.deploy()
    assert (result.code, world.log) == (2, [])
    assert result.error.startswith("YOLODEPLOY_STORE: ")
    assert "secret" not in result.err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://x/y", "this is not the URL of a folder. Begin it with one of s3://, gs://, file://, http://"),
        ("/mnt/team", "this is not the URL of a folder"),
        ("s3://", "the URL names no folder. Write it as s3://name/folder."),
        ("file://host/x", "the URL names no folder. Write it as file:///folder."),
        ("simplecache::s3://x", "this is not the URL of a folder"),
    ],
)  # fmt: skip
def test_addresses(world: World, url: str, message: str) -> None:
    result = world.deploy("--store", url)
    assert (result.code, world.log) == (2, [])
    assert message in result.error


def test_a_driver_that_is_not_installed(world: World) -> None:
    world.write("hide/s3fs.py", "raise ImportError('no', name='s3fs')")
    path = f"{world.root / 'hide'}{os.pathsep}{os.environ['PYTHONPATH']}"
    env = {**os.environ, "PYTHONPATH": path}
    result = world.process("deploy", "pot.yaml", "-q", "--store", "s3://team", env=env)
    assert (result.code, result.error) == (
        4,
        "--store s3://: needs s3fs, which is not installed. Run: pip install 'yolodeploy[remote]'",
    )


def test_all_at_once(world: World, folder: Path) -> None:
    """Eight machines make and share the same results: all succeed, with one file per result."""
    processes = [
        world.start("build", "pot.yaml", "-q", "--store", _url(folder), "--cache", f"cache{number}")
        for number in range(8)
    ]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert len(list(folder.glob("objects/??/*.tar"))) == 3
    assert not list(folder.glob("tmp/*"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_it_fetches(world: World, folder: Path, sent: signal.Signals) -> None:
    with _serving(_Hanging) as url:
        process = world.start("build", "pot.yaml", "-q", "--store", url)
        time.sleep(1.5)
        start = time.monotonic()
        process.send_signal(sent)
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == (130 if sent == signal.SIGINT else -9)
    assert "Traceback" not in err
    assert objects(world.cache) == []
    world.good("--store", _url(folder))


def test_a_disk_that_is_full_while_fetching(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good("--store", _url(folder))
    _forget(world)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(yolodeploy.store.remote.tarball, "_write", full)
    result = world.deploy("--store", _url(folder))
    assert result.code == 9
    assert "the disk is full. Free some space" in result.error
    assert not world.leftovers()


def test_a_result_that_varies_is_fetched_where_it_cannot_be_made_again(
    world: World, folder: Path
) -> None:
    world.recipe(
        ("  calibration:", "  training: {split: train}\n  calibration:"),
        ("  - export", "  - teach: {device: gpu}\n  - export"),
    )
    world.good("--store", _url(folder))
    _forget(world)
    assert world.deploy("--locked").code == 8
    world.good("--locked", "--store", _url(folder))
    assert "teach" not in world.log


def test_an_unchanged_deploy_asks_nobody(world: World, folder: Path) -> None:
    world.good("--store", _url(folder))
    code = f"""
import sys
from yolodeploy.cli.main import main
assert main(["deploy", "pot.yaml", "-q", "--store", "{_url(folder)}"]) == 0
print([name for name in ("fsspec", "s3fs", "aiohttp") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=world.root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
