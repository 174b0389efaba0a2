from .built import SOURCES, Architecture, find_runner, library, runner_layers
from .job import Form, Job, JobModel, job_text, new_id
from .native import find_native, native_job
from .results import RESULT_BYTES, Results, RunnerFailed, TimedRun, parse_results

__all__ = [
    "RESULT_BYTES",
    "SOURCES",
    "Architecture",
    "Form",
    "Job",
    "JobModel",
    "Results",
    "RunnerFailed",
    "TimedRun",
    "find_native",
    "find_runner",
    "job_text",
    "library",
    "native_job",
    "new_id",
    "parse_results",
    "runner_layers",
]
