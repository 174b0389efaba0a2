from .app_contract import app_digests, app_files
from .bundle import Contents, place_bundle
from .claims import bundle_claims
from .integrity import Inspection, inspect_bundle, lock_problems

__all__ = [
    "Contents",
    "Inspection",
    "app_digests",
    "app_files",
    "bundle_claims",
    "inspect_bundle",
    "lock_problems",
    "place_bundle",
]
