"""hosts.toml: what it may say, who may say it, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolodeploy.errors import RecipeError
from yolodeploy.hosts import find_host, named_hosts
from yolodeploy.hosts.ssh import Settings

_PI = '[pi]\nkind = "ssh"\naddress = "pi@raspberrypi.local"\n'


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own file lies."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    (tmp_path / "yolodeploy").mkdir()
    return tmp_path / "yolodeploy" / "hosts.toml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a recipe."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    return folder


def test_the_users_own_host_goes_before_one_of_the_same_name(own: Path, project: Path) -> None:
    own.write_text(f'{_PI}port = 2222\ndevice = "android"\n')
    more = '[shared]\nkind = "ssh"\naddress = "bench"\n'
    (project / "hosts.toml").write_text(_PI.replace("raspberrypi.local", "evil.example") + more)
    hosts = named_hosts(project)
    assert list(hosts) == ["pi", "shared"]
    expected = Settings(kind="ssh", address="pi@raspberrypi.local", port=2222, device="android")
    assert hosts["pi"].settings == expected
    assert (hosts["pi"].own, hosts["shared"].own) == (True, False)
    opened = find_host("pi", project).open()
    assert (opened.name, opened.claims) == ("pi", "android")
    opened.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pi]\nkind = ssh", "hosts.toml: is not valid TOML: Invalid value (at line 2, column 8)."),
        ("pi = 3", ":1:1: `pi` must be a table: [pi], and its keys below."),
        ('[Pi]\nkind = "ssh"', ":1:2: `Pi` is not a name of a host"),
        ("[ray]\n", ":1:2: `ray` means a cluster, see `--on`. Give the host another name."),
        ("[pi]\n", ":1:2: host `pi`: `kind` is missing. Allowed: adb, process, "),
        ('[pi]\nkind = "sssh"', ":2:1: host `pi`: `kind: sssh` is unknown. Perhaps you meant `ssh`."),
        ('[pi]\nkind = "ssh"', ":1:2: `address` is missing: where the host is: "),
        (f'{_PI}adress = "x"', ":4:1: unknown key `adress`. Perhaps you meant `address`. Allowed: "),
        (f"{_PI}port = 99999", ":4:1: `port: 99999` must be at most 65535."),
        (f'{_PI}port = "22"', ':4:1: `port: "22"` must be a whole number.'),
        (f'{_PI}device = "androit"', ":4:1: host `pi`: `device: androit` is unknown. Perhaps you "),
        (_PI.replace("pi@", "-oProxyCommand=x@"), ":3:1: `address: -oProxyCommand=x@raspberrypi.local` must be"),
        (_PI.replace("pi@", "$(id)@"), ":3:1: `address: $(id)@raspberrypi.local` must be user@host, host"),
        ('[pi]\nkind = "ssh"\naddress = "pi@box:2222"', ':3:1: `address: pi@box:2222` cannot have a port. Write: address = "pi@box", port = 2222.'),
        ('[pi]\nkind = "process"\ncommand = "py"', ':3:1: `command` must be a list of words, such as ["/usr/bin/python3"].'),
        ('[pi]\nkind = "adb"\nserial = "-e"', ":3:1: `serial: -e` must be a device as `adb devices` lists it"),
        ('[pi]\nkind = "adb"\ncores = "4"', ":3:1: `cores` must be a list of numbers, such as [4, 5]."),
        ('[pi]\nkind = "process"\ncommand = [""]', ":3:1: `command` must be a list of words, such as"),
        ('[pi]\nkind = "process"\ncommand = ["py\\u0000"]', ":3:1: host `pi`: `command` has a character that cannot be"),
        ('[pi]\nkind = "qemu"\nroot = "~/arm64"\ncpu = "A 76"', ":4:1: `cpu: A 76` must be a processor as QEMU calls it"),
        ('\ufeff[pi]\nkind = "sssh"', ":2:1: host `pi`: `kind: sssh` is unknown."),
        (f'{_PI}python = "python3 -c x"', ":4:1: `python3 -c x` must be a path on the host that begins"),
        ("[a." * 5000 + "]", "hosts.toml: is not valid TOML: "),
        ("a" * 70000, "hosts.toml: cannot be read: it is larger than"),
        ("".join(f"[h{n}]\n" for n in range(101)), "names 101 hosts; at most 100 are allowed."),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(own: Path, project: Path, text: str, said: str) -> None:
    own.write_text(text)
    with pytest.raises(RecipeError) as error:
        named_hosts(project)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '[pi]\nkind = "process"\ncommand = ["sh", "-c", "echo hello"]\n',
        f'{_PI}python = "/bin/sh"\n',
        f'{_PI}folder = "~/.ssh"\n',
        f'{_PI}config = "evil"\n',
    ],
)
def test_a_file_of_the_project_decides_nothing_that_runs(
    own: Path, project: Path, text: str
) -> None:
    own.write_text(text)
    assert list(named_hosts(project)) == ["pi"]
    own.rename(project / "hosts.toml")
    with pytest.raises(RecipeError, match="only your own file may say it"):
        named_hosts(project)


def test_an_unknown_host_lists_those_that_there_are(own: Path, project: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no .*/yolodeploy/hosts.toml and no .*recip"):
        find_host("pi", project)
    own.write_text(_PI)
    with pytest.raises(
        RecipeError, match=r"there is no host `pii` in .* Perhaps you meant `pi`. Allowed"
    ):
        find_host("pii", project)
