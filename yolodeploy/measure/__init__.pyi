from .breakdown import Row, obtain_breakdown
from .checks import Check, run_checks
from .evidence import Evidence, evidence_id, obtain_evidence
from .layer_survey import survey_layers

__all__ = [
    "Check",
    "Evidence",
    "Row",
    "evidence_id",
    "obtain_breakdown",
    "obtain_evidence",
    "run_checks",
    "survey_layers",
]
