from .config import NamedHost, find_host, hosts_files, named_hosts, own_file
from .host import Host, Survey, Surveyable, Timed
from .local import LOCAL, LocalHost
from .process import ProcessTransport
from .timing import Request, time_apart
from .worker_host import WorkerHost, requirements, wrong_system, wrong_versions

__all__ = [
    "LOCAL",
    "Host",
    "LocalHost",
    "NamedHost",
    "ProcessTransport",
    "Request",
    "Survey",
    "Surveyable",
    "Timed",
    "WorkerHost",
    "find_host",
    "hosts_files",
    "named_hosts",
    "own_file",
    "requirements",
    "time_apart",
    "wrong_system",
    "wrong_versions",
]
