import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from networks import of_own_blocks, shaken
from torch import nn

import ctnet
from ctnet.deploy import kernels
from ctnet.models.ct_module import SubOperation
from ctnet.models.tensor_conv import TensorSeparableConv

PROBES = json.loads((Path(__file__).parents[1] / "models" / "network_probes.json").read_text())
DEEPER = {name for name in ctnet.list_models() if "r101" in name or "r152" in name} - {"nl_i3d_r101"}
"""Networks of the same blocks as one with fewer layers."""
LEFT = ("eco_lite", "gsm_", "smallbig_", "x3d_xl", "i3d_r50", "nl_i3d", "slowfast", "blvnet", "tea_", "stm_", "corrnet")


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", [name for name in of_own_blocks() if name not in DEEPER])
@torch.inference_mode()
def test_every_network_scores_the_same_optimized(name):
    frames, size = PROBES[name]["probe"]["input"]
    model = shaken(ctnet.create_model(name, num_classes=5, num_frames=frames))
    optimized = ctnet.optimize(model)
    for clips in (torch.randn(1, 3, frames, size, size), torch.randn(2, 3, frames, size, size)):
        assert relative(optimized(clips), model(clips)) < 1e-5
    norms = [name for name, part in optimized.named_modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    assert optimized.left == norms
    assert name.startswith(LEFT) or norms == []


@pytest.mark.parametrize(
    "options",
    [
        {"excitation": "none"},
        {"excitation": "se"},
        {"connection": "serial"},
        {"connection": "coupling"},
        {"sizes": 3, "pointwise": False},
        {"sizes": (-1, 4)},
        {"sizes": 1},
        {"kernels": (3, (5, 3, 1))},
    ],
    ids=str,
)
@torch.inference_mode()
def test_every_form_of_the_module_scores_the_same_optimized(options):
    model = shaken(ctnet.create_model("ctnet_r26_twin", num_classes=5, **options))
    optimized = ctnet.optimize(model)
    for shape in ((1, 3, 8, 32, 32), (2, 3, 3, 40, 24), (1, 3, 1, 32, 32)):  # any T and size
        clips = torch.randn(shape)
        assert relative(optimized(clips), model(clips)) < 1e-5


@pytest.mark.parametrize("options", [{}, {"excitation": "none"}], ids=str)
@torch.inference_mode()
def test_a_network_that_is_optimized_already_is_copied(options):
    model = shaken(ctnet.create_model("ctnet_r26_twin", num_classes=5, **options))
    optimized, clips = ctnet.optimize(model), torch.randn(1, 3, 8, 32, 32)
    again = ctnet.optimize(optimized)
    assert again is not optimized
    assert again.left == optimized.left
    assert torch.equal(again(clips), optimized(clips))
    within = ctnet.optimize(nn.Sequential(optimized, nn.Linear(5, 5)))
    assert torch.equal(within[0](clips), optimized(clips))


def test_an_optimized_network_has_the_parameters_that_it_computes_with():
    model = ctnet.create_model("ctnet_r26_twin", num_classes=5)
    plain, optimized = (ctnet.count_cost(each, size=32) for each in (model, ctnet.optimize(model)))
    assert optimized.params_m == pytest.approx(plain.params_m, rel=0.02)
    assert not any(parameter.requires_grad for parameter in ctnet.optimize(model).parameters())


@torch.inference_mode()
def test_a_network_of_ones_own_is_optimized_and_left_as_it_was():
    model = shaken(ctnet.tensorize(torchvision.models.resnet18(weights=None), num_classes=5))
    before = copy.deepcopy(model.state_dict())
    optimized, clips = ctnet.optimize(model), torch.randn(1, 3, 4, 64, 64)
    assert relative(optimized(clips), model(clips)) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = copy.deepcopy(optimized)
    assert torch.equal(again(clips), optimized(clips))
    assert relative(again.double()(clips.double()), model.double()(clips.double())) < 1e-6


@torch.inference_mode()
def test_without_a_compiler_the_scores_are_the_same_and_that_is_told(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    kernels.library.cache_clear()
    try:
        model = shaken(ctnet.create_model("ctnet_r50_twin", num_classes=5))
        optimized, clips = ctnet.optimize(model), torch.randn(1, 3, 8, 32, 32)
        assert optimized.left == ["kernels"]
        assert relative(optimized(clips), model(clips)) < 1e-5
    finally:
        kernels.library.cache_clear()


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a compiler")
@pytest.mark.parametrize(
    ("named", "built"), [("env c++", 1), ("", 1), (" ", 0), ("c++ '", 0), ("env no-such-compiler", 0)]
)
def test_a_compiler_may_be_named_by_several_words(tmp_path, monkeypatch, named, built):
    monkeypatch.setenv("CXX", named)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.library.cache_clear()
    try:
        assert (kernels.library() is not None) == bool(built)
        assert len(list(tmp_path.rglob("kernels-*.so"))) == built
    finally:
        kernels.library.cache_clear()


@pytest.mark.parametrize("kernel", [(1, 3, 3), (1, 5, 1), (3, 1, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize(
    ("inputs", "channels", "size"), [(16, 32, 2), (24, 24, 12), (32, 32, 8), (64, 64, 32), (6, 3, 1)]
)
@torch.inference_mode()
def test_kernels_convolve_in_groups_of_any_size(inputs, channels, size, kernel):
    conv = TensorSeparableConv(inputs, channels, size, kernel)
    bias = torch.randn(channels)
    packed = kernels.pack(conv.conv.weight, bias, conv.conv.groups)
    for n, t, h, w in ((1, 8, 7, 13), (2, 2, 1, 1), (1, 3, 12, 16)):
        x = torch.randn(n, inputs, t, h, w)
        expected = conv(x) + bias[:, None, None, None]
        for relu in (False, True):
            found = kernels.ts_conv(x, *packed, channels, kernel, relu)
            torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_rectified_value_that_is_no_number_stays_none():
    conv = TensorSeparableConv(8, 8, 4, (3, 1, 1))
    packed = kernels.pack(conv.conv.weight, torch.zeros(8), 2)
    x = torch.full((1, 8, 2, 2, 2), float("nan"))
    assert kernels.ts_conv(x, *packed, 8, (3, 1, 1), True).isnan().all()


@torch.inference_mode()
def test_kernels_gate_and_average():
    u, v = torch.randn(2, 2, 12, 3, 5, 4)
    s, a, b = torch.rand(2, 12, 1, 5, 4), torch.rand(2, 12, 3, 1, 1), torch.rand(2, 12, 3, 1, 1)
    torch.testing.assert_close(kernels.spatial_mean(u), u.mean((3, 4), keepdim=True))
    torch.testing.assert_close(kernels.spatial_mean(u, s), (u * s).mean((3, 4), keepdim=True))
    torch.testing.assert_close(kernels.gated_sum(u.clone(), s, a, v, b), u * s * a + v * b)


@torch.inference_mode()
def test_weights_that_are_loaded_later_are_those_that_score(tmp_path):
    models = [shaken(ctnet.create_model("ctnet_r50_twin", num_classes=5)) for _ in range(2)]
    (first, second), clips = map(ctnet.optimize, models), torch.randn(1, 3, 4, 32, 32)
    assert relative(first(clips), models[0](clips)) < 1e-5
    torch.save(first, tmp_path / "optimized.pt")
    assert torch.equal(torch.load(tmp_path / "optimized.pt", weights_only=False)(clips), first(clips))
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(clips), second(clips))


@torch.inference_mode()
def test_a_module_without_one_of_its_gates_scores_the_same_optimized():
    model = shaken(ctnet.create_model("ctnet_r50_twin", num_classes=5))
    for part in model.modules():
        if isinstance(part, SubOperation):
            part.excite_channel = nn.Identity()
    clips = torch.randn(1, 3, 4, 32, 32)
    assert relative(ctnet.optimize(model)(clips), model(clips)) < 1e-5


@torch.inference_mode()
def test_a_convolution_without_padding_is_fused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding="valid"), nn.BatchNorm2d(8), nn.ReLU()).eval()
    x = torch.randn(1, 3, 9, 9)
    assert relative(ctnet.optimize(model)(x), model(x)) < 1e-5


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised (Qiao et al., 2019)."""

    def forward(self, x):
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / std, self.bias)


class Choosing(nn.Module):
    """A block that nothing can follow: its forward tests a value."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.bn = conv, nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > -1e9 else x


@pytest.mark.parametrize(
    "conv",
    [
        lambda: Standardised(3, 8, 3),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        lambda: nn.Conv2d(3, 8, 3),
    ],
    ids=["subclass", "parametrised", "plain"],
)
@pytest.mark.parametrize("around", [Choosing, lambda conv: nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())])
@torch.inference_mode()
def test_a_convolution_with_a_forward_of_its_own_keeps_it(conv, around):
    model = shaken(nn.Sequential(around(conv())))
    x = torch.randn(2, 3, 9, 9)
    assert relative(ctnet.optimize(model)(x), model(x)) < 1e-5
