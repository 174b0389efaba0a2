"""Why a connection or a worker ended, from what OpenSSH's client says, as one sentence with its remedy.

The messages are those of OpenSSH 7 to 10 (sshconnect.c, sshconnect2.c, clientloop.c, misc.c).
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence

from yolodeploy.system import quotable

NO_PYTHON = "yolodeploy-worker: no python"
_SSH_FAILED = 255  # or the session ended by a signal
_AGAIN = "What was finished is kept: run again"

# What ssh says; what that means and what to do. The first that is found counts.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        (
            "it has another host key than the one that you know, so this may be another machine. If it was set up anew, run: "
            "{forget}, then: ssh {address}"
        ),
    ),
    (
        "Host key verification failed",
        "its host key is not known here. Run: ssh {address} once, compare the fingerprint with the machine's, and accept it",
    ),
    (
        "Permissions .* are too open",
        "ssh refuses a key file that others can read: {line}. Run chmod 600 on it",
    ),
    (
        "Permission denied",
        "it refuses your key. Run: ssh-copy-id {address} (a key with a passphrase must be in your agent: ssh-add)",
    ),
    (
        "Too many authentication failures",
        (
            "it refuses your keys because too many were offered. Name one for {host} in ~/.ssh/config, with IdentityFile and "
            "IdentitiesOnly yes"
        ),
    ),
    (
        "Could not resolve hostname",
        "there is no machine named {host}. Correct `address` in hosts.toml, or use its IP address",
    ),
    (
        "Connection refused",
        (
            "nothing listens on its ssh port. Start its ssh server (sudo systemctl enable --now ssh), or correct `port` in "
            "hosts.toml"
        ),
    ),
    (
        "(Connection|Operation) timed out|No route to host|Network is (unreachable|down)|Host is down",
        "it cannot be reached. Switch it on, or correct `address` in hosts.toml",
    ),
    (
        "Timeout, server .* not responding",
        "it stopped answering: it hangs, or the network is gone. " + _AGAIN,
    ),
    (
        "Bad configuration option|Bad owner or permissions|[Cc]an't open user config file|no argument after keyword",
        "ssh cannot use its configuration: {line}. Correct that file",
    ),
    (
        "(kex_exchange_identification|banner exchange|Connection (closed|reset)) .*",
        "it hung up before it let you in: {line}. Look into the log of its ssh server: journalctl -u ssh",
    ),
)
_FORGETTING = re.compile(r"""ssh-keygen -f (["'])[\w./~ +-]+\1 -R (["'])[\w.:%\[\]-]+\2""")
_CUT = "the connection was cut. " + _AGAIN


def of_end(said: str, code: int, words: Sequence[str]) -> str:
    """Why a connection ended after it had been made, from what ssh said and its exit code: 255, or the exit code of the command there."""
    if 0 < code < _SSH_FAILED:
        login = shlex.join(words)
        return f"its account runs no commands: the login shell ended with exit code {code}. Give it a shell; this must work: ssh {login} true."
    return of_connection(said, words, started=True)


def of_connection(said: str, words: Sequence[str], *, started: bool) -> str:
    """Why the connection could not be made, or, once it was there (`started`), ended.

    `words` follow `ssh` in the command with which a user logs in, the address last.
    """
    login, host = shlex.join(words), words[-1].rpartition("@")[2]
    lines = [quotable(line.strip(), 300) for line in said.splitlines() if line.strip()]
    last = lines[-1].rstrip(".") if lines else ""
    hung = re.search("Timeout, server .* not responding", said)
    if started and not hung:
        return f"{_CUT}."
    for pattern, meaning in _MEANINGS:
        if line := next((line for line in lines if re.search(pattern, line)), None):
            line = line.rstrip(".")
            told = {"address": login, "host": host, "line": line, "forget": _forget(lines, host)}
            return meaning.format(**told) + "."
    if not last:
        return "it did not let you in within a minute. Try: ssh " + login
    return f"ssh failed: {last}. Try: ssh {login}"


def _forget(lines: Sequence[str], host: str) -> str:
    """The command that removes a known key: Debian's ssh names it, with the file and the port under which the key is known."""
    return next(filter(_FORGETTING.fullmatch, lines), f"ssh-keygen -R {host}")


def of_worker(code: int | None, messages: str, words: Sequence[str]) -> str | None:
    """Why a worker ended while the connection is fine; None if that is not known."""
    address = shlex.join(words)
    if NO_PYTHON in messages:
        return f"its Python is not there. Run: ssh {address} sudo apt-get install python3 python3-venv (or correct `python` in hosts.toml)."
    if "Session open refused by peer" in messages:
        return "it allows too few sessions on a connection. Raise MaxSessions in its sshd_config."
    if code is None or code in (_SSH_FAILED, 128 + signal.SIGKILL):  # ssh says 255 for any signal
        return f"its worker was killed, perhaps because memory ran out. {_AGAIN}, or see: ssh {address} sudo dmesg."
    return None
