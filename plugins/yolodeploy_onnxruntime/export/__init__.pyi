from .export import run_export

__all__ = ["run_export"]
