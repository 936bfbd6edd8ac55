import torch
from torch import nn

from ctnet.models.peers.blvnet_tam import BigLittle, BLVNet


def test_blvnet_sends_the_second_frame_of_a_pair_through_the_big_branch():
    class Zero(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    x = torch.rand(2, 4, 6, 3, 3)
    for big, little, first in ((nn.Identity(), Zero(), 1), (Zero(), nn.Identity(), 0)):
        module = BigLittle(4, big, little, nn.Identity())
        module.tam = nn.Identity()
        torch.testing.assert_close(module(x), x[:, :, first::2].repeat_interleave(2, dim=2))


def test_blvnet_aggregates_what_its_last_stage_convolves_but_not_what_it_adds():
    _, block, _ = BLVNet(num_classes=5).eval().layer4
    x, aggregated = torch.randn(2, 2048, 3, 3), torch.randn(2, 2048, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(block(x, aggregated), (block.residual(aggregated) + x).relu())
        torch.testing.assert_close(block(x), (block.residual(x) + x).relu())


def test_blvnet_scores_pairs_and_completes_the_last_one():
    model, clip = BLVNet(num_classes=5).eval(), torch.randn(1, 3, 3, 64, 64)
    assert model.layer1.little[0].residual[0].out_channels * 2 == model.layer1.big[0].residual[0].out_channels == 64
    with torch.no_grad():
        features = model.forward_features(clip)
        assert features.shape == (1, 2048, 2, 2, 2)
        torch.testing.assert_close(model(clip), model(torch.cat((clip, clip[:, :, -1:]), 2)))
