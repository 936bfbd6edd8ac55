import av
import pytest
from dataset_trees import MAKERS, SUFFIX
from video_files import write_video


@pytest.fixture(scope="session", autouse=True)
def quiet():
    av.logging.set_level(None)


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
