import pytest
import torch
import torchvision

import ctnet
from ctnet.engine import load_model, save_model
from ctnet.models import BLOCKS, CTModule, create_backbone, network_version, register_module, registry, select_convs
from ctnet.models.ctnet import INCEPTION_CONVS
from ctnet.models.tensor_conv import OnClips


def tiny(name="ctnet_r50_twin", **options):
    torch.manual_seed(0)
    return ctnet.create_model(name, num_classes=5, **options).eval()


CLIPS = {
    "i3d_inception": (5, 3),
    "corrnet_r50": (8, 8),
    "slowfast_r50_4x16": (16, 8),
    "slowfast_r50_8x8": (8, 4),
}
"""Frames of a longer and a shorter clip, for networks that not every T fits."""
DEEPER = {"corrnet_r101", "ip_csn_r152", "ir_csn_r152", "slowfast_r101_8x8", "slowfast_r101_16x8"}
"""Networks that are left out: of the same blocks as one with fewer layers."""


@pytest.mark.parametrize("name", [name for name in ctnet.list_models() if name not in DEEPER])
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


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (2, 8, 3, 32, 32), (2, 3, 32, 32)])
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected clips of shape \(N, 3, T, H, W\)"):
        tiny()(torch.zeros(shape))


REPLACED = {
    0: [],
    1: ["4.1"],
    4: ["3.1", "3.3", "3.5", "4.1"],
    6: ["2.1", "2.3", "3.1", "3.3", "3.5", "4.1"],
    7: ["1.1", "2.1", "2.3", "3.1", "3.3", "3.5", "4.1"],
    12: ["1.1", "1.2", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2"],
}
"""Table 2e: the blocks, by layer and number, that the printed costs are of."""


@pytest.mark.parametrize("blocks", BLOCKS)
def test_the_replaced_blocks(blocks):
    model = ctnet.create_model("ctnet_r50_twin", blocks=blocks)
    replaced = [name for name, module in model.named_modules() if isinstance(module, CTModule)]
    assert replaced == [f"backbone.layer{place}.conv2.module" for place in REPLACED[blocks]]


@pytest.mark.parametrize("name", ["ctnet_r50_twin", "tsm_r50_twin", "tea_r50_twin", "smallbig_r50_twin"])
def test_one_exported_program_serves_any_batch_and_any_number_of_frames(name):
    model, any_number = tiny(name), torch.export.Dim.DYNAMIC
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

    model, clip = tiny(), torch.randn(1, 3, 4, 32, 32)
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


@pytest.mark.parametrize(
    ("cnn", "rule", "expected"),
    [
        ("r50", "odd", ["layer1.1", "layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5", "layer4.1"]),
        ("r18", "odd", [f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1)]),
        ("r50_twin", "after_first", [f"layer{place}" for place in REPLACED[12]]),
        ("r50_twin", {"layer3": (1, 5)}, ["layer3.1", "layer3.5"]),
        ("r50_twin", ["layer2.2.conv2"], ["layer2.2"]),
        ("r50_twin", "none", []),
    ],
)
def test_rules(cnn, rule, expected):
    picked = select_convs(create_backbone(cnn), rule)
    assert [name.rpartition(".")[0] for name in picked] == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("even", "unknown rule"),
        ({"layer9": (1,)}, "not there"),
        ({"layer4": (7,)}, "not there"),
        (["layer1.1.conv9"], "cannot replace layer1.1.conv9"),
        (["layer2.0.conv2"], "stride 1"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        select_convs(create_backbone("r50_twin"), rule)


@pytest.mark.parametrize("builder", ["resnet18", "vgg11_bn", "wide_resnet50_2"])
def test_tensorize_takes_other_cnns_and_leaves_them_as_they_were(builder):
    cnn = getattr(torchvision.models, builder)()
    before = {key: value.clone() for key, value in cnn.state_dict().items()}
    model = ctnet.tensorize(cnn, rule="odd", excitation="te")
    assert model.head.out_features == 1000
    assert any(isinstance(module, CTModule) for module in model.modules())
    assert model(torch.randn(1, 3, 2, 64, 64)).shape == (1, 1000)
    assert before.keys() == cnn.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in cnn.state_dict().items())
    assert not any(isinstance(module, OnClips) for module in cnn.modules())


@pytest.mark.parametrize("pretrained", [True, False])
def test_tensorize_keeps_the_normalisation_of_inception(pretrained):
    cnn = torchvision.models.inception_v3(init_weights=False, transform_input=pretrained)
    model = ctnet.tensorize(cnn, INCEPTION_CONVS)
    named = ctnet.create_model("ctnet_inceptionv3").input_mean
    assert (model.input_mean == named) == pretrained


def test_a_module_of_ones_own_is_known_by_name(monkeypatch, tmp_path):
    def mine(in_channels, out_channels, kernel=3):
        return torch.nn.Conv3d(in_channels, out_channels, kernel, padding=kernel // 2)

    monkeypatch.setattr(registry, "NETWORKS", registry.NETWORKS.copy())
    register_module("mine", version=3)(mine)
    assert network_version("mine_r50_twin") == 3
    assert "mine_r50" in ctnet.list_models()
    model = ctnet.create_model("mine_r50_twin", num_classes=3, kernel=5)
    assert sum(isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] == 5 for module in model.modules()) == 7
    save_model(tmp_path / "mine.safetensors", model)
    assert load_model(tmp_path / "mine.safetensors").config == model.config
    with pytest.raises(ValueError, match="no option sizes; there are kernel, blocks"):
        ctnet.create_model("mine_r50_twin", sizes=3)


def test_replaced_convolution_takes_its_batch_norm_along():
    model = ctnet.create_model("ctnet_r50_twin")
    block = model.backbone.layer1[1]
    assert isinstance(block.bn2, torch.nn.Identity)
    assert isinstance(model.backbone.layer1[0].bn2, torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ctnet.create_model("ctnet_r52"), "unknown model 'ctnet_r52'"),
        (lambda: ctnet.create_model("ctnet_r50_twin", blocks=5), "no rule for 5 blocks"),
        (lambda: ctnet.create_model("ctnet_r101_twin", blocks=7), "no rule for 7 blocks of r101_twin"),
        (lambda: ctnet.create_model("tsn_r50_twin", blocks=7), "no option blocks; there are none"),
        (lambda: ctnet.create_model("csn_r50_twin", sizes=3), "no option sizes; there are blocks"),
        (lambda: ctnet.create_model("ctnet_r50_twin", weights="imagenet"), "no ImageNet weights for the twin"),
        (lambda: ctnet.create_model("ctnet_r50", weights="kinetics"), "weights must be"),
        (lambda: ctnet.create_model("ctnet_r50_twin", size=3), "no option size; there are sizes, kernels"),
        (lambda: ctnet.create_model("tsm_r50_twin", sizes=3), "no option sizes; there are none"),
        (lambda: ctnet.tensorize(torch.nn.Conv2d(3, 8, 3)), "no linear head"),
        (lambda: ctnet.tensorize(torchvision.models.mobilenet_v2()), "'odd' finds no dense 3 x 3 convolution"),
        (lambda: ctnet.tensorize(torch.nn.Sequential(torch.nn.Linear(3, 8)), "none"), "where the features"),
    ],
)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_imagenet_weights_come_from_torchvisions_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = torchvision.models.resnet50()
    for value in source.state_dict().values():  # also statistics, which no pass over a picture may touch
        if value.is_floating_point() and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(source.state_dict(), folder / torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    model = ctnet.create_model("ctnet_r50", weights="imagenet")
    ours, theirs = model.backbone.state_dict(), source.state_dict()
    shared = [name for name in ours if ".module." not in name]
    assert len(shared) > 0.8 * len(theirs)
    for name in shared:
        torch.testing.assert_close(ours[name], theirs[name], msg=name, rtol=0, atol=0)


def test_without_a_network_imagenet_weights_fail_with_one_line(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("name resolution failed")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(RuntimeError, match=r"cannot download the ImageNet weights.*weights=None"):
        ctnet.create_model("ctnet_r50", weights="imagenet")
