"""A host that is this machine, but says that it is another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from world import World

from yolodeploy.backend import Backend, Hardware
from yolodeploy.deployment import Deployed, Request, deploy
from yolodeploy.hosts import LocalHost
from yolodeploy.store import Store
from yolodeploy.system import Console

KILN = Hardware("KilnOS", "5", "clay64", "Potter K1", 2, "Kiln A mark 7", ("kiln-a-7",))


@dataclass(frozen=True)
class Elsewhere(LocalHost):
    """Runs everything here, under another name."""

    name: str = "shed"  # type: ignore[misc] - the class's own is a constant
    claims: str = ""  # type: ignore[misc]
    untimed: str = ""  # type: ignore[misc]
    what: Hardware = KILN

    def hardware(self, backend: Backend) -> Hardware:
        """What it says of itself."""
        return self.what

    def request(self, world: World) -> Request:
        """The world's recipe with evidence from here."""
        return Request(world.root / "pot.yaml", dist=Path("dist"), host=self)

    def deploy(self, world: World) -> Deployed:
        """Deploy the world's recipe with evidence from here."""
        return deploy(self.request(world), Store(world.cache, print), Console(-1))
