"""A real sshd of this machine, on the loopback interface, with keys, configuration and port of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_PRIVILEGES = Path("/run/sshd")  # where root's sshd wants an empty folder (Debian's)


class SshServer:
    """`config` is an ssh configuration in which it is `desk`; `home` the home folder of whoever logs in there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.config, self.known = folder / "config", folder / "known_hosts"
        self.home.mkdir()
        for name in ("host", "user", "other"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.let_in("user")
        self.trust("host")
        self.write_config()
        self._start()

    def write_config(self, **changed: object) -> None:
        """Write the client's configuration, with some settings changed."""
        settings = {
            "HostName": "127.0.0.1",
            "Port": self.port,
            "User": getpass.getuser(),
            "IdentityFile": self.folder / "user",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.known,
            "GlobalKnownHostsFile": "/dev/null",
            **changed,
        }
        lines = "".join(f"  {name} {value}\n" for name, value in settings.items())
        self.config.write_text(f"Host desk\n{lines}")

    def let_in(self, key: str, **options: str) -> None:
        """Let this key in and no other, with options of authorized_keys(5)."""
        limits = ",".join(f'{name}="{value}"' for name, value in options.items())
        line = (self.folder / f"{key}.pub").read_text()
        (self.folder / "keys").write_text(f"{limits} {line}".lstrip())

    def trust(self, key: str) -> None:
        """Say in known_hosts that the machine has this key."""
        kind, value = (self.folder / f"{key}.pub").read_text().split()[:2]
        self.known.write_text(f"[127.0.0.1]:{self.port} {kind} {value}\n")

    def children(self) -> list[int]:
        """The processes of the server that serve somebody."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line) for line in found.stdout.split()]

    def cut(self) -> None:
        """End all connections."""
        for child in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def workers(self) -> list[int]:
        """The workers that write below the home folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if any(word.startswith(bytes(self.home)) for word in words) and b"-c" in words:
                    found.append(int(path.parent.name))
        return found

    def stop(self) -> None:
        """End the server."""
        self.cut()
        self._process.terminate()
        self._process.wait()

    def _start(self) -> None:
        assert _SSHD is not None
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "PidFile": "none",
            "AuthorizedKeysFile": self.folder / "keys",
            "StrictModes": "no",  # the folder of a test lies in one that everybody may write to
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "SetEnv": f"HOME={self.home}",
        }
        file = self.folder / "sshd_config"
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(file)], stderr=log)
        end = time.monotonic() + 10
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise AssertionError((self.folder / "log").read_text())


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """A running server; the test is skipped where there is none."""
    if _SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no ssh server here. Run: apt-get install openssh-server openssh-client")
    if os.geteuid() == 0:
        _PRIVILEGES.mkdir(exist_ok=True)
    server = SshServer(folder)
    try:
        yield server
    finally:
        server.stop()
