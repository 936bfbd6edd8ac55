import base64
import io
import re

import numpy as np
from PIL import Image

from ctnet.data import sample_dense, sample_sparse
from study.chapters.clips import animation, plot_frames, plot_sampling

CLIP = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)


def test_a_contact_sheet_shows_every_frame_once_in_its_row():
    figure = plot_frames({"forwards": CLIP, "backwards": CLIP[::-1], "short": CLIP[:2]})
    axes = np.array(figure.axes).reshape(3, 6)
    shown = [[np.asarray(ax.images[0].get_array()) for ax in row if ax.images] for row in axes]
    assert [len(row) for row in shown] == [6, 6, 2]
    assert all(np.array_equal(a, b) for a, b in zip(shown[0], shown[1][::-1], strict=True))
    assert [row[0].texts[0].get_text() for row in axes] == ["forwards", "backwards", "short"]


def test_labels_of_a_contact_sheet_stay_on_the_page():
    figure = plot_frames({"a rather long label of a row": CLIP})
    figure.canvas.draw()
    label = figure.axes[0].texts[0].get_window_extent()
    assert label.x0 >= 0
    assert label.x1 <= figure.axes[0].get_window_extent().x0 + 1


def test_sampling_has_a_line_for_each_clip_and_a_dot_for_each_frame():
    dense = sample_dense(150, 8, clips=4)
    (axes,) = plot_sampling(150, {"sparse": sample_sparse(150, 8), "dense": dense}).axes
    dots = [points.get_offsets() for points in axes.collections]
    assert len(dots) == 5
    assert dots[2][:, 0].tolist() == dense[1].tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sparse", "dense", "", "", ""]


def test_an_animation_holds_all_frames_and_a_description():
    html = animation(CLIP, "A clip.").data
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])))
    assert picture.n_frames == 6
    assert picture.info["duration"] == 80
    assert 'alt="A clip."' in html
