import pytest

import ctnet


def test_published_gflops_of_the_smallest_slowfast():
    cost = ctnet.count_cost(ctnet.create_model("slowfast_r50_4x16", num_classes=400), size=256, frames=32)
    assert cost.conv_linear_gmacs == pytest.approx(36.1, abs=0.05)
    assert list(cost.by_stage) == ["stem", "res2", "res3", "res4", "res5"]
