"""Training and evaluation mode, which every module of a network has for itself."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


def evaluating(model: nn.Module) -> AbstractContextManager[None]:
    """Put all of a network into evaluation mode, and give every module its own mode back afterwards.

    `model.train(before)` would wake layers that somebody has frozen.
    """
    return in_mode(model, training=False)


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put all of a network into a mode, and give every module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
