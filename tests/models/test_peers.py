import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

import ctnet
from ctnet.models import list_models
from ctnet.models.backbones import resnet_twin
from ctnet.models.peers.blvnet_tam import BigLittle, BLVNet
from ctnet.models.peers.bottleneck import ChannelwiseConv, TemporalBottleneck, difference, replace_bottlenecks
from ctnet.models.peers.eco import ECOLite, Residual3d
from ctnet.models.peers.gsm import GateShift
from ctnet.models.peers.smallbig import BigView, ClipMaxPool
from ctnet.models.peers.stm import ChannelwiseMotion
from ctnet.models.peers.tea import MotionExcitation
from ctnet.models.peers.teinet import MotionEnhanced
from ctnet.models.peers.tim import TemporalInteraction
from ctnet.models.peers.tsm import TemporalShift
from study.paper import table

ON_RESNETS = sorted({name.partition("_")[0] for name in list_models("resnet")})
KEEP_THE_RESNET = [method for method in ON_RESNETS if method != "tea"]


def twin(method, **options):
    torch.manual_seed(0)
    return ctnet.create_model(f"{method}_r50_twin", num_classes=5, **options).eval()


def randomise(module):
    """Give a module weights and statistics that hide nothing: no zeros, no identities."""
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + 0.3 * torch.rand_like(value))
    return module.eval()


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


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_tsm_moves_an_eighth_of_the_channels_each_way(frames):
    x = torch.randn(2, 16, frames, 3, 4)
    expected = torch.zeros_like(x)
    for c in range(16):
        for t in range(frames):
            source = t + 1 if c < 2 else t - 1 if c < 4 else t
            if 0 <= source < frames:
                expected[:, c, t] = x[:, c, source]
    torch.testing.assert_close(TemporalShift()(x), expected)


def test_tim_is_a_convolution_of_each_channel_and_starts_as_the_shift():
    x, tim = torch.randn(2, 16, 5, 3, 4), TemporalInteraction(16)
    torch.testing.assert_close(tim(x), TemporalShift()(x))
    nn.init.normal_(tim.conv.weight)
    lines = x.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (N*H*W, C, T)
    plain = nn.functional.conv1d(lines, tim.conv.weight.squeeze(-1), padding=1, groups=16)
    torch.testing.assert_close(tim(x), plain.unflatten(0, (2, 3, 4)).permute(0, 3, 4, 1, 2), rtol=1e-4, atol=1e-5)


def test_difference_is_the_next_frame_minus_this_one():
    a, b = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2)
    expected = torch.stack([a[:, :, 1] - b[:, :, 0], a[:, :, 2] - b[:, :, 1], torch.zeros(2, 4, 2, 2)], 2)
    torch.testing.assert_close(difference(a, b), expected)


def test_mem_weights_every_frame_but_the_last_by_its_change():
    x, mem = torch.randn(2, 16, 4, 3, 3), MotionEnhanced(16)
    y = mem(x)
    torch.testing.assert_close(y[:, :, -1], x[:, :, -1])
    for t in range(3):
        change = mem.reduce_present(x[:, :, t].mean((2, 3))) - mem.reduce_next(x[:, :, t + 1].mean((2, 3)))
        weights = torch.sigmoid(mem.restore(change))
        torch.testing.assert_close(y[:, :, t], weights[..., None, None] * x[:, :, t])


@pytest.mark.parametrize("module", [ChannelwiseMotion(32), MotionExcitation(32)], ids=["CMM", "ME"])
def test_what_does_not_move_has_no_motion(module):
    still = torch.randn(2, 32, 1, 6, 6).expand(-1, -1, 4, -1, -1)
    nn.init.dirac_(module.align.weight, groups=module.align.groups)
    module.eval()
    unmoved = torch.zeros_like(still) if isinstance(module, ChannelwiseMotion) else still
    torch.testing.assert_close(module(still), unmoved, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(module(still * torch.tensor([1.0, 2, 3, 4]).reshape(4, 1, 1)), unmoved, atol=1e-2)


def test_stm_halves_its_motion_features_where_the_resnet_halves_its_own():
    x, full, halved = torch.randn(2, 32, 3, 8, 6), ChannelwiseMotion(32).eval(), ChannelwiseMotion(32, stride=2).eval()
    halved.load_state_dict(full.state_dict())
    torch.testing.assert_close(halved(x), nn.functional.max_pool3d(full(x), (1, 2, 2)))
    assert halved(torch.randn(2, 32, 3, 7, 5)).shape == (2, 32, 3, 4, 3)


@pytest.mark.parametrize("block", [0, 1])
def test_stm_adds_motion_to_what_the_relu_lets_through(block):
    module, kept = twin("stm").backbone.layer2[block], {}
    for name in ("conv2", "beside_conv2"):
        module.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: kept.update({name: output}))
    module.conv3.register_forward_hook(lambda _, args, output: kept.update(conv3=args[0]))
    module(torch.randn(4, module.conv1.in_channels, 8, 8), 4)
    assert kept["beside_conv2"].abs().sum() > 0
    torch.testing.assert_close(kept["conv3"], module.bn2(kept["conv2"]).relu() + kept["beside_conv2"])


def test_me_excites_channels_between_nothing_and_double():
    x, module = torch.rand(2, 32, 4, 6, 6) + 0.1, MotionExcitation(32).eval()
    nn.init.constant_(module.restore[1].weight, 1e6)
    ratio = module(x) / x
    assert 0 <= ratio.min() < 0.01
    assert 1.99 < ratio.max() <= 2
    torch.testing.assert_close(ratio[:, :, -1], torch.ones_like(ratio[:, :, -1]))  # no frame follows the last


@pytest.mark.parametrize(("block", "seen"), [(0, [[0], [1], [2]]), (1, [[0], [0, 1], [0, 1, 2]])])
def test_tea_hands_each_part_to_the_next_but_in_the_first_block_of_a_stage(block, seen):
    module = randomise(twin("tea").backbone.layer1[block])
    features = torch.randn(4, 24, 8, 8, requires_grad=True)
    module.excite.register_forward_hook(lambda *_: features)
    outputs = []
    for spatial in module.spatial:
        spatial.register_forward_hook(lambda *args: outputs.append(args[-1]))
    module(torch.randn(4, module.conv1.in_channels, 8, 8), 1)
    for output, parts in zip(outputs, seen, strict=True):
        (gradient,) = torch.autograd.grad(output.sum(), features, retain_graph=True)
        assert gradient.abs().sum((0, 2, 3)).reshape(4, 6).sum(1).nonzero().flatten().tolist() == parts


def test_tea_has_the_widths_of_res2net_and_starts_with_one_shift():
    model = ctnet.create_model("tea_r50")
    assert [model.backbone.get_submodule(f"layer{s}.1").conv1.out_channels for s in (1, 2, 3, 4)] == [
        104,
        208,
        416,
        832,
    ]
    x = torch.randn(1, 26, 3, 2, 2)
    *parts, last = (part.module for part in model.backbone.layer1[0].temporal)
    assert all(torch.equal(part(x), x) for part in parts)
    torch.testing.assert_close(last(x), TemporalShift(divisor=2)(x))


def test_pretraining_on_pictures_leaves_what_is_temporal_in_tea_alone():
    model = twin("tea").train()
    kept = {name: value.clone() for name, value in model.state_dict().items() if "temporal" in name or "excite" in name}
    model(torch.randn(2, 3, 1, 32, 32)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1).step()
    state = model.state_dict()
    assert len(kept) > 100
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert model.backbone.layer1[0].conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("method", "millions"), [("teinet", 30.4), ("tsm", 24.3)])
def test_parameters_are_those_that_are_published_for_kinetics(method, millions):
    with torch.device("meta"):
        model = ctnet.create_model(f"{method}_r50", num_classes=400)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("frames", [1, 4])
def test_smallbig_pools_like_one_three_dimensional_pool(frames):
    x = torch.randn(2, 8, frames, 5, 6)
    torch.testing.assert_close(ClipMaxPool()(x), nn.functional.max_pool3d(x, 3, stride=1, padding=1))
    torch.testing.assert_close(
        ClipMaxPool(all_frames=True)(x), nn.functional.max_pool3d(x, (frames, 3, 3), stride=1, padding=(0, 1, 1))
    )


def test_smallbig_sees_both_views_through_one_weight():
    tsn, model = twin("tsn"), twin("smallbig")
    extra = {key for key, _ in model.named_parameters()} - {key for key, _ in tsn.named_parameters()}
    assert extra
    assert all(".bn." in key for key in extra)

    block = randomise(model.backbone.layer2[1])
    x = torch.rand(2, 128, 3, 6, 6)

    def unit(x, conv, bn, big, kernel, padding):
        def each(layer, clips):
            return torch.stack([layer(clips[:, :, t]) for t in range(clips.shape[2])], 2)

        pooled = nn.functional.max_pool3d(x, kernel, stride=1, padding=padding)
        return each(bn, each(conv, x)) + each(big.bn, each(conv, pooled))

    y = unit(x, block.conv1, block.bn1, block.big1, 3, 1).relu()
    y = unit(y, block.conv2, block.bn2, block.big2, 3, 1).relu()
    y = unit(y, block.conv3, block.bn3, block.big3, (3, 3, 3), (0, 1, 1))
    expected = (y + x).relu().transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(block(x.transpose(1, 2).flatten(0, 1), 3), expected, rtol=1e-4, atol=1e-4)


def test_gsm_gates_are_bounded_and_open_gates_shift_each_half():
    x, module = torch.randn(2, 8, 4, 3, 3), GateShift(8)
    torch.testing.assert_close(module(x), x)
    nn.init.normal_(module.gate.weight, std=100.0)
    assert module.gates(x).shape == (2, 2, 4, 3, 3)
    assert module.gates(x).abs().max() <= 1
    nn.init.zeros_(module.gate.weight)
    nn.init.constant_(module.gate.bias, 100.0)
    torch.testing.assert_close(module(x), TemporalShift(divisor=2)(x))
    nn.init.constant_(module.gate.bias, 0.5)
    gate = torch.tensor(0.5).tanh()
    torch.testing.assert_close(module(x), (1 - gate) * x + gate * TemporalShift(divisor=2)(x))


def test_gsm_gates_each_half_by_itself():
    x, module = torch.randn(1, 8, 4, 3, 3), GateShift(8).eval()
    nn.init.normal_(module.gate.weight)
    first, second = module.gates(x).unbind(1)
    changed = torch.cat((x[:, :4], torch.randn(1, 4, 4, 3, 3)), 1)
    torch.testing.assert_close(module.gates(changed)[:, 0], first)
    assert not torch.allclose(module.gates(changed)[:, 1], second)


def test_blvnet_sends_the_second_frame_of_a_pair_through_the_big_branch():
    class Zero(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    x = torch.rand(2, 4, 6, 3, 3)
    for big, little, first in ((nn.Identity(), Zero(), 1), (Zero(), nn.Identity(), 0)):
        module = BigLittle(4, big, little, nn.Identity())
        module.tam = nn.Identity()
        torch.testing.assert_close(module(x), x[:, :, first::2].repeat_interleave(2, dim=2))


def test_blvnet_aggregates_what_its_last_stage_convolves_but_not_what_it_adds():
    _, block, _ = BLVNet(num_classes=5).eval().layer4
    x, aggregated = torch.randn(2, 2048, 3, 3), torch.randn(2, 2048, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(block(x, aggregated), (block.residual(aggregated) + x).relu())
        torch.testing.assert_close(block(x), (block.residual(x) + x).relu())


def test_blvnet_scores_pairs_and_completes_the_last_one():
    model, clip = BLVNet(num_classes=5).eval(), torch.randn(1, 3, 3, 64, 64)
    assert model.layer1.little[0].residual[0].out_channels * 2 == model.layer1.big[0].residual[0].out_channels == 64
    with torch.no_grad():
        features = model.forward_features(clip)
        assert features.shape == (1, 2048, 2, 2, 2)
        torch.testing.assert_close(model(clip), model(torch.cat((clip, clip[:, :, -1:]), 2)))


def test_eco_gives_frames_of_an_eighth_to_the_3d_network_which_halves_all_sizes_twice():
    model = ECOLite(num_classes=5).eval()
    with torch.no_grad():
        assert model.net2d(torch.zeros(2, 3, 64, 48)).shape == (2, 96, 8, 6)
        assert model.forward_features(torch.zeros(1, 3, 8, 64, 64)).shape == (1, 512, 2, 2, 2)
        assert Residual3d(8, 16)(torch.zeros(1, 8, 4, 6, 8)).shape == (1, 16, 2, 3, 4)
        assert Residual3d(8, 8)(torch.zeros(1, 8, 4, 6, 8)).shape == (1, 8, 4, 6, 8)


def test_the_figures_of_the_reason_why_tsn_on_inception_is_not_reproduced():
    model = ctnet.create_model("tsn_inceptionv3", num_classes=400)
    small, large = (25 * ctnet.count_cost(model, size=size, frames=1).gmacs for size in (224, 299))
    reason = table("4").rows["tsn-25x10x1"].not_measured
    assert f"{small:.0f} GFLOPs in InceptionV3 at 224" in reason
    assert f"299 x 299 takes {large:.0f}" in reason
    assert f"{large * (224 / 299) ** 2:.0f} is those {large:.0f} times (224 / 299)^2" in reason
