"""`yolodeploy hosts`: a list with what is installed, and what mends what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from yolodeploy.api.session import chosen_host
from yolodeploy.cli import main as cli
from yolodeploy.errors import RecipeError

_HOSTS = """
[here]
kind = "process"
command = ["{python}"]
folder = "{folder}"

[bare]
kind = "process"
command = ["{python}", "-S"]
folder = "{folder}"

[gone]
kind = "process"
command = ["{folder}/python"]
"""


@pytest.fixture(autouse=True)
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_dir", lambda _: str(tmp_path))
    file = tmp_path / "hosts.toml"
    file.write_text(_HOSTS.format(python=sys.executable, folder=tmp_path / "worker"))


def test_all_hosts_are_listed_with_what_they_have_or_why_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(file.read_text().replace("[gone]", 'device = "iphone-17"\n[gone]'))
    pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")
    assert cli.main(["hosts"]) == 0
    text = capsys.readouterr().out
    assert f"Python {sys.version.split()[0]}: " in text
    assert ", ncnn 1" in text.replace(": ncnn", ", ncnn")
    assert "no runtime" in text  # of the bare one
    assert "device: iphone-17, but its system is Linux, not iOS" in " ".join(text.split())
    assert "cannot be started: No such file or directory." in " ".join(text.split())
    assert "See: yolodeploy hosts check gone" in text  # in one line, to be copied
    assert all(len(line) <= 80 for line in text.splitlines() if "/" not in line)
    assert cli.main(["hosts", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["here", "bare", "gone"]
    assert rows[0]["error"] is None
    assert rows[0]["distributions"]["numpy"]
    assert [row["not_device"] for row in rows] == [None, "its system is Linux, not iOS", None]
    assert rows[2]["machine"] is None


def test_check_says_what_is_missing_and_what_mends_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ncnn", reason="not installed. Run: pip install -e '.[ncnn]'")
    assert cli.main(["hosts", "check", "here"]) == 0
    said = capsys.readouterr().out
    assert "ok  ncnn         ncnn 1" in said
    if sys.platform != "darwin":
        assert "NO  coreml       its runtime exists for macOS only, and this is Linux\nok " in said
    assert cli.main(["hosts", "check", "bare"]) == 13
    assert (
        "`bare`: it cannot run artifacts of any backend yet. Run one of the commands above.\n"
        in capsys.readouterr().err
    )
    about = tmp_path / "wheels" / "ncnn-0.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: ncnn\nVersion: 0.1\n")
    other = f'[other]\nkind = "process"\ndevice = "android"\nfolder = "{tmp_path}/worker"\n'
    command = ["env", f"PYTHONPATH={about.parents[1]}", sys.executable]
    (tmp_path / "hosts.toml").write_text(f"{other}command = {json.dumps(command)}\n")
    assert cli.main(["hosts", "check", "other"]) == 13
    said = capsys.readouterr()
    assert "NO  ncnn         ncnn is 0.1, not 1" in said.out
    assert f"{sys.executable} -m pip install ncnn==1" in said.out
    assert said.err.startswith(
        "error: host `other`: hosts.toml says `device: android` (Any 64-bit "
    )
    bare = json.dumps([*command, "-S"])
    (tmp_path / "hosts.toml").write_text(f"{other}command = {bare}\n")
    monkeypatch.setattr("yolodeploy.measure.require_claim", lambda *_: None)
    assert cli.main(["hosts", "check", "other"]) == 13
    said = capsys.readouterr()
    assert said.err.endswith("cannot run artifacts of ncnn yet. Run the command above.\n")
    assert said.out.count(" -m pip install ") == 1  # what its device needs
    assert cli.main(["hosts", "check", "nowhere"]) == 2
    assert "there is no host `nowhere` in " in capsys.readouterr().err


def _host(folder: Path, address: str) -> Path:
    folder.mkdir()
    (folder / "hosts.toml").write_text(f'[lab]\nkind = "ssh"\naddress = "{address}"\n')
    return folder


def test_recipes_of_several_folders_must_mean_the_same_machine(tmp_path: Path) -> None:
    folders = [_host(tmp_path / name, name) for name in ("one", "two")]
    with pytest.raises(RecipeError, match=r"one/hosts.toml and .*two/hosts.toml mean different"):
        chosen_host("lab", folders).__enter__()
    with chosen_host("lab", folders[:1]) as host:
        assert host.name == "lab"
    for nowhere in (None, "ray", "10.0.0.1:6379"):
        with chosen_host(nowhere, folders) as host:
            assert host.name == ""
