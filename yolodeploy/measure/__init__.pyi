from .breakdown import Row, obtain_breakdown
from .checks import Check, Verdict, number, run_checks
from .evidence import Evidence, evidence_id, obtain_evidence
from .latency import count_of_threads
from .layer_survey import survey_layers

__all__ = [
    "Check",
    "Evidence",
    "Row",
    "Verdict",
    "count_of_threads",
    "evidence_id",
    "number",
    "obtain_breakdown",
    "obtain_evidence",
    "run_checks",
    "survey_layers",
]
