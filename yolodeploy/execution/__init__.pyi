from .activity import MARK, Run, watch
from .plugin_errors import failing_as
from .runner import Runner, as_artifact

__all__ = ["MARK", "Run", "Runner", "as_artifact", "failing_as", "watch"]
