"""Operators that fvcore has no count for are counted as pencil and paper do, or named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ctnet
from ctnet.models import list_models

D, WIDE, LENGTH = 12, 20, 2 * 4 * 4  # features, features within a transformer layer, positions of a clip
EMBEDDING = LENGTH * 3 * D
PROJECTIONS, PAIRS = 4 * LENGTH * D * D, LENGTH * LENGTH * D  # of attention: four maps, and scores as well as their use
ENCODER = PROJECTIONS + 2 * PAIRS + 2 * LENGTH * D * WIDE + 2 * 5 * LENGTH * D  # fvcore's 5 for each normalised number


class Positions(nn.Module):
    """A function of (1, LENGTH, D) embedded positions, and the modules that it uses."""

    def __init__(self, function, *modules):
        super().__init__()
        self.embed, self.function, self.modules_used = nn.Linear(3, D), function, nn.ModuleList(modules)

    def forward(self, clips):
        return self.function(self.embed(clips.flatten(2).transpose(1, 2)), *self.modules_used)


def count(model):
    cost = ctnet.count_cost(model, size=4, frames=2)
    return round(cost.gmacs * 1e9) - EMBEDDING, cost.uncounted


def encoder(**options):
    return nn.TransformerEncoderLayer(D, 4, WIDE, **options)


def attention(**options):
    return lambda x, layer: layer(x, x, x, **options)[0]


def few_steps(x, layer):
    return layer(x[:, :4])[0]


def whole(x, layer):
    return layer(x)


COUNTED = {
    "encoder layer": (whole, encoder(batch_first=True), ENCODER),
    "encoder layer, norm first": (whole, encoder(batch_first=True, norm_first=True, activation="gelu"), ENCODER),
    "encoder": (whole, nn.TransformerEncoder(encoder(batch_first=True), 2), 2 * ENCODER),
    "attention with weights": (attention(), nn.MultiheadAttention(D, 4, batch_first=True), PROJECTIONS + 2 * PAIRS),
    "attention without": (
        attention(need_weights=False),
        nn.MultiheadAttention(D, 4, batch_first=True),
        PROJECTIONS + 2 * PAIRS,
    ),
    "LSTM": (few_steps, nn.LSTM(D, 5, batch_first=True), 4 * 4 * 5 * (D + 5)),
    "GRU": (few_steps, nn.GRU(D, 5, batch_first=True), 4 * 3 * 5 * (D + 5)),
}
FUNCTIONS = {
    "scaled dot product": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.5), 2 * PAIRS),
    "einsum": (lambda x: torch.einsum("...ld,...md->...lm", x, x), PAIRS),
    "baddbmm": (lambda x: torch.baddbmm(x[:, :1, :1], x, x.mT), PAIRS),
    "matmul that broadcasts": (lambda x: x[0] @ x.mT.expand(5, -1, -1), 5 * PAIRS),
    "matmul with a vector": (lambda x: x @ x[0, 0], LENGTH * D),
    "matmul of vectors": (lambda x: x[0, 0] @ x[0, 0], D),
    "tensordot": (lambda x: torch.tensordot(x, x, dims=([2], [2])), PAIRS),
    "pooling and sums": (lambda x: F.avg_pool1d(F.pad(x, (1, 1)), 3).softmax(-1).cumsum(1) * x.mean(), 0),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("function", "layer", "expected"), COUNTED.values(), ids=COUNTED)
def test_layers_by_hand(function, layer, expected, training):
    model = Positions(function, layer).train(training)
    assert count(model) == (expected, {})
    assert all(module.training is training for module in model.modules())


@pytest.mark.parametrize(("function", "expected"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_by_hand(function, expected):
    assert count(Positions(function)) == (expected, {})


class Own(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x @ x.mT


@torch.library.custom_op("ctnet_tests::pairs", mutates_args=())
def pairs(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT


def scripted(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT


def in_numpy(x):
    return torch.from_numpy(x.numpy() @ x.numpy()[0].T)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Own.apply, "PythonOp.Own"),
        (pairs, "pairs"),
        (torch.jit.script(scripted), "CallFunction"),
        (in_numpy, "untraced"),
        (lambda x: torch.fft.fft2(x).real, "_fft_c2c"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), "upsample_linear1d"),
    ],
    ids=["function with a gradient", "operator of one's own", "script", "NumPy", "Fourier", "interpolation"],
)
def test_what_is_not_counted_is_named(function, name):
    assert count(Positions(function))[1][name] == 1


@pytest.mark.parametrize("name", [name for name in list_models() if name.endswith("r50_twin")])
def test_nothing_of_the_networks_here_is_left_out(name):
    with torch.device("meta"):
        model = ctnet.create_model(name, num_classes=3)
    assert ctnet.count_cost(model, size=64).uncounted == {}


def test_the_fast_path_of_attention_stays_as_it_was():
    before = torch.backends.mha.get_fastpath_enabled()
    count(Positions(whole, encoder()))
    assert torch.backends.mha.get_fastpath_enabled() is before is True
