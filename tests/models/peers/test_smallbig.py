import pytest
import torch
from networks import randomise, twin
from torch import nn

from ctnet.models.peers.smallbig import ClipMaxPool


@pytest.mark.parametrize("frames", [1, 4])
def test_smallbig_pools_like_one_three_dimensional_pool(frames):
    x = torch.randn(2, 8, frames, 5, 6)
    torch.testing.assert_close(ClipMaxPool()(x), nn.functional.max_pool3d(x, 3, stride=1, padding=1))
    torch.testing.assert_close(
        ClipMaxPool(all_frames=True)(x), nn.functional.max_pool3d(x, (frames, 3, 3), stride=1, padding=(0, 1, 1))
    )


def test_smallbig_sees_both_views_through_one_weight():
    tsn, model = twin("tsn"), twin("smallbig")
    extra = {key for key, _ in model.named_parameters()} - {key for key, _ in tsn.named_parameters()}
    assert extra
    assert all(".bn." in key for key in extra)

    block = randomise(model.backbone.layer2[1])
    x = torch.rand(2, 128, 3, 6, 6)

    def unit(x, conv, bn, big, kernel, padding):
        def each(layer, clips):
            return torch.stack([layer(clips[:, :, t]) for t in range(clips.shape[2])], 2)

        pooled = nn.functional.max_pool3d(x, kernel, stride=1, padding=padding)
        return each(bn, each(conv, x)) + each(big.bn, each(conv, pooled))

    y = unit(x, block.conv1, block.bn1, block.big1, 3, 1).relu()
    y = unit(y, block.conv2, block.bn2, block.big2, 3, 1).relu()
    y = unit(y, block.conv3, block.bn3, block.big3, (3, 3, 3), (0, 1, 1))
    expected = (y + x).relu().transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(block(x.transpose(1, 2).flatten(0, 1), 3), expected, rtol=1e-4, atol=1e-4)
