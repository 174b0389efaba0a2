from .allowed_paths import AllowedPaths, allowed_paths
from .fields import Checks, LoaderRequest, Recipe, StepRequest, View
from .load import MAX_EXTENDS, RecipeFile, load_recipe
from .messages import SHA256, describe_errors, suggestion
from .model_input import Head, Layout, Preprocess, StatedHead
from .yaml_file import Document, Position, load_yaml, scalar_readings

__all__ = [
    "MAX_EXTENDS",
    "SHA256",
    "AllowedPaths",
    "Checks",
    "Document",
    "Head",
    "Layout",
    "LoaderRequest",
    "Position",
    "Preprocess",
    "Recipe",
    "RecipeFile",
    "StatedHead",
    "StepRequest",
    "View",
    "allowed_paths",
    "describe_errors",
    "load_recipe",
    "load_yaml",
    "scalar_readings",
    "suggestion",
]
