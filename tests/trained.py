"""Short runs: training, interrupting it, and what it leaves."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

import ctnet
from ctnet.engine import train, training


def weights(out):
    return load_file(out / "model.safetensors")


def losses(out):
    return json.loads((out / "metrics.json").read_text())["losses"]


def kept_losses(out):
    """Those in the state of a run that goes on."""
    return load_file(out / "state.safetensors")["losses"].tolist()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def arguments(recipe, out):
    defaults = ctnet.engine.get_recipe("micro-something").to_dict()
    changed = [
        f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in recipe.to_dict().items() if v != defaults[k]
    ]
    return [*changed, "--out", str(out)]


@contextmanager
def stopped_at(stop):
    """Interrupt what trains within, at a step."""
    seed_step = training.seed_step

    def stops(seed, step, rank):
        if step == stop:
            raise KeyboardInterrupt
        seed_step(seed, step, rank)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "seed_step", stops)
        with pytest.raises(KeyboardInterrupt):
            yield


def train_until(stop, recipe, out):
    """Train, and interrupt it at a step."""
    with stopped_at(stop):
        train(recipe, out, progress=False)
