import pytest
import torch
import torchvision
from torchvision.models.resnet import Bottleneck

import ctnet
from ctnet.models import BLOCKS, CTModule, create_backbone, replace_convs, select_convs
from ctnet.models.backbones import INCEPTION_CONVS
from ctnet.models.tensor_conv import OnClips

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
        ({"layer1": (1, 1)}, "names a convolution twice"),
        ({"layer1": (1, -2)}, "names a convolution twice"),
        ({"layer1": 1}, "is no rule: give each stage a list of numbers"),
        ({"layer1": ["one"]}, "is no rule: give each stage a list of numbers"),
        (["layer1.1.conv9"], "cannot replace layer1.1.conv9"),
        (["layer2.0.conv2"], "of stride and dilation 1"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        select_convs(create_backbone("r50_twin"), rule)


def test_what_a_module_cannot_stand_for_is_not_replaced():
    dilated = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True])
    assert select_convs(dilated, "after_first") == [
        name for name in select_convs(create_backbone("r50"), "after_first") if not name.startswith("layer4")
    ]
    for cnn, name in (
        (torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, padding=1)), "0"),
        (dilated, "layer4.1.conv2"),
        (torchvision.models.inception_v3(init_weights=False), "Conv2d_4a_3x3.conv"),
    ):
        with pytest.raises(ValueError, match=f"cannot replace {name}"):
            select_convs(cnn, [name])


def vgg11_bn():
    """With a short classifier, not of 120 million parameters."""
    cnn = torchvision.models.vgg11_bn(init_weights=False)
    cnn.classifier = torch.nn.Sequential(torch.nn.Linear(512 * 7 * 7, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    return cnn


def wide_resnet():
    """Blocks of wide_resnet50_2, as few as there can be with a second one in a stage."""
    return torchvision.models.ResNet(Bottleneck, [2, 1, 1, 1], num_classes=10, width_per_group=128)


@pytest.mark.parametrize(
    ("builder", "classes"), [(torchvision.models.resnet18, 1000), (vgg11_bn, 10), (wide_resnet, 10)]
)
def test_tensorize_takes_other_cnns_and_leaves_them_as_they_were(builder, classes):
    cnn = builder()
    before = {key: value.clone() for key, value in cnn.state_dict().items()}
    model = ctnet.tensorize(cnn, rule="odd", excitation="te")
    assert model.head.out_features == classes
    assert any(isinstance(module, CTModule) for module in model.modules())
    assert model(torch.randn(1, 3, 2, 64, 64)).shape == (1, classes)
    assert before.keys() == cnn.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in cnn.state_dict().items())
    assert not any(isinstance(module, OnClips) for module in cnn.modules())


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.SiLU(inplace=True)),
        lambda: (
            torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8)),
            torch.nn.ReLU(inplace=True),
        ),
        lambda: (
            torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8)),
            torch.nn.Sequential(torch.nn.ReLU(inplace=True)),
        ),
    ],
    ids=["silu", "a level up", "in the next part"],
)
def test_activations_around_a_replaced_convolution_leave_what_its_gradient_needs(layers):
    cnn = torch.nn.Sequential()
    cnn.features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Sequential(*layers()))
    *_, conv = (name for name, part in cnn.named_modules() if isinstance(part, torch.nn.Conv2d))
    model = ctnet.tensorize(cnn, [conv], num_classes=2, connection="serial", excitation="none")
    model(torch.randn(1, 3, 2, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("pretrained", [True, False])
def test_tensorize_keeps_the_normalisation_of_inception(pretrained):
    cnn = torchvision.models.inception_v3(init_weights=False, transform_input=pretrained)
    model = ctnet.tensorize(cnn, INCEPTION_CONVS)
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert (model.input_mean, model.input_std) == (((0.5,) * 3, (0.5,) * 3) if pretrained else imagenet)


def test_tensorize_takes_frames_and_dropout():
    model = ctnet.tensorize(torchvision.models.resnet18(), "odd", num_classes=3, num_frames=24, dropout=0.3)
    assert (model.num_frames, model.head.out_features) == (24, 3)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.3]


class Block(torch.nn.Module):
    """Two convolutions whose normalisations are listed after both."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = (torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.bn1, self.bn2 = (torch.nn.BatchNorm2d(8) for _ in range(2))

    def forward(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


class Listed(Block):
    """With its normalisations in a list."""

    def __init__(self):
        super().__init__()
        self.norms = torch.nn.ModuleList([self.bn1, self.bn2])
        del self.bn1, self.bn2

    def forward(self, x):
        return self.norms[1](self.conv2(self.norms[0](self.conv1(x)).relu()))


class Choosing(Block):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("block", "replaced", "gone"),
    [
        (Block, "conv1", ["bn1"]),
        (Block, "conv2", ["bn2"]),
        (Listed, "conv2", ["norms.1"]),
        (Choosing, "conv2", []),
    ],
)
def test_the_normalisation_that_goes_is_the_one_that_a_convolution_feeds(block, replaced, gone):
    changed = replace_convs(torch.nn.Sequential(block()), [f"0.{replaced}"], CTModule)[0]
    assert [name for name, part in changed.named_modules() if isinstance(part, torch.nn.Identity)] == gone


def test_replaced_convolution_takes_its_batch_norm_along():
    model = ctnet.create_model("ctnet_r50_twin")
    block = model.backbone.layer1[1]
    assert isinstance(block.bn2, torch.nn.Identity)
    assert isinstance(model.backbone.layer1[0].bn2, torch.nn.BatchNorm2d)
