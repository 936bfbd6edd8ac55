import pytest
import torch
from networks import randomise, twin
from torch import nn
from torchvision.models.resnet import Bottleneck

import ctnet
from ctnet.models import list_models
from ctnet.models.backbones import resnet_twin
from ctnet.models.peers.bottleneck import ChannelwiseConv, TemporalBottleneck, difference, replace_bottlenecks
from ctnet.models.peers.gsm import GateShift
from ctnet.models.peers.smallbig import BigView
from ctnet.models.peers.stm import ChannelwiseMotion
from ctnet.models.peers.tea import MotionExcitation
from ctnet.models.peers.teinet import MotionEnhanced
from ctnet.models.peers.tsm import TemporalShift

MODULES = ("c3d", "csn", "ctnet", "r2plus1d", "tsn")
ON_RESNETS = sorted({name.removesuffix("_r26_twin") for name in list_models() if "_r26_twin" in name} - {*MODULES})


KEEP_THE_RESNET = [method for method in ON_RESNETS if method != "tea"]


def neutralise(model):
    """Set every temporal part to what leaves a 2D network as it is."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, TemporalShift):
                module.divisor = 10**6
            elif isinstance(module, ChannelwiseConv):
                module.conv.weight.copy_(torch.tensor([0.0, 1.0, 0.0]).reshape(1, 1, 3, 1))
            elif isinstance(module, MotionEnhanced):
                module.restore.weight.zero_()
                module.restore.bias.fill_(100.0)
            elif isinstance(module, ChannelwiseMotion):
                module.restore.weight.zero_()
    return model


@pytest.mark.parametrize("method", KEEP_THE_RESNET)
def test_a_pretrained_resnet_fits_and_only_the_temporal_parts_change_it(method):
    tsn, model = twin("tsn"), neutralise(twin(method))
    missing, unexpected = model.load_state_dict(tsn.state_dict(), strict=False)
    assert unexpected == []
    assert all("conv1" not in key or "before" in key for key in missing)
    clip = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), tsn(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ON_RESNETS)
def test_peers_see_the_order_of_frames_keep_clips_apart_and_take_single_frames(method):
    model, clips = twin(method).double(), torch.randn(2, 3, 4, 32, 32, dtype=torch.double)
    if method in ("gsm", "smallbig"):  # these start as a TSN
        for module in model.modules():
            if isinstance(module, GateShift | BigView):
                randomise(module)
    with torch.no_grad():
        scores = model(clips)
        assert not torch.allclose(scores, model(clips[:, :, [0, 2, 1, 3]]))
        assert torch.allclose(scores, model(clips.flip(2))) == (method == "smallbig")  # pooling knows no direction
        torch.testing.assert_close(scores[1:], model(clips[1:]))
        assert model(clips[:, :, :1]).isfinite().all()


@pytest.mark.parametrize("stride", [1, 2])
def test_the_temporal_bottleneck_has_its_modules_on_the_residual_branch_alone(stride):
    torch.manual_seed(0)
    shape = nn.Sequential(nn.Conv2d(16, 32, 1, stride), nn.BatchNorm2d(32)) if stride == 2 else None
    block = randomise(Bottleneck(16 if stride == 2 else 32, 8, stride, shape))
    channels = block.conv1.in_channels
    convs = [randomise(nn.Conv3d(c, c, (3, 1, 1), padding=(1, 0, 0))) for c in (channels, 8, 8, 32)]
    if stride == 2:  # what stands beside a strided convolution is strided too
        convs[2] = randomise(nn.Conv3d(8, 8, (3, 1, 1), (1, 2, 2), padding=(1, 0, 0)))
    network = TemporalBottleneck(block, *convs)

    def on_clips(conv, frames):  # two clips of three frames
        return conv(frames.unflatten(0, (2, 3)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)

    frames = torch.randn(6, channels, 8, 8)
    with torch.no_grad():
        reduced = block.bn1(block.conv1(on_clips(convs[0], frames))).relu()
        spatial = block.bn2(block.conv2(on_clips(convs[1], reduced))).relu() + on_clips(convs[2], reduced)
        residual = block.bn3(on_clips(convs[3], block.conv3(spatial)))
        expected = (residual + (shape(frames) if shape else frames)).relu()
        torch.testing.assert_close(network(frames, 3), expected, rtol=1e-4, atol=1e-4)


def test_the_resnet_that_is_turned_into_a_peer_stays_as_it_was():
    cnn = resnet_twin((1, 1, 1, 1), width=16)
    keys = list(cnn.state_dict())
    changed = replace_bottlenecks(cnn, TemporalBottleneck, ("layer3",))
    assert list(cnn.state_dict()) == keys
    assert [type(changed.get_submodule(f"layer{stage}.0")).__name__ for stage in (2, 3)] == [
        "Bottleneck",
        "TemporalBottleneck",
    ]


@pytest.mark.parametrize("name", ["tea_r50", "tea_r50_twin", "blvnet_tam_r50", "eco_lite"])
def test_imagenet_weights_that_do_not_exist_are_refused(name):
    with pytest.raises(ValueError, match="no ImageNet weights"):
        ctnet.create_model(name, weights="imagenet")


def test_difference_is_the_next_frame_minus_this_one():
    a, b = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    expected = torch.stack([a[:, :, 1] - b[:, :, 0], a[:, :, 2] - b[:, :, 1], torch.zeros(2, 4, 2, 2)], 2)
    torch.testing.assert_close(difference(a, b), expected)


@pytest.mark.parametrize("module", [ChannelwiseMotion(32), MotionExcitation(32)], ids=["CMM", "ME"])
def test_what_does_not_move_has_no_motion(module):
    still = torch.randn(2, 32, 1, 6, 6).expand(-1, -1, 4, -1, -1)
    nn.init.dirac_(module.align.weight, groups=module.align.groups)
    module.eval()
    unmoved = torch.zeros_like(still) if isinstance(module, ChannelwiseMotion) else still
    torch.testing.assert_close(module(still), unmoved, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(module(still * torch.tensor([1.0, 2, 3, 4]).reshape(4, 1, 1)), unmoved, atol=1e-2)


@pytest.mark.parametrize(("method", "millions"), [("teinet", 30.4), ("tsm", 24.3)])
def test_parameters_are_those_that_are_published_for_kinetics(method, millions):
    with torch.device("meta"):
        model = ctnet.create_model(f"{method}_r50", num_classes=400)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions
