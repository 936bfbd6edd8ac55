import copy

import pytest
import torch
from torch import nn

from ctnet import create_model
from ctnet.engine import get_recipe, train
from ctnet.engine.optimizers import Muon, build_optimizer, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (4, 90), (90, 4)])
def test_orthogonalising_keeps_the_directions_and_evens_their_lengths(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalise(matrix) @ right.T
    assert torch.allclose(found, torch.diag(found.diagonal()), atol=1e-4), "the singular vectors are the same"
    assert ((found.diagonal() > 0.6) & (found.diagonal() < 1.3)).all()


def test_a_kernel_moves_alike_in_all_its_directions():
    kernel = nn.Parameter(torch.zeros(16, 4, 3, 3))
    optimizer = Muon([{"params": [kernel], "orthogonal": True, "weight_decay": 0.0}], lr=0.1)
    torch.manual_seed(0)
    kernel.grad = torch.randn(16, 4, 3, 3) * torch.logspace(0, -2, 16)[:, None, None, None]
    optimizer.step()
    lengths = torch.linalg.svdvals(kernel.detach().flatten(1)) / 0.1
    assert lengths.max() < 1.3
    assert lengths.median() > 0.6


def test_kernels_that_move_together_move_as_each_alone():
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (8, 36, 1, 1), (2, 3, 3, 1), (36, 8, 1, 1)]
    together, alone = [[nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2)]
    groups = [{"params": together, "orthogonal": True, "weight_decay": 0.1}]
    optimizers = [Muon(groups, lr=0.1)]
    optimizers += [Muon([{"params": [kernel], "orthogonal": True, "weight_decay": 0.1}], lr=0.1) for kernel in alone]
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_adamw_takes_the_rates_and_the_decay_of_the_recipe():
    recipe = get_recipe("somethingv1").override({"optimizer": "adamw", "lr": 1e-3})
    optimizer = build_optimizer(create_model("tsn_r26_twin", num_classes=3), recipe)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["lr"] == 1e-3
    found = {(group["lr_scale"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {(1.0, 5e-4), (1.0, 0.0), (5.0, 5e-4), (5.0, 0.0)}


def test_what_is_no_kernel_moves_as_with_adamw():
    torch.manual_seed(0)
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": list(ours.parameters()), "orthogonal": False, "weight_decay": 0.05}]
    pairs = ((ours, Muon(groups, lr=0.01)), (theirs, torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.05)))
    for _ in range(4):
        x = torch.randn(7, 5)
        for module, optimizer in pairs:
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_rates_and_decay_follow_the_recipe(tiny):
    model = create_model("ctnet_r50_twin", num_classes=3)
    recipe = tiny.override({"optimizer": "muon", "rest_lr": 0.3, "head_lr": 2.0, "weight_decay": 0.1})
    group_of = {id(p): group for group in build_optimizer(model, recipe).param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["orthogonal"] == (parameter.dim() > 2)
        scale = 1.0 if parameter.dim() > 2 else 0.6 if name.startswith("head.") else 0.3
        assert group["lr_scale"] == pytest.approx(scale)
        assert group["weight_decay"] == (0.1 if parameter.dim() > 1 else 0.0)


class Killed(BaseException):
    """As sudden as a signal."""


def test_a_run_that_is_cut_off_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch):
    recipe = tiny.override({"optimizer": "muon", "momentum": 0.95, "save_every": 1, "workers": 0})
    whole = train(recipe, tmp_path / "whole", progress=False)
    step, done = Muon.step, []

    def killed(self, closure=None):
        step(self, closure)
        done.append(copy.deepcopy(self.state_dict()["param_groups"][0]["lr"]))
        if len(done) == 3:
            raise Killed

    monkeypatch.setattr(Muon, "step", killed)
    with pytest.raises(Killed):
        train(recipe, tmp_path / "cut", progress=False)
    monkeypatch.undo()
    again = train(recipe, tmp_path / "cut", progress=False)
    assert torch.equal(torch.from_numpy(again.probabilities), torch.from_numpy(whole.probabilities))
