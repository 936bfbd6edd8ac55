"""Small networks with set weights, for tests of models."""

import torch
from torch import nn

import ctnet

SMALLER = {"r50": "r26_twin", "r50_twin": "r26_twin", "r101": "r26_twin", "r101_twin": "r26_twin"}
SMALLER |= {"inceptionv3": "inceptionv3_twin"}
WHOLE = ("tsn_r50", "ctnet_r50", "ctnet_inceptionv3")


def of_own_blocks():
    """Names of networks without those whose blocks a smaller one has; networks of two methods remain at full size."""
    names = ctnet.list_models()

    def smaller(name):
        method, _, backbone = name.partition("_")
        return f"{method}_{SMALLER.get(backbone)}"

    return [name for name in names if name in WHOLE or smaller(name) not in names]


def tiny(name="ctnet_r50_twin", **options):
    torch.manual_seed(0)
    return ctnet.create_model(name, num_classes=5, **options).eval()


def twin(method, **options):
    torch.manual_seed(0)
    return ctnet.create_model(f"{method}_r50_twin", num_classes=5, **options).eval()


def randomise(module):
    """Give a module weights and statistics that hide nothing: no zeros, no identities."""
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + 0.3 * torch.rand_like(value))
    return module.eval()


@torch.no_grad()
def shaken(model):
    """The model in evaluation mode, with normalisations that hide no branch and no shift."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.weight.uniform_(0.5, 1)
            module.bias.normal_(std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()
