"""How a network is trained, setting by setting: in the paper, in the authors' scripts, and here."""

import torch

from ctnet.engine import Batches, Place, Recipe
from ctnet.engine.training import build_model, build_optimizer


def settings(recipe: Recipe) -> dict[str, str]:
    """What a run by a recipe does, read off the recipe and off what the engine makes of it.

    The optimizer and the initial head are those of the recipe's twin.
    """
    twin = recipe.override({"model": "ctnet_r50_twin", "init": "none", "options": {}})
    model = build_model(twin, [str(label) for label in range(174)])
    group_of = {id(part): group for group in build_optimizer(model, twin).param_groups for part in group["params"]}
    groups = {name: group_of[id(part)] for name, part in model.named_parameters()}
    rates = {name: f"×{group['lr_scale']:g}" for name, group in groups.items()}
    biases = {rate for name, rate in rates.items() if name.endswith("bias") and name != "head.bias"}
    undecayed = {
        "biases" if name.endswith("bias") else "batch normalisation"
        for name, group in groups.items()
        if group["weight_decay"] == 0
    }
    middle = recipe.epochs // 2
    moving = recipe.lr_at(middle) != recipe.lr_at(middle + 0.5)
    batches = Batches(2 * recipe.batch_size - 1, recipe.batch_size, recipe.seed, Place(torch.device("cpu")))
    return {
        "epochs": f"{recipe.epochs}",
        "of them, warm-up": f"{recipe.warmup_epochs:g}",
        "learning rate": f"{recipe.peak_lr:g}",
        "clips of a step": f"{recipe.batch_size}",
        "momentum": f"{recipe.momentum:g}",
        "weight decay": f"{recipe.weight_decay:g}",
        "dropout": f"{recipe.dropout:g}",
        "sampling": recipe.sampling,
        "pixels": f"{recipe.size} × {recipe.size}",
        "the rate moves": "at every step" if moving else "once per epoch",
        "no weight decay on": ", ".join(sorted(undecayed)),
        "rate of the head": f"{rates['head.weight']}, bias {rates['head.bias']}",
        "rate of other biases": ", ".join(sorted(biases)),
        "initial head, standard deviation": f"{float(model.head.weight.detach().std()):.1g}",
        "largest norm of the gradient": "any" if recipe.clip_grad is None else f"{recipe.clip_grad:g}",
        "frozen batch normalisation": recipe.freeze_bn,
        "an incomplete last batch": "dropped" if batches.steps == 1 else "used",
        "flip": "yes" if recipe.flip else "no",
    }
