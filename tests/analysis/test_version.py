"""The same features give the same maps and measures, or ctnet.analysis.saliency.VERSION says that they do not."""

from pathlib import Path

import numpy as np
import torch
from versions import check, record_anew

import ctnet
from ctnet.analysis import (
    energy_share,
    grad_cam,
    pointing_game,
    saliency,
    saliency_tubes,
    scatter,
    temporal_concentration,
)

RECORD, NAME = Path(__file__).with_name("version.json"), "VERSION in ctnet/analysis/saliency.py"


def probe():
    """Means of maps of a fixed network on fixed clips, frame by frame, and every measure of them."""
    torch.manual_seed(0)
    model = ctnet.create_model("tsn_r50_twin", num_classes=3, num_frames=4).eval()
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    clips = torch.rand(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 2])
    masks = torch.zeros(2, 4, 64, 64, dtype=torch.bool)
    masks[:, 1:3, 8:40, 16:48] = True
    found = {}
    for name, maps in (
        ("tubes", saliency_tubes(model, clips, labels)),
        ("tubes, evidence for the class", saliency_tubes(model, clips, labels, relu=True)),
        ("gradients", grad_cam(model, clips, labels)),
    ):
        measures = (energy_share(maps, masks), pointing_game(maps, masks), scatter(maps), temporal_concentration(maps))
        found[name] = maps.mean((2, 3)).flatten().tolist()
        found[f"measures of {name}"] = torch.stack(measures).flatten().tolist()
    return found


def same(kept, found):
    return bool(np.allclose(kept, found, atol=1e-3))


def test_maps_and_measures_are_those_of_the_version():
    check(RECORD, NAME, saliency.VERSION, probe(), same)


if __name__ == "__main__":
    record_anew(RECORD, NAME, saliency.VERSION, probe())
