from .examine import MODEL, OUTPUTS, REPORT, Examined, examine, probe
from .protobuf import called, opset, parse, stored_bytes

__all__ = [
    "MODEL",
    "OUTPUTS",
    "REPORT",
    "Examined",
    "called",
    "examine",
    "opset",
    "parse",
    "probe",
    "stored_bytes",
]
