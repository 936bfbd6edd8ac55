import literal
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ctnet.models import CTModule, SqueezeExcitation, sub_dimension_sizes
from ctnet.models.tensor_conv import TensorSeparableConv, as_clips, as_frames, rotate_channels


def randomise(module, seed=0):
    """Give every parameter and running statistic a value that a mistake would show in, and outputs of about 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) / max(tensor[0].numel(), 4) ** 0.5
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name or name.endswith("bn.weight") else noise)
    return module


def channels_last(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x.to(memory_format=torch.channels_last_3d).requires_grad_()


CONFIGURATIONS = {
    "paper": {},
    "plain": {"excitation": "none", "pointwise": False},
    "K=1": {"sizes": 1},
    "K=3": {"sizes": 3, "pointwise": False},
    "K=3 with PWConv": {"sizes": 3},
    "K=4": {"sizes": 4, "excitation": "none"},
    "C2=1": {"sizes": (-1, 1)},
    "C2=4, unequal": {"sizes": (-1, 4), "pointwise": False},
    "serial": {"connection": "serial"},
    "coupling": {"connection": "coupling"},
    "serial, plain": {"connection": "serial", "excitation": "none", "pointwise": False},
    "kernels 1 and 5": {"kernels": (1, 5)},
    "uneven kernels": {"kernels": ((3, 1, 5), (5, 3, 1)), "connection": "coupling"},
    "SE": {"excitation": "se"},
    "untensorized": {"sizes": (32, 32), "kernels": ((1, 3, 3), (3, 1, 1)), "connection": "coupling"},
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_agrees_with_the_equations_written_out(options, training):
    module = randomise(CTModule(32, **options)).train(training)
    x = channels_last(2, 32, 5, 7, 3)
    expected = literal.ct_module(module, x)[:, module.output_order]
    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    tensors = [x, *module.parameters()]
    expected_gradients = torch.autograd.grad((expected * probe).sum(), tensors)
    actual = module(x)
    gradients = torch.autograd.grad((actual * probe).sum(), tensors)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        scale = expected_gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(gradient / scale, expected_gradient / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(6, 12), (24, 12), (48, 64)])
def test_other_number_of_output_channels(in_channels, out_channels):
    module = randomise(CTModule(in_channels, out_channels)).eval()
    x = channels_last(1, in_channels, 2, 5, 4)
    expected = literal.ct_module(module, x)[:, module.output_order]
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


class CountCopies(TorchDispatchMode):
    copies = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.clone, torch.ops.aten._to_copy, torch.ops.aten.copy_):
            self.copies += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("options", "copies"),
    [({}, 0), ({"connection": "serial"}, 0), ({"sizes": 3}, 0), ({"pointwise": False}, 1)],
    ids=["paper", "serial", "K=3", "without PWConv"],
)
def test_copies_nothing_but_rotated_channels(options, copies):
    module = CTModule(32, **options).eval()
    frames = torch.randn(6, 32, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), CountCopies() as counter:
        out = as_frames(module(as_clips(frames, 3)))
    assert counter.copies == copies
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_output_order_is_a_permutation_that_restores_the_natural_order():
    module = CTModule(24, sizes=(4, 3, 2))
    x = torch.arange(24.0).reshape(1, -1, 1, 1, 1)
    for size in module.sizes[:-1]:
        x = rotate_channels(x, size)
    assert x.flatten().tolist() == module.output_order.tolist()
    assert rotate_channels(x, module.sizes[-1]).flatten().tolist() == list(range(24))


@pytest.mark.parametrize(
    ("channels", "sizes", "expected"),
    [
        (64, 2, (8, 8)),
        (128, 2, (16, 8)),
        (512, 2, (32, 16)),
        (128, 3, (8, 4, 4)),
        (64, 4, (4, 4, 2, 2)),
        (96, 2, (12, 8)),
        (384, 2, (24, 16)),
        (7, 2, (7, 1)),
        (64, (-1, 4), (16, 4)),
        (64, (4, 16), (4, 16)),
        (8, (8, 8), (8, 8)),
    ],
)
def test_sub_dimension_sizes(channels, sizes, expected):
    assert sub_dimension_sizes(channels, sizes) == expected


@pytest.mark.parametrize("sizes", [0, -1, (), (5, 3), (-1, -1), (-1, 5), (-1, 0), (64, 2), (-8, -8)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match=r"sub-dimensions"):
        sub_dimension_sizes(64, sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connection": "cascade"}, "parallel, serial or coupling"),
        ({"excitation": "cbam"}, "te, se or none"),
        ({"kernels": 2}, "odd"),
        ({"kernels": (3, 3, 3)}, "3 kernels were given for 2"),
        ({"kernels": (3, (1, 3))}, r"\(t, h, w\)"),
        ({"out_channels": 36}, "divide both"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CTModule(32, **options)


def test_clips_and_frames_are_views():
    frames = torch.randn(6, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    clips = as_clips(frames, 3)
    assert clips.shape == (2, 4, 3, 5, 5)
    assert clips.data_ptr() == as_frames(clips).data_ptr() == frames.data_ptr()
    assert torch.equal(clips[1, :, 2], frames[5])
    with pytest.raises(ValueError, match="whole clips"):
        as_clips(frames, 4)


def test_temporal_convolution_sees_only_its_own_position():
    conv = TensorSeparableConv(4, 4, 2, (3, 1, 1))
    x = channels_last(1, 4, 5, 3, 3)
    (gradient,) = torch.autograd.grad(conv(x)[0, 0, 2, 1, 1], x)
    assert gradient.nonzero().tolist() == [[0, c, t, 1, 1] for c in (0, 1) for t in (1, 2, 3)]


def test_squeeze_excitation_gates_each_clip_by_its_own_mean():
    module = randomise(SqueezeExcitation(64))
    x = channels_last(2, 64, 3, 4, 4)
    gate = module(x) / x
    assert torch.allclose(gate, gate[:, :, :1, :1, :1].expand_as(gate), atol=1e-5)
    assert not torch.allclose(gate[0], gate[1])
