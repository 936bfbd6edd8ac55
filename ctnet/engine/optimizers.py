"""What turns gradients into steps: SGD as the paper trains, or Muon, which takes small networks off chance sooner."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.engine.recipe import Recipe
from ctnet.models import VideoModel

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of the quintic iteration: they bring singular values near 1 in five rounds (Jordan et al., 2024)."""


def build_optimizer(model: VideoModel, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over a model's parameters, in groups that tell how their rate follows the recipe's.

    A group's rate is the recipe's times its "lr_scale". There is no weight decay on biases and batch normalisation.
    With "sgd", `head_lr` is the head's. With "muon", kernels of convolutions take orthogonal steps, and all else takes
    AdamW's at `rest_lr` (the head at `rest_lr` times `head_lr`).
    """
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        kernel = recipe.optimizer == "muon" and parameter.dim() > 2
        groups.setdefault((name.startswith("head."), parameter.dim() > 1, kernel), []).append(parameter)
    found: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr_scale": (recipe.head_lr if head else 1.0)
            * (recipe.rest_lr if recipe.optimizer == "muon" and not kernel else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "orthogonal": kernel,
        }
        for (head, decays, kernel), parameters in groups.items()
    ]
    if recipe.optimizer == "muon":
        return Muon(found, lr=recipe.peak_lr, momentum=recipe.momentum)
    return torch.optim.SGD(found, lr=recipe.peak_lr, momentum=recipe.momentum)


class Muon(torch.optim.Optimizer):
    """Muon on kernels, AdamW on everything else (Jordan et al., 2024), in one optimizer.

    A kernel (out, in, ...) is a matrix of `out` rows. Its momentum is brought near the closest matrix with orthogonal
    rows or columns, so that every direction of the kernel moves alike; taller matrices take longer steps, by
    sqrt(rows / columns). `torch.optim.Muon` takes matrices only, and rounds to bf16 on the way, which differs between
    machines; this one computes in the parameters' own precision.

    Args:
        groups: of parameters; those with "orthogonal" true are kernels.
        lr: learning rate; AdamW's is a group's own.
        momentum: of kernels, Nesterov's.
        betas, eps: of AdamW.
        rounds: of Newton and Schulz's iteration.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        rounds: int = 5,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "rounds": rounds})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move = self._orthogonal if group["orthogonal"] else self._adam
                    parameter.add_(move(parameter, parameter.grad, group), alpha=-group["lr"])

    def _orthogonal(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        return scale * orthogonalise(update, group["rounds"]).view(parameter.shape)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (first, second) = self.state[parameter], group["betas"]
        if "steps" not in state:
            state["steps"] = torch.zeros((), device=parameter.device)
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        return mean / ((state["square"] / (1 - second ** state["steps"])).sqrt() + group["eps"])


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """A matrix (rows, columns) with its singular vectors, and singular values near 1 (Newton and Schulz)."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
