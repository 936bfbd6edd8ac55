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
    With "sgd" and "adamw", `head_lr` is the head's. With "muon", kernels of convolutions take orthogonal steps, and all
    else takes AdamW's at `rest_lr` (the head at `rest_lr` times `head_lr`).
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
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(found, lr=recipe.peak_lr)
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
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
                moves = self._orthogonal(moved, group) if group["orthogonal"] else self._adam(moved, group)
                torch._foreach_add_(moved, moves, alpha=-group["lr"])

    def _orthogonal(self, kernels: list[nn.Parameter], group: dict[str, Any]) -> list[Tensor]:
        gradients, momenta = _gradients(kernels), self._states(kernels, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        alike: dict[tuple[int, int], list[int]] = {}  # kernels of one shape are made orthogonal together
        for number, update in enumerate(updates):
            alike.setdefault((update.shape[0], update[0].numel()), []).append(number)
        for (rows, columns), numbers in alike.items():
            scale = max(1.0, rows / columns) ** 0.5
            together = torch.stack([updates[number].flatten(1) for number in numbers])
            for number, move in zip(numbers, scale * orthogonalise(together, group["rounds"]), strict=True):
                updates[number] = move.view(kernels[number].shape)
        return updates

    def _adam(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> list[Tensor]:
        gradients, (first, second) = _gradients(parameters), group["betas"]
        steps = self._states(parameters, "step", lambda parameter: torch.zeros(()))  # stays on the CPU: no GPU waits
        means, squares = self._states(parameters, "mean"), self._states(parameters, "square")
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
        done = [float(count) for count in steps]
        sizes = torch._foreach_sqrt(torch._foreach_div(squares, [1 - second**count for count in done]))
        torch._foreach_add_(sizes, group["eps"])
        return list(torch._foreach_div(torch._foreach_div(means, [1 - first**count for count in done]), sizes))

    def _states(
        self,
        parameters: list[nn.Parameter],
        name: str,
        make: Callable[[Tensor], Tensor] = torch.zeros_like,
    ) -> list[Tensor]:
        """What is kept of each parameter under a name."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = make(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Matrices (..., rows, columns) with their singular vectors, and singular values near 1 (Newton and Schulz)."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
