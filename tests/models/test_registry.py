from collections import OrderedDict

import pytest
import torch
import torchvision
from networks import of_own_blocks

import ctnet
from ctnet.engine import load_model, save_model
from ctnet.models import backbones, network_version, register_backbone, register_module, registry
from ctnet.models import ctnet as ctnet_networks

CLIPS = {
    "i3d_inception": (5, 3),
    "corrnet_r50": (8, 8),
    "slowfast_r50_4x16": (16, 8),
    "slowfast_r50_8x8": (8, 4),
}
"""Frames of a longer and a shorter clip, for networks that not every T fits."""


DEEPER = {"corrnet_r101", "ip_csn_r152", "ir_csn_r152", "slowfast_r101_8x8", "slowfast_r101_16x8"}
"""Networks that are left out: of the same blocks as one with fewer layers."""


@pytest.mark.parametrize("name", [name for name in of_own_blocks() if name not in DEEPER])
def test_every_model_scores_clips_of_any_length_and_trains_every_parameter(name):
    model = ctnet.create_model(name, num_classes=7)
    size = 96 if "inceptionv3" in name else 32
    longer, shorter = CLIPS.get(name, (5, 2))
    model.eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, longer, size, size)).shape == (2, 7)
    model.train()
    scores = model(torch.randn(2, 3, shorter, size, size))
    torch.nn.functional.cross_entropy(scores, torch.tensor([1, 4])).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert scores.shape == (2, 7)
    assert without == []


@pytest.fixture
def own(monkeypatch):
    """Lets a test register what is forgotten behind it."""
    for place, name in ((registry, "NETWORKS"), (backbones, "BACKBONES"), (ctnet_networks, "MODULES")):
        monkeypatch.setattr(place, name, getattr(place, name).copy())
    monkeypatch.setattr(ctnet_networks, "BACKBONES", backbones.BACKBONES)


def test_a_module_of_ones_own_is_known_by_name(own, tmp_path):
    def mine(in_channels, out_channels, kernel=3):
        return torch.nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2)

    register_module("mine", version=3)(mine)
    assert network_version("mine_r50_twin") == 3
    assert "mine_r50" in ctnet.list_models()
    model = ctnet.create_model("mine_r50_twin", num_classes=3, kernel=5)
    assert sum(isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] == 5 for module in model.modules()) == 7
    save_model(tmp_path / "mine.safetensors", model)
    assert load_model(tmp_path / "mine.safetensors").config == model.config
    with pytest.raises(ValueError, match="no option sizes; there are kernel, blocks, last_stride"):
        ctnet.create_model("mine_r50_twin", sizes=3)
    register_module("any")(lambda *channels, **options: mine(*channels, **options))
    model = ctnet.create_model("any_r50_twin", num_classes=3, kernel=5, blocks=1)
    assert sum(isinstance(module, torch.nn.Conv3d) for module in model.modules()) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ctnet.create_model("ctnet_r52"), "unknown model 'ctnet_r52'"),
        (lambda: ctnet.create_model("ctnet_r50_twin", blocks=5), "no rule for 5 blocks"),
        (lambda: ctnet.create_model("ctnet_r101_twin", blocks=7), "no rule for 7 blocks of r101_twin"),
        (lambda: ctnet.create_model("tsn_r50_twin", blocks=7), "no option blocks; there are last_stride"),
        (
            lambda: ctnet.create_model("tsn_inceptionv3_twin", last_stride=1),
            "of ResNets: Inception3 has no stage named layer4",
        ),
        (lambda: ctnet.create_model("ctnet_r50_twin", last_stride=3), "last_stride must be 1 or 2, got 3"),
        (lambda: ctnet.create_model("csn_r50_twin", sizes=3), "no option sizes; there are blocks, last_stride"),
        (
            lambda: ctnet.create_model("ctnet_r50_twin", weights="imagenet"),
            "weights for ctnet_r50_twin: leave out weights",
        ),
        (lambda: ctnet.create_model("ctnet_r50", weights="kinetics"), "no weights .kinetics. for"),
        (lambda: ctnet.create_model("ctnet_r50_twin", size=3), "no option size; there are sizes, kernels"),
        (lambda: ctnet.create_model("tsm_r50_twin", sizes=3), "no option sizes; there are none"),
        (lambda: ctnet.create_model("corrnet_r50")(torch.zeros(1, 3, 1, 32, 32)), "filters are of 8 frames, not of 1"),
        (lambda: ctnet.tensorize(torch.nn.Conv2d(3, 8, 3)), "no linear head"),
        (lambda: ctnet.tensorize(torchvision.models.mobilenet_v2()), "'odd' finds no dense 3 x 3 convolution"),
        (lambda: ctnet.tensorize(torch.nn.Sequential(torch.nn.Linear(3, 8)), "none"), "where the features"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Shifting(torch.nn.Module):
    """Every other channel from the frame before, then the convolution that stood there."""

    def __init__(self, in_channels, out_channels, share=2, *, conv=None):
        super().__init__()
        self.share, self.conv, self.bn = share, conv, torch.nn.BatchNorm3d(out_channels)

    def forward(self, x):
        x = torch.cat([x[:, :: self.share].roll(1, 2), x], 1)[:, : x.shape[1]]
        return self.bn(self.conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2))


def test_a_backbone_of_ones_own_carries_every_module(own, tmp_path):
    register_module("before", version=2)(Shifting)

    @register_backbone("mine", ["2"], mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), version=3)
    def mine(weights=None):
        torch.manual_seed(1 if weights == "imagenet" else 2)
        convs = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, padding=1)]
        names = ("0", "1", "2", "avgpool", "flatten", "fc")
        layers = [*convs, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10)]
        return torch.nn.Sequential(OrderedDict(zip(names, layers, strict=True)))

    register_module("after", version=2)(Shifting)
    added = {"tsn_mine", "ctnet_mine", "c3d_mine", "r2plus1d_mine", "csn_mine", "before_mine", "after_mine"}
    assert {name for name in ctnet.list_models() if name.endswith("_mine")} == added
    assert [network_version(f"{module}_mine") for module in ("tsn", "ctnet", "before", "after")] == [3, 3, 4, 4]
    for name in added:
        model = ctnet.create_model(name, 5)
        assert model(torch.randn(1, 3, 4, 8, 8)).shape == (1, 5)
        assert (model.input_mean, model.input_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert isinstance(model.backbone.get_submodule("2"), torch.nn.Conv2d) == (name == "tsn_mine")
    other = ctnet.create_model("c3d_mine", 5, blocks=["0"])
    assert isinstance(other.backbone.get_submodule("2"), torch.nn.Conv2d)
    trained = ctnet.create_model("tsn_mine", weights="imagenet").backbone.get_submodule("0").weight
    torch.manual_seed(1)
    assert torch.equal(trained, torch.nn.Conv2d(3, 8, 3, padding=1).weight)
    model = ctnet.create_model("csn_mine", 3)
    save_model(tmp_path / "mine.safetensors", model)
    clips = torch.randn(1, 3, 2, 8, 8)
    torch.testing.assert_close(load_model(tmp_path / "mine.safetensors")(clips), model.eval()(clips))
    register_backbone("bare")(lambda: torchvision.models.vgg11_bn())
    with pytest.raises(ValueError, match="no ImageNet weights for ctnet_bare: leave out weights"):
        ctnet.create_model("ctnet_bare", weights="imagenet")
    with pytest.raises(ValueError, match="no rule for 7 blocks of bare"):
        ctnet.create_model("ctnet_bare", blocks=7)


def test_a_module_that_asks_for_the_convolution_keeps_its_weights(own):
    register_module("shifting")(Shifting)
    with pytest.raises(ValueError, match="no option conv; there are share, blocks, last_stride"):
        ctnet.create_model("shifting_r26_twin", conv=None)
    model = ctnet.create_model("shifting_r26_twin", num_classes=3, share=3)
    assert all(part.share == 3 and part.conv is not None for part in model.modules() if isinstance(part, Shifting))
    assert model(torch.randn(1, 3, 2, 32, 32)).shape == (1, 3)
    cnn = torchvision.models.resnet50()
    block = ctnet.tensorize(cnn, ["layer1.1.conv2"], module=Shifting).backbone.layer1[1]
    kept = block.conv2.module.conv
    assert torch.equal(kept.weight, cnn.layer1[1].conv2.weight)
    assert kept is not cnn.layer1[1].conv2
    assert isinstance(block.bn2, torch.nn.Identity)  # the module normalises by itself


def test_a_module_that_asks_for_channels_alone_is_given_no_convolution():
    def mine(*arguments, **options):
        assert (arguments, options) == ((64, 64), {})
        return torch.nn.Conv3d(*arguments, 3, padding=1)

    ctnet.tensorize(torchvision.models.resnet50(), ["layer1.1.conv2"], module=mine)


@pytest.mark.parametrize("name", of_own_blocks())
def test_classes_frames_and_dropout_reach_every_network(name):
    with torch.device("meta"):
        model = ctnet.create_model(name, num_classes=7, num_frames=24, dropout=0.3)
    assert (model.head.out_features, model.num_frames) == (7, 24)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.3]


@pytest.mark.parametrize("name", ["tsn_r50_twin", "i3d_r50", "x3d_xl", "eco_lite", "blvnet_tam_r50"])
def test_dropout_is_applied_before_the_head_while_a_network_trains(name):
    model = ctnet.create_model(name, num_classes=7, dropout=0.9).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(2, 3, 4, 32, 32))
        assert torch.equal(model.forward_head(features.clone()), model.forward_head(features.clone()))
        model.train()
        assert not torch.equal(model.forward_head(features.clone()), model.forward_head(features.clone()))
        next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).p = 0.0
        assert torch.equal(model.forward_head(features.clone()), model.forward_head(features.clone()))
