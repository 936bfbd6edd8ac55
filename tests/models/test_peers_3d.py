import functools
import sys

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.video.resnet import BasicBlock, R2Plus1dStem, VideoResNet

import ctnet
from ctnet.models.peers.corrnet import Correlation, corrnet
from ctnet.models.peers.csn import csn, interaction_preserved_block
from ctnet.models.peers.i3d import i3d_inception, i3d_r50
from ctnet.models.peers.network3d import pytorchvideo
from ctnet.models.peers.non_local import NonLocalBlock, nl_i3d_r101
from ctnet.models.peers.r2plus1d import FactorisedConv, r2plus1d34
from ctnet.models.peers.slowfast import slowfast
from ctnet.models.peers.x3d import x3d


@torch.no_grad()
def shaken(model):
    """The model in evaluation mode, with normalisations that hide no branch and no shift."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.weight.uniform_(0.5, 1)
            module.bias.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


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
    ],
)
def test_clips_are_normalised_as_each_network_was_trained(name, mean, std):
    with torch.device("meta"):
        model = ctnet.create_model(name)
    assert model.input_mean == (mean if isinstance(mean, tuple) else (mean,) * 3)
    assert model.input_std == (std if isinstance(std, tuple) else (std,) * 3)


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


def test_non_local_block_is_a_weighted_sum_over_all_positions():
    block = shaken(NonLocalBlock(4))
    x = torch.randn(1, 4, 2, 4, 2)
    with torch.no_grad():
        theta, pooled = block.theta(x), nn.functional.max_pool3d(x, (1, 2, 2))
        phi, g = block.phi(pooled), block.g(pooled)
        mixed = torch.zeros(1, 2, 2, 4, 2)
        places = [(t, h) for t in range(2) for h in range(2)]  # the pooled map is 2 x 2 x 1
        for t, h, w in torch.cartesian_prod(*map(torch.arange, (2, 4, 2))).tolist():
            similar = torch.stack([theta[0, :, t, h, w] @ phi[0, :, a, b, 0] for a, b in places]).exp()
            for weight, (a, b) in zip(similar / similar.sum(), places, strict=True):
                mixed[0, :, t, h, w] += weight * g[0, :, a, b, 0]
        torch.testing.assert_close(block(x), x + block.norm(block.out(mixed)))


def test_non_local_block_starts_as_the_identity():
    x = torch.randn(2, 4, 3, 4, 4)
    torch.testing.assert_close(NonLocalBlock(4)(x), x)


def test_correlation_matches_a_frame_with_the_one_before():
    correlation = Correlation(4, num_frames=3, kernel=3, dilation=2, group=2)
    x = torch.randn(1, 4, 3, 5, 6)
    with torch.no_grad():
        matches = correlation(x).unflatten(1, (3, 3, 2))  # (N, K, K, C / group, T, H, W)
        for i, j, g, t, h, w in torch.cartesian_prod(*map(torch.arange, (3, 3, 2, 3, 5, 6))).tolist():
            a, b = h + 2 * (i - 1), w + 2 * (j - 1)
            inside = 0 <= a < 5 and 0 <= b < 6
            channels = slice(2 * g, 2 * g + 2)
            other = x[0, channels, max(t - 1, 0), a, b] if inside else torch.zeros(2)
            expected = (correlation.weight[channels, t, i, j] * x[0, channels, t, h, w] * other).mean()
            torch.testing.assert_close(matches[0, i, j, g, t, h, w], expected)


@pytest.mark.parametrize(("depth", "numbers"), [(50, [1, 1, 1]), (101, [1, 1, 2])])
def test_corrnet_correlates_after_stages_and_amid_a_long_one(depth, numbers):
    with torch.device("meta"):
        stages = corrnet(depth, num_frames=4).backbone
    found = [
        sum(isinstance(m, Correlation) for m in stages.get_submodule(s).modules()) for s in ("res2", "res3", "res4")
    ]
    assert found == numbers


def test_nl_i3d_has_five_non_local_blocks():
    with torch.device("meta"):
        backbone = nl_i3d_r101().backbone
    found = [sum(isinstance(module, NonLocalBlock) for module in stage.modules()) for stage in backbone]
    assert dict(zip(dict(backbone.named_children()), found, strict=True)) == {
        "conv1": 0, "bn1": 0, "relu": 0, "maxpool": 0, "layer1": 0, "layer2": 2, "layer3": 3, "layer4": 0
    }  # fmt: skip


def test_factorised_convolution_has_the_weights_of_a_full_one():
    conv = FactorisedConv(64, 128, midplanes=1)
    weights = sum(layer.weight.numel() for layer in conv if isinstance(layer, nn.Conv3d))
    assert weights == pytest.approx(27 * 64 * 128, rel=0.005)


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
        (lambda: ctnet.create_model("i3d_inception", weights="kinetics"), ValueError, "weights must be"),
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


def test_published_gflops_of_the_smallest_slowfast():
    cost = ctnet.count_cost(ctnet.create_model("slowfast_r50_4x16", num_classes=400), size=256, frames=32)
    assert cost.conv_linear_gmacs == pytest.approx(36.1, abs=0.05)
    assert list(cost.by_stage) == ["stem", "res2", "res3", "res4", "res5"]
