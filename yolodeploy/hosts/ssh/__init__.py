"""A machine that the system's ssh client reaches."""

from yolodeploy.hosts.ssh.host import Settings, SshTransport, make

__all__ = ["Settings", "SshTransport", "make"]
