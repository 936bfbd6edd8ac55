import av
import pytest
import torch
from dataset_trees import MAKERS, SUFFIX
from video_files import write_video


@pytest.fixture(scope="session", autouse=True)
def quiet_and_single_threaded():
    av.logging.set_level(None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_tree(tmp_path_factory):
    """A function from a dataset's name to a fresh copy of its directory."""
    folder = tmp_path_factory.mktemp("sources")
    encoders = {".mp4": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4"}
    sources = {suffix: write_video(folder / f"a{suffix}", encoder) for suffix, encoder in encoders.items()}

    def make(dataset, root):
        MAKERS[dataset](root, sources[SUFFIX.get(dataset, ".mp4")])
        return root

    return make
