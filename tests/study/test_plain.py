"""The module that readers copy computes what the package does."""

import inspect

import pytest
import torch

from ctnet.models import CTModule
from ctnet.models.tensor_conv import rotate_channels
from study import plain
from study.plain import PlainCTModule
from study.special_cases import copy_weights


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_plain_module_equals_the_package(k, training):
    """Up to the last rotation, which the package leaves to the layer behind it."""
    package = CTModule(24, sizes=k, excitation="none", pointwise=False).train(training)
    copied = PlainCTModule(24, package.sizes).train(training)
    for number, operation in enumerate(package.sub_operations):
        for value in operation.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape))
        copy_weights(operation.spatial, copied.spatial[number])
        copy_weights(operation.temporal, copied.temporal[number])
    clip = torch.randn(2, 24, 4, 6, 5)
    torch.testing.assert_close(copied(clip), rotate_channels(package(clip), package.sizes[-1]), rtol=1e-4, atol=1e-4)


def test_it_needs_torch_alone_and_fits_into_its_box():
    lines = inspect.getsource(plain).splitlines()
    assert {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))} == {
        "collections",
        "torch",
    }
    code = inspect.getsource(plain.separable) + inspect.getsource(PlainCTModule)
    assert max(map(len, code.splitlines())) <= 79
