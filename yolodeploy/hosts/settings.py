"""The settings that hosts of every kind share, and the table of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from yolodeploy.hosts.host import Host

FOLDER = "~/.cache/yolodeploy-worker"  # of a worker, the only one that it writes to


class HostSettings(BaseModel):
    """A table of hosts.toml.

    `PERSONAL` are the keys that only the user's own hosts.toml may have: those that decide what runs, here or there,
    and where it writes.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
    PERSONAL: ClassVar[frozenset[str]] = frozenset()

    kind: str
    """How the host is reached."""
    device: str | None = None
    """The device that the host is, by its name in `yolodeploy devices`."""
    options: dict[str, str] = {}
    """What the plugin's code there is told, such as {units = "CPU_AND_NE"} for Core ML."""


_Settings_contra = TypeVar("_Settings_contra", bound=HostSettings, contravariant=True)


class KindModule(Protocol[_Settings_contra]):
    """What the module of a kind has: `Settings`, and `make`, which opens no connection yet."""

    Settings: type[HostSettings]

    def make(self, name: str, settings: _Settings_contra) -> Host:
        """The host of that name."""


# By the `kind` of hosts.toml; a module is imported when a host of its kind is named.
KINDS: Mapping[str, str] = {
    "adb": "yolodeploy.hosts.adb",
    "process": "yolodeploy.hosts.process",
    "qemu": "yolodeploy.hosts.qemu",
    "ssh": "yolodeploy.hosts.ssh",
}
