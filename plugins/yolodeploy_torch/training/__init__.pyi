from .batches import Batch, Batches
from .finetune import distill, finetune, fit, unfreeze, write_history
from .label_free import fits_labels, fits_model, labels_for
from .loop import Task, train
from .objective import Objective

__all__ = [
    "Batch",
    "Batches",
    "Objective",
    "Task",
    "distill",
    "finetune",
    "fit",
    "fits_labels",
    "fits_model",
    "labels_for",
    "train",
    "unfreeze",
    "write_history",
]
