import pytest
import torch

from ctnet.models.peers.corrnet import Correlation, corrnet


def test_correlation_matches_a_frame_with_the_one_before():
    correlation = Correlation(4, num_frames=3, kernel=3, dilation=2, group=2)
    x = torch.randn(1, 4, 3, 5, 6)
    with torch.no_grad():
        matches = correlation(x).unflatten(1, (3, 3, 2))  # (N, K, K, C / group, T, H, W)
        for i, j, g, t, h, w in torch.cartesian_prod(*map(torch.arange, (3, 3, 2, 3, 5, 6))).tolist():
            a, b = h + 2 * (i - 1), w + 2 * (j - 1)
            inside = 0 <= a < 5 and 0 <= b < 6
            channels = slice(2 * g, 2 * g + 2)
            other = x[0, channels, max(t - 1, 0), a, b] if inside else torch.zeros(2)
            expected = (correlation.weight[channels, t, i, j] * x[0, channels, t, h, w] * other).mean()
            torch.testing.assert_close(matches[0, i, j, g, t, h, w], expected)


@pytest.mark.parametrize(("depth", "numbers"), [(50, [1, 1, 1]), (101, [1, 1, 2])])
def test_corrnet_correlates_after_stages_and_amid_a_long_one(depth, numbers):
    with torch.device("meta"):
        stages = corrnet(depth, num_frames=4).backbone
    found = [
        sum(isinstance(m, Correlation) for m in stages.get_submodule(s).modules()) for s in ("res2", "res3", "res4")
    ]
    assert found == numbers
