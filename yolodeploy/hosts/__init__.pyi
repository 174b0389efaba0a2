from .host import Host, Timed
from .local import LOCAL, LocalHost
from .process import ProcessTransport
from .timing import Request, time_apart
from .worker_host import WorkerHost

__all__ = [
    "LOCAL",
    "Host",
    "LocalHost",
    "ProcessTransport",
    "Request",
    "Timed",
    "WorkerHost",
    "time_apart",
]
