import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ctnet.data import sample_dense, sample_sparse
from study.chapters.clips import gallery, plot_sampling, strips


def pictures(html):
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"image/webp;base64,([^\"]+)", html)]


@pytest.mark.parametrize("show", [lambda rows: strips(rows, "Below.", "Clips"), lambda rows: gallery(rows, "Clips")])
def test_every_frame_is_shown_once_in_the_strip_of_its_label(show):
    smooth = np.stack([np.full((16, 16, 3), 40 * t, np.uint8) for t in range(6)])
    html = show({"forwards": smooth, "back & forth": smooth[::-1]}).data
    found = [np.asarray(picture.convert("RGB")).astype(int) for picture in pictures(html)]
    assert [picture.shape for picture in found] == [(16, 96, 3)] * 2
    for picture, frames in zip(found, (smooth, smooth[::-1]), strict=True):
        assert np.abs(picture[8, 8::16, 0] - frames[:, 8, 8, 0]).max() < 12
    assert 'alt="Clips: back &amp; forth"' in html
    assert "<span>back &amp; forth</span>" in html


def test_sampling_has_a_line_for_each_clip_and_a_dot_for_each_frame():
    dense = sample_dense(150, 8, clips=4)
    (axes,) = plot_sampling(150, {"sparse": sample_sparse(150, 8), "dense": dense}).axes
    dots = [points.get_offsets() for points in axes.collections]
    assert len(dots) == 5
    assert dots[2][:, 0].tolist() == dense[1].tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sparse", "dense", "", "", ""]
