"""An uninterrupted run, trained once for all tests of the engine."""

import pytest

from ctnet.engine import train


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    train(tiny, out, progress=False)
    return out
