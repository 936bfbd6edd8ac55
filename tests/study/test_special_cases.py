import pytest
import torch

from study.special_cases import SPECIAL_CASES


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("special_case", "definition"), SPECIAL_CASES.values(), ids=SPECIAL_CASES.keys())
def test_special_case_equals_its_own_papers_definition(special_case, definition, training):
    ours, theirs = special_case(8, 12), definition(8, 12)
    ours_state, theirs_state = ours.state_dict(), theirs.state_dict()
    assert len(ours_state) == len(theirs_state)
    for mine, value in zip(ours_state.values(), theirs_state.values(), strict=True):
        if value.is_floating_point():
            mine.copy_(torch.rand(value.shape).reshape(mine.shape))
            value.copy_(mine.reshape(value.shape))
    x = torch.randn(2, 8, 4, 6, 5)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-5, atol=1e-5)
