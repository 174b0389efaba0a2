from .config import NamedHost, find_host, hosts_files, named_hosts
from .host import Host, Timed
from .local import LOCAL, LocalHost
from .process import ProcessTransport
from .timing import Request, time_apart
from .worker_host import WorkerHost

__all__ = [
    "LOCAL",
    "Host",
    "LocalHost",
    "NamedHost",
    "ProcessTransport",
    "Request",
    "Timed",
    "WorkerHost",
    "find_host",
    "hosts_files",
    "named_hosts",
    "time_apart",
]
