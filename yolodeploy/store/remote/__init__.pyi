from .cache import SharedStore, shared_store

__all__ = ["SharedStore", "shared_store"]
