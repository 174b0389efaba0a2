"""What travels to a host: runs a model there and times it.

Nothing here imports another part of yolodeploy, or anything but the standard library and numpy, and all of it runs on
Python 3.9: a host has a Python and the wheel of one runtime, nothing else. Plugins bring one module each, which opens
their artifacts (see `backend.Remote`).
"""
