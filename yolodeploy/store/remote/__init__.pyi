from .cache import SharedStore, shared_store
from .tarball import BadArchive, pack, read_head, unpack

__all__ = ["BadArchive", "SharedStore", "pack", "read_head", "shared_store", "unpack"]
