from .adding import add_evidence, require_intact, require_key
from .app_contract import app_digests, app_files
from .bundle import Contents, place_bundle, plan_digest
from .claims import bundle_claims
from .evidence_sets import EvidenceSet
from .integrity import Inspection, artifact_files, inspect_bundle, lock_problems
from .places import bundles_in, why_no_bundle

__all__ = [
    "Contents",
    "EvidenceSet",
    "Inspection",
    "add_evidence",
    "app_digests",
    "app_files",
    "artifact_files",
    "bundle_claims",
    "bundles_in",
    "inspect_bundle",
    "lock_problems",
    "place_bundle",
    "plan_digest",
    "require_intact",
    "require_key",
    "why_no_bundle",
]
