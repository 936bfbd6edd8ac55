"""Every network scores as it did when its version was raised last, or its version says that it does not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from versions import judge

from ctnet.models import CTModule, create_model, list_models, network_version, register, registry

RECORD = Path(__file__).with_name("network_probes.json")
COMMAND = "PYTHONPATH=tests python tests/models/test_network_versions.py"
PLACE = "the version of {} where it is registered"
INPUTS = ((4, 32), (8, 32), (4, 96))
"""Frames and size of the clip: the first that a network takes is recorded with its scores."""
LEFT_OUT = {
    f"{module}_{backbone}" for module in ("c3d", "csn", "r2plus1d") for backbone in ("r101", "r101_twin", "inceptionv3")
}
"""Networks that are not tried: module and backbone are, each in others."""


def probe(name, inputs):
    """Scores of the fresh network, and with parameters and statistics that hide nothing; its size and its cost.

    The latter are counted in double precision, since such a network makes a rounding error grow ten thousand times.

    Args:
        name: of the network.
        inputs: frames and sizes to try.
    """
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, num_frames=inputs[0][0]).eval()
    for frames, size in inputs:
        clip = torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(1))
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                fresh = model(clip)
        except (RuntimeError, ValueError):
            if (frames, size) == tuple(inputs[-1]):
                raise
            continue
        break
    fill(model)
    with torch.no_grad():
        filled = model.double()(clip.double())
    return {
        "input": [frames, size],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "operations": counter.get_total_flops(),
        "scores of the fresh network": [float(f"{score:.6g}") for score in fresh[0].tolist()],
        "scores of the filled network": [float(f"{score:.6g}") for score in filled[0].tolist()],
    }


@torch.no_grad()
def fill(model):
    """Draw all parameters and statistics: kernels that keep the scale, scales and variances near one."""
    generator = torch.Generator().manual_seed(2)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            if value.dim() > 1:
                value.uniform_(-1, 1, generator=generator).mul_((6 / value[0].numel()) ** 0.5)
            elif name.endswith(("weight", "running_var")):
                value.uniform_(0.5, 1.5, generator=generator)
            else:
                value.uniform_(-0.5, 0.5, generator=generator)


def same(kept, found):
    """Whether scores agree within a thousandth of the largest, and all else is equal."""
    if isinstance(kept, list) and isinstance(found, list) and any(isinstance(value, float) for value in kept):
        return len(kept) == len(found) and np.allclose(kept, found, rtol=0, atol=1e-3 * np.abs(kept).max())
    return kept == found


def check(name):
    kept = json.loads(RECORD.read_text()).get(name)
    assert kept, f"{name} has no record: make it with `{COMMAND}`"
    found = probe(name, [kept["probe"]["input"]])
    judge(kept, PLACE.format(name), network_version(name), found, COMMAND, same)


@pytest.mark.parametrize("name", [name for name in list_models() if name not in LEFT_OUT])
def test_a_network_scores_as_its_version_did(name):
    check(name)


def test_records_are_of_todays_networks_and_versions():
    versions = {name: kept["version"] for name, kept in json.loads(RECORD.read_text()).items()}
    assert versions == {name: network_version(name) for name in list_models()}


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "NETWORKS", registry.NETWORKS.copy())


def without_a_relu(model):
    module = next(part for part in model.modules() if isinstance(part, CTModule))
    module.sub_operations[1].spatial.relu = nn.Identity()


def of_another_start(model):
    model.head.weight.data.mul_(1.01)


def with_more_work(model):
    model.dropout = nn.Sequential(model.dropout, Wasteful())


class Wasteful(nn.Module):
    def forward(self, x):
        return x + 0 * (x @ x.T @ x)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (without_a_relu, "scores of the filled network"),
        (of_another_start, "scores of the fresh network"),
        (with_more_work, "operations"),
    ],
)
@pytest.mark.parametrize(
    ("version", "message"), [(1, "raise the version of ctnet_r50_twin"), (2, "record with `PYTHON")]
)
def test_a_changed_network_is_noticed(own_registry, change, changed, version, message):
    name = "ctnet_r50_twin"
    build = registry.NETWORKS[name].build

    def other(**arguments):
        model = build(**arguments)
        change(model)
        return model

    register(name, version=version)(other)
    with pytest.raises(AssertionError, match=message) as failure:
        check(name)
    assert (changed in str(failure.value)) == (version == 1)


def record_anew():
    """Record networks that are new or whose version was raised; the others must be as they were."""
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    records = {}
    for name in list_models():
        version, old = network_version(name), kept.get(name)
        records[name] = {"version": version, "probe": probe(name, INPUTS)}
        if old and old["version"] == version:
            try:
                judge(old, PLACE.format(name), version, records[name]["probe"], COMMAND, same)
            except AssertionError as error:
                sys.exit(f"{name}: {error}")
            records[name] = old
    lines = (f"{json.dumps(name)}: {json.dumps(record)}" for name, record in records.items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record_anew()
