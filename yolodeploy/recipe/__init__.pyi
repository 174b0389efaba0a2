from .allowed_paths import AllowedPaths, allowed_paths
from .fields import Checks, LoaderRequest, Recipe, StepRequest, View
from .load import MAX_EXTENDS, RecipeFile, load_recipe, varied
from .messages import SHA256, describe_errors, suggestion
from .model_input import Head, Layout, Preprocess, StatedHead
from .search_block import NOTHING, Choice, Objectives, Open, Range, Search, SearchStep
from .yaml_file import Document, Position, load_yaml, scalar_readings

__all__ = [
    "MAX_EXTENDS",
    "NOTHING",
    "SHA256",
    "AllowedPaths",
    "Checks",
    "Choice",
    "Document",
    "Head",
    "Layout",
    "LoaderRequest",
    "Objectives",
    "Open",
    "Position",
    "Preprocess",
    "Range",
    "Recipe",
    "RecipeFile",
    "Search",
    "SearchStep",
    "StatedHead",
    "StepRequest",
    "View",
    "allowed_paths",
    "describe_errors",
    "load_recipe",
    "load_yaml",
    "scalar_readings",
    "suggestion",
    "varied",
]
