"""Keeping networks: files of weights that know what they belong to."""

from ctnet.engine.checkpoint import load_model, save_model

__all__ = ["load_model", "save_model"]
