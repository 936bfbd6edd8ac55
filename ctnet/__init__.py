"""A reproduction study of "CT-Net: Channel Tensorization Network for Video Classification" (ICLR 2021)."""

from ctnet.analysis import count_cost
from ctnet.engine import load_model, save_model
from ctnet.models import create_model, list_models, load_official_checkpoint, tensorize

__all__ = [
    "count_cost",
    "create_model",
    "list_models",
    "load_model",
    "load_official_checkpoint",
    "save_model",
    "tensorize",
]
__version__ = "0.1.0"
