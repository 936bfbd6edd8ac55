"""Training and evaluation mode, which every module of a network has for itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all of a network into evaluation mode, and give every module its own mode back afterwards.

    `model.train(before)` would wake layers that somebody has frozen.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
