"""A phone or board that adb reaches, and on which there is no Python: a plugin's own program runs there."""

from yolodeploy.hosts.adb.host import AdbHost, Settings, make

__all__ = ["AdbHost", "Settings", "make"]
