from .disk_errors import DISK_ERRORS, DISK_FULL, explained
from .objects import Entry, Meta, NotStored, Stored, damage, odd_entries
from .store import DIGESTS, FACTS, Store, default_root

__all__ = [
    "DIGESTS",
    "DISK_ERRORS",
    "DISK_FULL",
    "FACTS",
    "Entry",
    "Meta",
    "NotStored",
    "Store",
    "Stored",
    "damage",
    "default_root",
    "explained",
    "odd_entries",
]
