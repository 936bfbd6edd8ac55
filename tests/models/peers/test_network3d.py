import functools
import sys

import pytest
import torch
from networks import shaken
from torch import nn
from torchvision.models.video.resnet import BasicBlock, R2Plus1dStem, VideoResNet

import ctnet
from ctnet.models.peers.csn import csn, interaction_preserved_block
from ctnet.models.peers.network3d import pytorchvideo
from ctnet.models.peers.r2plus1d import FactorisedConv, r2plus1d34
from ctnet.models.peers.slowfast import slowfast
from ctnet.models.peers.x3d import x3d


def library_csn(**options):
    return pytorchvideo("csn").create_csn(
        model_num_class=5, stem_pool=nn.MaxPool3d, head_pool=nn.AdaptiveAvgPool3d, **options
    )


def library_slowfast(alpha, fusion):
    options = {"slowfast_fusion_conv_kernel_size": (fusion, 1, 1), "slowfast_fusion_conv_stride": (alpha, 1, 1)}
    net = pytorchvideo("slowfast").create_slowfast(model_num_class=5, head_pool=nn.AdaptiveAvgPool3d, **options)
    forward = net.forward
    net.forward = lambda clip: forward([clip[:, :, ::alpha], clip])
    return net


def library_x3d():
    return pytorchvideo("x3d").create_x3d(
        model_num_class=5,
        width_factor=1.0,
        depth_factor=1.0,
        input_clip_length=4,
        input_crop_size=64,
        head_activation=None,
    )


LIBRARY = {
    "ip-csn": (lambda: csn(50, True, 5), lambda: library_csn(bottleneck=interaction_preserved_block), 4),
    "ir-csn": (lambda: csn(50, False, 5), library_csn, 4),
    "slowfast-8x8": (lambda: slowfast(50, 4, 7, 5), lambda: library_slowfast(4, 7), 8),
    "x3d": (lambda: x3d(1.0, 1.0, 5), library_x3d, 4),
    "r2plus1d": (
        lambda: r2plus1d34(5),
        lambda: VideoResNet(BasicBlock, [FactorisedConv] * 4, [3, 4, 6, 3], R2Plus1dStem, 5),
        4,
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_features_and_head_give_the_librarys_own_scores(name):
    build, build_library, frames = LIBRARY[name]
    model = shaken(build())
    with torch.device("meta"):
        library = build_library().eval()
    library.load_state_dict(dict(zip(library.state_dict(), model.state_dict().values(), strict=True)), assign=True)
    clip = torch.randn(1, 3, frames, 64, 64)
    with torch.no_grad():
        features = model.forward_features(clip)
        scores = model.forward_head(features)
        assert scores.std() > 1e-4
        torch.testing.assert_close(scores, library(clip), rtol=1e-4, atol=1e-5)
    assert features.dim() == 5
    assert features.shape[-2:] == ((4, 4) if name == "r2plus1d" else (2, 2))


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("slowfast_r50_8x8", 0.45, 0.225),
        ("ir_csn_r101", 0.45, 0.225),
        ("x3d_xl", 0.45, 0.225),
        ("i3d_inception", 0.5, 0.5),
        ("r2plus1d34", (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
        ("corrnet_r50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("ctnet_r50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("ctnet_inceptionv3", 0.5, 0.5),
    ],
)
def test_clips_are_normalised_as_each_network_was_trained(name, mean, std):
    with torch.device("meta"):
        model = ctnet.create_model(name)
    assert model.input_mean == (mean if isinstance(mean, tuple) else (mean,) * 3)
    assert model.input_std == (std if isinstance(std, tuple) else (std,) * 3)


@functools.cache
def small_slowfast():
    return slowfast(50, 4, 7, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: small_slowfast()(torch.zeros(1, 3, 6, 32, 32)), ValueError, "a multiple of 4 frames, got 6"),
        (lambda: small_slowfast()(torch.zeros(3, 8, 32, 32)), ValueError, r"expected clips of shape \(N, 3, T, H, W\)"),
        (
            lambda: ctnet.create_model("x3d_xl", weights="imagenet"),
            ValueError,
            "no ImageNet weights for x3d_xl",
        ),
        (lambda: ctnet.create_model("i3d_inception", weights="kinetics"), ValueError, "no weights .kinetics. for"),
    ],
)
def test_bad_requests_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["ip_csn_r101", "slowfast_r50_4x16", "x3d_xl"])
def test_without_pytorchvideo_one_line_says_what_to_install(name, monkeypatch):
    for module in ("resnet", "csn", "slowfast", "x3d"):
        monkeypatch.setitem(sys.modules, f"pytorchvideo.models.{module}", None)
    with pytest.raises(RuntimeError, match=r"needs pytorchvideo .*: pip install 'ctnet\[peers\]'"):
        ctnet.create_model(name)
