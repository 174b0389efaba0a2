from .bom import bill_of_materials
from .components import installed_tools
from .provenance import BuildRecord, statement, statement_problems, with_subjects
from .signing import (
    canonical_envelope,
    envelope,
    key_ids,
    payload_of,
    read_private,
    read_public,
    require_signature,
)

__all__ = [
    "BuildRecord",
    "bill_of_materials",
    "canonical_envelope",
    "envelope",
    "installed_tools",
    "key_ids",
    "payload_of",
    "read_private",
    "read_public",
    "require_signature",
    "statement",
    "statement_problems",
    "with_subjects",
]
