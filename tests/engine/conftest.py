import pytest
import torch

from ctnet.engine import get_recipe


@pytest.fixture(scope="session", autouse=True)
def single_threaded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A recipe of a few seconds: 4 steps an epoch, on clips of 16 x 16 cropped at random from 32 x 32."""
    return get_recipe("micro-something").override(
        {
            "root": str(tmp_path_factory.mktemp("micro")),
            "frames": 2,
            "model": "tsn_r50_twin",
            "train_clips": 34,
            "val_clips": 25,
            "size": 16,
            "batch_size": 8,
            "epochs": 2,
            "warmup_epochs": 0.5,
            "lr": 0.05,
            "dropout": 0.2,
            "precision": "fp32",
        }
    )
