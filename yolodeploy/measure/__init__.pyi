from .breakdown import Row, obtain_breakdown
from .checks import TIMED, Check, Verdict, number, read_checks, run_checks
from .evidence import Comparison, Curves, Evidence, evidence_id, obtain_comparison, obtain_evidence
from .front import pareto_front
from .golden_check import GoldenCheck, check_golden
from .latency import count_of_threads, latency_samples
from .layer_survey import survey_layers
from .place import place_of, require_claim, require_device
from .results import in_detail, obtain_stage
from .source import obtain_source

__all__ = [
    "TIMED",
    "Check",
    "Comparison",
    "Curves",
    "Evidence",
    "GoldenCheck",
    "Row",
    "Verdict",
    "check_golden",
    "count_of_threads",
    "evidence_id",
    "in_detail",
    "latency_samples",
    "number",
    "obtain_breakdown",
    "obtain_comparison",
    "obtain_evidence",
    "obtain_source",
    "obtain_stage",
    "pareto_front",
    "place_of",
    "read_checks",
    "require_claim",
    "require_device",
    "run_checks",
    "survey_layers",
]
