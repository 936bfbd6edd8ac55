import av
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def quiet_and_single_threaded():
    av.logging.set_level(None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
