"""Checkpoints that ask for code to be run: refused, named, and not run."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import re
import subprocess
import tarfile
import webbrowser
import zipfile
from pathlib import Path

import pytest
import torch
from pickles import Calls, zipped
from torch_support import load

from yolodeploy.errors import ModelError


def hostile(canary: Path) -> dict[str, tuple[object, str]]:
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    return {
        "shell": (Calls(os.system, touch), "posix.system"),
        "eval": (Calls(builtins.eval, code), "builtins.eval"),
        "exec": (Calls(builtins.exec, code), "builtins.exec"),
        "process": (
            Calls(subprocess.Popen, ["touch", str(canary)]),
            "commands.Popen|subprocess.Popen",
        ),
        "getattr": (Calls(Calls(getattr, canary, "touch")), "builtins.getattr"),
        "partial": (
            Calls(functools.partial(functools.partial(os.system), touch)),
            "functools.partial",
        ),
        "import": (Calls(builtins.__import__, "antigravity"), "builtins.__import__"),
        "browser": (Calls(webbrowser.open, f"file://{canary}"), "webbrowser.open"),
    }


@pytest.mark.parametrize("name", sorted(hostile(Path("x"))))
@pytest.mark.parametrize("place", ["root", "beside the model"])
def test_code_is_named_and_not_run(name: str, place: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "bad.pt"
    payload, culprit = hostile(canary)[name]
    torch.save(payload if place == "root" else {"model": None, "optimizer": payload}, path)
    registered = set(torch.serialization.get_safe_globals())

    with pytest.raises(ModelError) as caught:
        load(path, tmp_path / "work")

    assert re.match(rf"{re.escape(str(path))} asks to run .*`(?:{culprit})`", str(caught.value))
    assert "nothing was run" in str(caught.value)
    assert "with Ultralytics' `model.save()`; if not, do not open it" in str(caught.value)
    assert not canary.exists()
    assert not any((tmp_path / "work").iterdir())
    assert set(torch.serialization.get_safe_globals()) == registered


def test_the_payloads_would_run_in_an_ordinary_reader(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("shell", "eval", "getattr", "partial"):
        pickle.loads(pickle.dumps(hostile(canary)[name][0], protocol=2))
        assert canary.exists(), name
        canary.unlink()


def test_newer_pickle_protocol(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = hostile(canary)["shell"][0]
    path = zipped(tmp_path / "bad.pt", pickle.dumps({"model": payload}, protocol=4))
    with pytest.raises(ModelError, match=r"asks to run `posix\.system`"):
        load(path, tmp_path / "work")
    assert not canary.exists()


def test_global_that_does_not_exist(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bad.pt", b"\x80\x02cnowhere.at_all\nnothing\n)R.")
    with pytest.raises(ModelError, match=r"asks to run `nowhere\.at_all\.nothing`"):
        load(path, tmp_path / "work")


def test_attribute_of_an_allowed_class_is_another_global(tmp_path: Path) -> None:
    pickled = b"\x80\x02cultralytics.nn.modules.conv\nConv.__init__.__globals__\n."
    path = zipped(tmp_path / "bad.pt", pickled)
    with pytest.raises(ModelError, match=r"asks to run `ultralytics\..*__globals__`"):
        load(path, tmp_path / "work")


def test_old_formats_are_not_read_at_all(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = hostile(canary)["shell"][0]
    legacy, tar = tmp_path / "legacy.pt", tmp_path / "tar.pt"
    torch.save(payload, legacy, _use_new_zipfile_serialization=False)
    with tarfile.open(tar, "w") as file:
        for member in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload, protocol=2)
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    for number, path in enumerate((legacy, tar)):
        with pytest.raises(ModelError, match="is not a PyTorch checkpoint"):
            load(path, tmp_path / f"work{number}")
    assert not canary.exists()


def test_archive_that_unpacks_to_more_than_its_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(ModelError, match="unpacks to more than its size"):
        load(path, tmp_path / "work")


def test_stand_ins_do_nothing_even_with_odd_state(tmp_path: Path) -> None:
    model = b"cultralytics.nn.tasks\nDetectionModel\n)\x81"
    states = {
        "no state": b"",
        "text as modules": b"}U\x08_modulesU\x03abcsb",
        "itself as a layer": b"q\x00}U\x08_modules}U\x05modelh\x00ssb",
        "state that is no dict": b"K\x05b",
    }
    for number, (name, state) in enumerate(states.items()):
        pickled = b"\x80\x02}X\x05\x00\x00\x00model" + model + state + b"s."
        path = zipped(tmp_path / f"{number}.pt", pickled)
        with pytest.raises(ModelError, match=r"cannot be used|is damaged"):
            load(path, tmp_path / name)
