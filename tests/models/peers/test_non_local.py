import torch
from networks import shaken
from torch import nn

from ctnet.models.peers.non_local import NonLocalBlock, nl_i3d_r101


def test_non_local_block_is_a_weighted_sum_over_all_positions():
    block = shaken(NonLocalBlock(4))
    x = torch.randn(1, 4, 2, 4, 2)
    with torch.no_grad():
        theta, pooled = block.theta(x), nn.functional.max_pool3d(x, (1, 2, 2))
        phi, g = block.phi(pooled), block.g(pooled)
        mixed = torch.zeros(1, 2, 2, 4, 2)
        places = [(t, h) for t in range(2) for h in range(2)]  # the pooled map is 2 x 2 x 1
        for t, h, w in torch.cartesian_prod(*map(torch.arange, (2, 4, 2))).tolist():
            similar = torch.stack([theta[0, :, t, h, w] @ phi[0, :, a, b, 0] for a, b in places]).exp()
            for weight, (a, b) in zip(similar / similar.sum(), places, strict=True):
                mixed[0, :, t, h, w] += weight * g[0, :, a, b, 0]
        torch.testing.assert_close(block(x), x + block.norm(block.out(mixed)))


def test_non_local_block_starts_as_the_identity():
    x = torch.randn(2, 4, 3, 4, 4)
    torch.testing.assert_close(NonLocalBlock(4)(x), x)


def test_nl_i3d_has_five_non_local_blocks():
    with torch.device("meta"):
        backbone = nl_i3d_r101().backbone
    found = [sum(isinstance(module, NonLocalBlock) for module in stage.modules()) for stage in backbone]
    assert dict(zip(dict(backbone.named_children()), found, strict=True)) == {
        "conv1": 0, "bn1": 0, "relu": 0, "maxpool": 0, "layer1": 0, "layer2": 2, "layer3": 3, "layer4": 0
    }  # fmt: skip
