from dataclasses import replace

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ctnet

TINY = {"num_classes": 10}


def test_count_by_hand():
    """TSN twin, 2 frames of 32 x 32, counted from the architecture with pencil and paper."""
    bottlenecks = 0
    position, channels = 16 * 16, 16
    for stage, blocks in enumerate((3, 4, 6, 3)):
        planes = 16 * 2**stage
        for block in range(blocks):
            out = position if stage == 0 or block > 0 else position // 4
            bottlenecks += position * channels * planes + out * planes * planes * 9 + out * planes * 4 * planes
            if block == 0:
                bottlenecks += out * channels * 4 * planes
            position, channels = out, 4 * planes
    stem, head = 16 * 16 * 16 * 27, 512 * 10
    cost = ctnet.count_cost(ctnet.create_model("tsn_r50_twin", **TINY), size=32, frames=2)
    assert cost.conv_linear_gmacs * 1e9 == pytest.approx(2 * (stem + bottlenecks + head), rel=1e-12)


@pytest.mark.parametrize(
    "name", ["tsn_r50_twin", "ctnet_r50_twin", "c3d_r50_twin", "r2plus1d_r50_twin", "csn_r50_twin"]
)
@pytest.mark.parametrize(("size", "frames"), [(32, 4), (48, 3)])
def test_a_second_counter_agrees(name, size, frames):
    """torch's own counter counts two operations for a multiply-add, and convolutions and products alone."""
    model = ctnet.create_model(name, **TINY).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, frames, size, size))
    cost = ctnet.count_cost(model, size=size, frames=frames)
    assert cost.conv_linear_gmacs * 2e9 == pytest.approx(counter.get_total_flops(), rel=1e-12)


def test_full_size_network_costs_what_the_paper_prints():
    cost = ctnet.count_cost(ctnet.create_model("ctnet_r50", num_classes=174, num_frames=8), size=256)
    assert (round(cost.gmacs, 2), round(cost.conv_linear_gmacs, 2), round(cost.params_m, 2)) == (37.32, 37.04, 20.96)


def test_a_compiled_network_costs_what_it_does_uncompiled():
    model = ctnet.create_model("ctnet_r26_twin", **TINY)
    assert ctnet.count_cost(torch.compile(model), size=32) == ctnet.count_cost(model, size=32)


def test_batch_norm_is_what_a_count_of_layers_leaves_out():
    cost = ctnet.count_cost(ctnet.create_model("ctnet_r50_twin", **TINY), size=32)
    assert cost.by_operator["conv"] + cost.by_operator["linear"] == cost.conv_linear_gmacs
    assert cost.by_operator["batch_norm"] > 0.9 * (cost.gmacs - cost.conv_linear_gmacs) > 0


def test_cost_is_linear_in_frames_and_area_but_for_pooled_attention():
    model = ctnet.create_model("tsn_r50_twin", **TINY)
    one, four = ctnet.count_cost(model, size=32, frames=2), ctnet.count_cost(model, size=32, frames=8)
    assert four.gmacs == pytest.approx(4 * one.gmacs, rel=1e-12)


def test_frames_default_to_the_models_own_and_a_rectangle_is_taken():
    model = ctnet.create_model("tsn_r50_twin", num_frames=3)
    assert ctnet.count_cost(model, size=32) == ctnet.count_cost(model, size=(32, 32), frames=3)
    assert ctnet.count_cost(model, size=(32, 64)).gmacs > 1.9 * ctnet.count_cost(model, size=32).gmacs


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_model_as_it_was(training):
    model = ctnet.create_model("ctnet_r50_twin").train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ctnet.count_cost(model, size=32)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("size", "frames"), [(0, 8), (32, 0), (-32, 8)])
def test_sizes_must_be_positive(size, frames):
    with pytest.raises(ValueError, match="must be positive"):
        ctnet.count_cost(ctnet.create_model("tsn_r50_twin"), size=size, frames=frames)


@pytest.mark.parametrize(("sizes", "sides"), [(2, 8 + 8), (1, 64), (3, 4 + 4 + 4)])
def test_what_takes_no_clips_is_counted_on_an_input_of_its_own(sizes, sides):
    module = ctnet.models.CTModule(64, sizes=sizes, excitation="none", pointwise=False)
    cost = ctnet.count_cost(module, shape=(1, 64, 8, 14, 14))
    assert cost.conv_linear_gmacs == pytest.approx((9 + 3) * 64 * sides * 8 * 14 * 14 / 1e9)  # section 3.1
    assert ctnet.count_cost(nn.Conv2d(3, 5, 3, padding=1), shape=(1, 3, 6, 7)).gmacs == 27 * 5 * 42 / 1e9
    with pytest.raises(ValueError, match="numbers of a shape must be positive"):
        ctnet.count_cost(module, shape=(1, 64, 0, 14, 14))
    with pytest.raises(ValueError, match="cannot process a clip of 1 x 32 x 8 x 14 x 14"):
        ctnet.count_cost(module, shape=(1, 32, 8, 14, 14))


def test_a_model_that_cannot_take_the_clip_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="cannot process a clip of 8 x 16 x 16"):
        ctnet.count_cost(nn.Conv2d(3, 4, 3), size=16)


@pytest.mark.parametrize("padding", ["same", 1])
def test_every_spelling_of_a_padding_costs_the_same(padding):
    cost = ctnet.count_cost(Layers(nn.Conv2d(3, 4, 3, padding=padding)), size=12, frames=2)
    assert cost.conv_linear_gmacs * 1e9 == pytest.approx(2 * 12 * 12 * 4 * 3 * 9, rel=1e-12)
    assert cost.by_stage == {"0": cost.gmacs}


def devices_seen(model):
    """The devices of what goes through the layers of a model, or of a copy of it, from here on."""
    seen = set()
    for module in model.modules():
        module.register_forward_hook(lambda module, inputs, output: seen.add(output.device.type))
    return seen


@pytest.mark.parametrize("name", ["ctnet_r50_twin", "tea_r50_twin", "tsn_r50_twin"])
def test_a_count_computes_nothing(name):
    model = ctnet.create_model(name, **TINY)
    seen = devices_seen(model)
    count_by_shapes = ctnet.count_cost(model, size=32, frames=3)
    assert seen == {"meta"}
    assert count_by_shapes == executed(model, (1, 3, 3, 32, 32))


def executed(model, shape):
    """The cost by fvcore's own count, every operator run."""
    analysis = FlopCountAnalysis(model.eval(), torch.zeros(shape)).unsupported_ops_warnings(False)
    with torch.no_grad():
        by_operator = {name: count / 1e9 for name, count in analysis.by_operator().items()}
        by_module = analysis.by_module()
    stages = [f"backbone.{name}" for name, _ in model.backbone.named_children()]
    return ctnet.analysis.Cost(
        sum(by_operator.values()),
        by_operator.get("conv", 0.0) + by_operator.get("linear", 0.0),
        sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        by_operator,
        {stage.removeprefix("backbone."): by_module[stage] / 1e9 for stage in stages},
    )


class Layers(nn.Module):
    """Some layers on frames, behind which every position of the last one counts."""

    def __init__(self, *layers):
        super().__init__()
        self.backbone = nn.Sequential(*layers)

    def forward(self, clips):
        return self.backbone(clips.movedim(2, 1).flatten(0, 1))


class ByValue(nn.Module):
    """What it does depends on a value."""

    def forward(self, x):
        return x.relu() if x.sum() >= 0 else x


@torch.jit.script
def scripted(x):
    return x + torch.nn.functional.adaptive_avg_pool2d(x, [1, 1])


class Scripted(nn.Module):
    """Reaches operators that no function of Python calls."""

    def forward(self, x):
        return scripted(x)


class InPlace(nn.Module):
    """Changes the shape of a tensor in place, and hands tensors over in a list and by name."""

    def forward(self, x):
        x.unsqueeze_(0)
        return torch.cat([x, x], dim=1)[0].add_(other=x[0, :1]).matmul(x[0, :1].transpose(2, 3))


SHARED = nn.Conv2d(3, 3, 3, padding=1)


@pytest.mark.parametrize(
    ("layers", "device"),
    [
        ([nn.Conv2d(3, 4, 3), Scripted()], "cpu"),
        ([nn.Conv2d(3, 4, 3), InPlace()], "meta"),
        ([SHARED, nn.MaxPool2d(2), SHARED, nn.BatchNorm2d(3), SHARED], "meta"),
        ([nn.ConvTranspose2d(3, 4, 3), nn.ReLU()], "cpu"),
        ([nn.Conv2d(3, 4, 3), ByValue()], "cpu"),
        ([nn.Conv2d(3, 4, 3, 2, 1, dilation=2), nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 1, groups=2)], "meta"),
        ([nn.Flatten(2), nn.Conv1d(3, 5, 3), nn.LazyLinear(7)], "meta"),
    ],
    ids=["scripted", "in place", "one layer at two sizes", "transposed", "value", "strides", "one dimension"],
)
def test_what_shapes_do_not_tell_is_run(layers, device):
    model = Layers(*layers)
    model(torch.zeros(1, 3, 2, 12, 12))
    seen = devices_seen(model)
    cost = ctnet.count_cost(model, size=12, frames=2)
    assert ("cpu" in seen) == (device == "cpu")
    assert replace(cost, uncounted={}) == executed(model, (1, 3, 2, 12, 12))
