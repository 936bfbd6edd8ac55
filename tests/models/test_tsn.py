import pytest
import torch
import torchvision
from networks import tiny
from torch import nn
from torch.nn.functional import dropout, max_pool2d
from torchvision.ops import stochastic_depth

import ctnet
from ctnet.models import TSN
from ctnet.models.tensor_conv import OnClips


def test_tsn_ignores_the_order_of_frames_and_ctnet_does_not():
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        tsn, ctnet_model = tiny("tsn_r50_twin"), tiny()
        torch.testing.assert_close(tsn(clip), tsn(clip.flip(2)))
        assert not torch.allclose(ctnet_model(clip), ctnet_model(clip.flip(2)), atol=1e-4)


def test_tsn_is_the_mean_of_the_frames_scores():
    model = tiny("tsn_r50_twin")
    clip = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        frames = torch.stack([model(clip[:, :, [t]]) for t in range(3)])
        torch.testing.assert_close(model(clip), frames.mean(0), rtol=1e-4, atol=1e-5)


def test_clips_in_a_batch_do_not_mix():
    model, clips = tiny(), torch.randn(3, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clips)[1:2], model(clips[1:2]), rtol=1e-4, atol=1e-5)


def test_features_and_head_compose_to_forward():
    model, clip = tiny(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = model.forward_features(clip)
        assert features.shape == (2, 512, 4, 2, 2)
        torch.testing.assert_close(model.forward_head(features), model(clip))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_memory_format_of_the_input_does_not_matter(memory_format):
    model, clip = tiny(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected = model(clip)
        torch.testing.assert_close(model(clip.to(memory_format=memory_format)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (2, 8, 3, 32, 32), (2, 3, 32, 32), (2, 3, 0, 32, 32)])
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected clips of shape \(N, 3, T, H, W\)"):
        tiny()(torch.zeros(shape))


def test_frames_that_were_not_normalised_are_refused():
    with pytest.raises(ValueError, match=r"normalised by input_mean and input_std, got torch\.uint8"):
        tiny()(torch.zeros(1, 3, 2, 32, 32, dtype=torch.uint8))


FEWER = {"name": "ctnet_r26_twin", "blocks": {"layer4": [1]}}
"""Blocks and modules are all alike, and each costs torch's compiler seconds."""


@pytest.mark.parametrize("options", [FEWER, {"name": "tsm_r26_twin"}], ids=lambda options: options["name"])
def test_one_exported_program_serves_any_batch_and_any_number_of_frames(options):
    model, any_number = tiny(**options), torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(2, 3, 4, 32, 32),), dynamic_shapes={"x": {0: any_number, 2: any_number}}
        )
        for clips, frames in ((1, 4), (3, 7)):
            batch = torch.randn(clips, 3, frames, 32, 32)
            torch.testing.assert_close(program.module()(batch), model(batch), rtol=1e-4, atol=1e-5)


def test_the_whole_network_compiles_to_one_graph():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    model, clip = tiny(**FEWER), torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        scores = torch.compile(model, backend=count, fullgraph=True)(clip)
    assert len(graphs) == 1
    torch.testing.assert_close(scores, model(clip), rtol=1e-4, atol=1e-5)


def test_a_pass_leaves_no_trace_in_the_network():
    model = tiny()
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    with torch.no_grad():
        model(torch.randn(1, 3, 4, 32, 32))
    after = {name: dict(module.__dict__) for name, module in model.named_modules()}
    assert before == after


def test_the_features_of_a_densenet_are_rectified_as_its_own_are():
    cnn = torchvision.models.densenet121().eval()
    clip = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        features = ctnet.tensorize(cnn, "none").forward_features(clip)
        expected = cnn.features(clip[0].transpose(0, 1)).relu().transpose(0, 1)[None]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_dropout_called_as_a_function_follows_the_mode_of_the_network():
    model = ctnet.tensorize(torchvision.models.densenet121(drop_rate=0.9), dropout=0.0)
    clip = torch.randn(2, 3, 2, 64, 64)
    with torch.no_grad():
        assert not torch.equal(model(clip), model(clip))
        model.eval()
        assert torch.equal(model(clip), model(clip))


class Small(nn.Module):
    """A CNN whose forward does between its children what a case says."""

    def __init__(self, between, listed=("conv1", "conv2")):
        super().__init__()
        self.between = between
        for name in listed:
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 7)

    def forward(self, x):
        x = self.between(self.conv1(x))
        return self.fc(self.avgpool(self.conv2(x)).flatten(1))


def test_a_cnn_whose_children_follow_each_other_is_taken():
    cnn, frames = Small(lambda x: x), torch.randn(2, 3, 8, 8)
    scores = TSN(cnn, 7, dropout=0).forward_features(frames.transpose(0, 1)[None])
    torch.testing.assert_close(scores[0].transpose(0, 1), cnn.conv2(cnn.conv1(frames)))


class LikeTimm(nn.Module):
    """A CNN with timm's names, whose pooling flattens too."""

    def __init__(self, between=nn.Identity()):  # noqa: B008
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.layer1 = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 1))
        self.global_pool, self.fc = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(5, 7)
        self.between = between

    def forward(self, x):
        x = self.between(self.act1(self.bn1(self.conv1(x))))
        return self.fc(self.global_pool(self.layer1(x)))


def test_a_cnn_whose_pooling_has_timm_s_name_is_taken():
    cnn, frames = LikeTimm().eval(), torch.randn(2, 3, 8, 8)
    model = TSN(cnn, 7, dropout=0).eval()
    model.head.load_state_dict(cnn.fc.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(frames.transpose(0, 1)[None])[0], cnn(frames).mean(0))
    tensorized = ctnet.tensorize(cnn, ["layer1.0"], num_classes=3)
    assert tensorized(frames.transpose(0, 1)[None]).shape == (1, 3)
    with pytest.raises(ValueError, match="calls relu where its children would have act1 called"):
        TSN(LikeTimm(torch.relu), 7)


@pytest.mark.parametrize(
    ("cnn", "message"),
    [
        (Small(torch.relu), "calls relu where its children would have conv1 called"),
        (Small(lambda x: max_pool2d(x, 2)), "calls max_pool2d where"),
        (Small(lambda x: x + 1), "calls add where"),
        (Small(lambda x: x, ("conv2", "conv1")), "calls conv2 where its children would have conv1 called"),
    ],
)
def test_a_cnn_that_does_more_than_its_children_is_refused(cnn, message):
    with pytest.raises(ValueError, match=message):
        TSN(cnn, 7)


class Dropping(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.drop, self.conv1, self.conv2 = drop, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.drop(self.conv2(self.conv1(x)), p=0.9, training=self.training)


@pytest.mark.parametrize("drop", [dropout, nn.functional.dropout2d])
def test_what_depends_on_the_mode_is_followed_or_refused(drop):
    cnn = nn.Sequential()
    cnn.features = nn.Sequential(Dropping(drop))
    if drop is dropout:
        model = ctnet.tensorize(cnn, ["features.0.conv2"], num_classes=3)
        assert any(part.p == 0.9 for part in model.backbone.modules() if isinstance(part, nn.Dropout))
    else:
        with pytest.raises(ValueError, match="calls .*dropout2d.*use its module"):
            ctnet.tensorize(cnn, ["features.0.conv2"], num_classes=3)


class Block(nn.Module):
    """A block whose forward does with its frames, beside its convolutions, what a case says."""

    def __init__(self, does):
        super().__init__()
        self.does, self.conv1, self.conv2 = does, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.does(self, self.conv2(self.conv1(x)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("does", "message"),
    [
        (lambda block, x: x * 0 if block.training else x, "its forward depends on its mode. Make a module"),
        (lambda block, x: stochastic_depth(x, 0.5, "row", block.training), "depends on its mode"),
        (lambda block, x: sum([x * 0 for _ in range(2) if block.training], x), "depends on its mode"),
        (lambda block, x: x * torch.tensor(0.5 if block.training else 1.0), "depends on its mode"),
        (lambda block, x: x if x.shape[0] > 1 else -x, r"Block .* depends on its input \(symbolically traced"),
    ],
)
def test_a_block_that_depends_on_more_than_its_layers_is_refused(does, message, training):
    cnn = nn.Sequential()
    cnn.features = nn.Sequential(Block(does))
    with pytest.raises(ValueError, match=message):
        ctnet.tensorize(cnn.train(training), ["features.0.conv2"], num_classes=3)


def test_a_tensor_that_a_block_makes_is_no_dependence_and_leaves_nothing_behind():
    cnn = nn.Sequential()
    cnn.features = nn.Sequential(Block(lambda block, x: dropout(x, 0.5, block.training) * torch.tensor(0.5)))
    model = ctnet.tensorize(cnn, ["features.0.conv2"], num_classes=3).eval()
    conv = [part for part in model.modules() if isinstance(part, OnClips)]
    assert len(conv) == 1
    assert "_tensor_constant0" not in vars(cnn.features[0])
    frames = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        whole = model.forward_features(frames.transpose(0, 1)[None])
        inner = model.backbone[0].conv1(frames)
        expected = conv[0](inner, 2) * 0.5
    torch.testing.assert_close(whole[0].transpose(0, 1), expected)


def test_a_block_that_takes_the_number_of_frames_may_do_anything():
    class Told(Block):
        def forward(self, x, num_frames):
            return self.does(self, self.conv2(self.conv1(x), num_frames))

    cnn = nn.Sequential()
    cnn.features = nn.Sequential(Told(lambda block, x: x * 0 if block.training else x))
    model, clips = ctnet.tensorize(cnn, ["features.0.conv2"], num_classes=3), torch.randn(1, 3, 4, 8, 8)
    assert not model.forward_features(clips).any()
    assert model.eval().forward_features(clips).any()


@pytest.mark.parametrize("frames", [1, 5])
def test_every_stage_can_be_read(frames):
    model, clips = ctnet.create_model("ctnet_r26_twin").eval(), torch.randn(2, 3, frames, 32, 32)
    with torch.no_grad():
        stages = model.forward_stages(clips)
        assert list(stages)[-4:] == ["layer1", "layer2", "layer3", "layer4"]
        assert stages["layer2"].shape == (2, 128, frames, 8, 8)
        assert torch.equal(stages["layer4"], model.forward_features(clips))
        assert stages["bn1"].min() < 0 == stages["relu"].min()  # which writes over its input
    with pytest.raises(ValueError, match="expected clips of shape"):
        model.forward_stages(clips[0])


def test_a_network_of_another_type_is_taken_as_it_is():
    cnn = nn.Sequential()
    cnn.features = nn.Sequential(nn.Conv2d(3, 5, 3))
    model = TSN(cnn.double(), 7).double()
    assert model(torch.zeros(1, 3, 2, 8, 8, dtype=torch.float64)).dtype == torch.float64
    assert model.head.in_features == 5
