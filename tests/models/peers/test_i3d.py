import pytest
import torch
import torchvision
from networks import shaken
from torch import nn

import ctnet
from ctnet.models.peers.i3d import i3d_inception, i3d_r50


def repeat_ends(module, inputs):
    """Before a convolution: continue a clip by its first and last frame, where zeros would be padded."""
    time = module.kernel_size[0] // 2
    return nn.functional.pad(inputs[0], (0, 0, 0, 0, time, time), mode="replicate")


@pytest.mark.parametrize(("build", "cnn"), [(i3d_r50, "resnet50"), (i3d_inception, "googlenet")])
def test_inflated_network_gives_a_still_clip_the_scores_of_its_picture(build, cnn, monkeypatch):
    options = {"aux_logits": False, "init_weights": False} if cnn == "googlenet" else {}
    network = shaken(torchvision.models.get_model(cnn, **options))
    monkeypatch.setattr("ctnet.models.peers.i3d.create_backbone", lambda *_: network)
    model = build(num_classes=1000).eval()
    model.head = network.fc
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(repeat_ends)
            module.padding = (0, *module.padding[1:])
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(pictures)
        assert expected.std() > 1e-3
        still = pictures.unsqueeze(2).expand(-1, -1, 5, -1, -1)
        torch.testing.assert_close(model(still), expected, rtol=1e-3, atol=1e-4)


def test_i3d_inception_takes_torchvisions_imagenet_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = torchvision.models.googlenet(init_weights=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.url
    torch.save(source.state_dict(), folder / url.rpartition("/")[2])
    model = ctnet.create_model("i3d_inception", weights="imagenet")
    torch.testing.assert_close(model.backbone.conv1.conv.weight.sum(2), source.conv1.conv.weight)
    assert model.input_mean == model.input_std == (0.5, 0.5, 0.5)
