"""Names of the files in a bundle; no artifact may use them."""

from __future__ import annotations

MANIFEST, PLAN, REPORT = "manifest.json", "plan.json", "report.json"
BILL, PROVENANCE, SIGNATURE = "bom.cdx.json", "provenance.json", "provenance.dsse.json"
_OWN = {MANIFEST, PLAN, REPORT, BILL, PROVENANCE, SIGNATURE}
CONTRACT, LABELS = "contract.json", "labels.txt"  # what an app reads beside the artifact
PICTURES = "pictures.json"  # evaluation images, small, with what was found in them
APP_FILES = (CONTRACT, LABELS)
# What lies at the top of a bundle besides the artifact.
RESERVED = frozenset({*_OWN, *APP_FILES, PICTURES, "golden", "evidence", "report.html"})
