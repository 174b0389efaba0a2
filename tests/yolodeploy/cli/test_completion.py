"""Shell completion, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from world import World

_ASK = """
source completion.bash
COMP_WORDS=(yolodeploy "$@")
COMP_CWORD=$#
COMP_LINE="yolodeploy $*"
COMP_POINT=${#COMP_LINE}
_shtab_yolodeploy
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _shell(name: str) -> str:
    return shutil.which(name) or pytest.skip(
        f"{name} is not installed; install it to test its completion"
    )


def _completed(folder: Path, words: Sequence[str]) -> set[str]:
    command = [_shell("bash"), "-c", _ASK, "bash", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_recipes_and_devices(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "config/yolodeploy/hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text('[lab]\\nkind = "ssh"\\naddress = "10.0.0.7"\\n'.replace("\\n", "\n"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    script = world.run("completion", "bash")
    assert script.code == 0
    world.write("completion.bash", script.out)
    world.write("notes.txt", "")
    assert {"deploy", "devices", "doctor"} <= _completed(world.root, ["d"])
    assert _completed(world.root, ["dep"]) == {"deploy"}
    assert {"--locked", "--markdown"} <= _completed(world.root, ["deploy", "--"])
    assert _completed(world.root, ["deploy", ""]) == {"pot.yaml", "data"}
    assert _completed(world.root, ["deploy", "--locked", "po"]) == {"pot.yaml"}
    assert _completed(world.root, ["init", "--device", "kiln"]) == {"kiln-a", "kiln-b"}
    assert _completed(world.root, ["deploy", "--undecided", "a"]) == {"accept"}
    assert _completed(world.root, ["deploy", "pot.yaml", "--on", ""]) == {"auto", "lab", "ray"}
    hosts.write_text("[broken")
    assert "auto ray" in world.run("completion", "bash").out


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(world: World, shell: str) -> None:
    script = world.write("script", world.run("completion", shell).out)
    if shell == "fish":
        ask = "source script; complete -C 'yolodeploy init --device kiln'"
        done = subprocess.run(
            [_shell(shell), "-c", ask], capture_output=True, text=True, check=True
        )
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["kiln-a", "kiln-b"]
    subprocess.run([_shell(shell), "-n", str(script)], check=True, capture_output=True)
