import copy
from functools import cache, partial

import av
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ctnet
from ctnet.analysis.overlay import Explanation, color_bar, explain, overlay, overlays, sampled_frames, save_explanations
from ctnet.data import read_frames, sample_sparse
from ctnet.micro import write_video
from ctnet.models import VideoModel

NAMES = ["Moving something up", "Moving something down", "Twisting something"]


@cache
def network():
    torch.manual_seed(0)
    model = ctnet.create_model("tsn_r50_twin", num_classes=3, num_frames=4).eval()
    model.classes = NAMES
    return model


def explanation(frames=4, height=32, width=48):
    tubes = torch.rand(frames, 32, 32)
    return Explanation("a network", "a class", 0.5, torch.randint(0, 256, (frames, 3, height, width)).byte(), tubes)


def test_colours_are_those_of_matplotlibs_map():
    bar = color_bar(2, 512).float()
    grey, density = 127 / 255, np.linspace(0.1, 0.85, 512)[:, None]
    inferno = matplotlib.colormaps["inferno"](np.linspace(0, 1, 512))[:, :3]
    expected = 255 * ((1 - density) * grey + density * inferno)
    assert (bar[0] - torch.from_numpy(expected)).abs().max() < 6
    lightness = (bar[0] * torch.tensor([0.299, 0.587, 0.114])).sum(1)
    assert lightness[256:].diff().min() > -1


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30), (40, 40), (720, 1280)])
def test_saliency_lies_on_the_central_square_that_the_network_saw(height, width):
    frames = torch.full((2, 3, height, width), 200, dtype=torch.uint8)
    tubes = torch.zeros(2, 64, 64)
    tubes[0, 28:36, 28:36] = 1
    tubes[1, :8, :8] = 1
    plain, drawn = overlay(frames, None, 160).float(), overlay(frames, tubes, 160).float()
    h, w = plain.shape[2:]
    assert 0.5 * 160**2 < h * w <= 1.02 * 160**2
    assert h / w == pytest.approx(height / width, rel=0.02)
    top, left, side = (h - min(h, w)) // 2, (w - min(h, w)) // 2, min(h, w)
    inside = torch.zeros(h, w, dtype=torch.bool)
    inside[top : top + side, left : left + side] = True
    assert (plain[..., inside] == 200).all()
    assert (plain[..., ~inside] == 70).all()
    assert torch.equal(plain[..., ~inside], drawn[..., ~inside])
    hot = drawn[:, 0] > 220
    assert not hot[..., ~inside].any()
    torch.testing.assert_close(hot[0].nonzero().float().mean(0), torch.tensor([h / 2, w / 2]), rtol=0, atol=1.0)
    assert hot[1][top, left]
    assert hot.sum((1, 2)).tolist() == pytest.approx([side**2 / 64] * 2, rel=0.15)


class Brightness(VideoModel):
    """Sees its only class where frames are bright."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 1)
        nn.init.ones_(self.head.weight)

    def forward_features(self, x):
        return nn.functional.avg_pool3d(x.mean(1, keepdim=True), (1, 4, 4))

    def forward_head(self, features):
        return self.head(features.mean((2, 3, 4)))


@pytest.mark.parametrize(("height", "width"), [(90, 161), (160, 90), (240, 320)])
def test_what_a_network_sees_is_drawn_where_it_is_in_the_video(height, width):
    frames = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    y, x = height // 2 + 20, width // 2 - 25
    frames[..., y - 6 : y + 6, x - 6 : x + 6] = 255
    drawn = overlay(frames, explain("b", Brightness(), frames, size=64).tubes, 100)[0, 0]
    place = (drawn > 200).nonzero().float().mean(0) + 0.5
    scale = drawn.shape[0] / height
    torch.testing.assert_close(place, scale * torch.tensor([y, x]), rtol=0, atol=2.0)


def test_small_frames_keep_their_pixels():
    frames = explanation(height=8, width=8).frames
    large = overlay(frames, None, 50)
    assert large.shape == (4, 3, 48, 48)
    assert torch.equal(large[:, :, 3::6, 3::6], frames)


def test_networks_with_more_and_fewer_frames_are_shown_at_the_same_moments():
    few, many = explanation(4), explanation(16)
    panels = overlays([few, many], 8, side=48)
    assert [caption for caption, _ in panels][1:] == ["a network: a class, 50 %"] * 2
    assert "bright square" in panels[0][0]
    torch.testing.assert_close(panels[0][1], overlay(few.frames[[0, 0, 1, 1, 2, 2, 3, 3]], None, 48))
    torch.testing.assert_close(panels[2][1], overlay(many.frames[1::2], many.tubes[1::2], 48))


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_of_each_kind(count, tmp_path):
    shown = [explanation()] * count
    for suffix in ("png", "gif", "mp4"):
        save_explanations(tmp_path / f"a.{suffix}", shown)
    with Image.open(tmp_path / "a.png") as strip:
        size, colors = strip.size, np.asarray(strip)
    assert size[0] > 8 * 96
    assert (colors[0] == 255).all()
    assert size[1] > (count + 1) * 64
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (4, 250, 0)
        first, width = np.asarray(film.convert("RGB")).astype(int), film.width
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == 4
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape == first.shape
    assert np.abs(first - frames[0]).mean() < 12
    assert width >= (count + 1) * 288


def place_of(picture, page):
    """Upper left corner of a picture (3, H, W) in a page (H, W, 3)."""
    pixels = picture.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    (found,) = (
        (int(y), int(x))
        for y, x in np.argwhere((page == pixels[0, 0]).all(-1))
        if page[y : y + height, x : x + width].shape == pixels.shape
        and (page[y : y + height, x : x + width] == pixels).all()
    )
    return found


def test_a_caption_stands_above_its_own_picture(tmp_path):
    names = ("one", "a network of a longer name")
    shown = [explanation(8)._replace(name=name) for name in names]
    save_explanations(tmp_path / "a.png", shown)
    with Image.open(tmp_path / "a.png") as strip:
        page = np.asarray(strip.convert("RGB"))
    widths, end = {}, 0
    for caption, pictures in overlays(shown, 8, side=160):
        y, x = place_of(pictures[0], page)
        ink = (page[end:y, x:] < 128).all(-1).any(0).nonzero()[0]
        widths[caption] = ink.max()
        end = y + pictures.shape[2]
    assert sorted(widths, key=widths.__getitem__) == sorted(widths, key=len)


def test_an_explanation_is_of_the_predicted_class_unless_another_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    write_video(tmp_path / "clip.mp4", rng.integers(0, 255, (10, 36, 64, 3), np.uint8))
    model, frames = network(), sampled_frames(tmp_path / "clip.mp4", partial(sample_sparse, length=4))
    assert torch.equal(frames, read_frames(tmp_path / "clip.mp4", [1, 3, 6, 8]))
    found = explain("tsn", model, frames, size=32)
    assert found.tubes.shape == (4, 32, 32)
    scores = {name: explain("tsn", model, frames, name, size=32).score for name in NAMES}
    assert sum(scores.values()) == pytest.approx(1)
    assert found.label == max(scores, key=scores.get)
    assert found.score == scores[found.label]
    other = explain("tsn", model, frames, min(scores, key=scores.get), size=32)
    assert not torch.allclose(other.tubes, found.tubes)


def test_a_network_without_names_numbers_its_classes(monkeypatch):
    monkeypatch.setattr(network(), "classes", None)
    for label in ("2", 2):
        assert explain("tsn", network(), explanation().frames, label, size=32).label == "2"


def test_an_explanation_leaves_a_network_in_training_as_it_was():
    model, frames = copy.deepcopy(network()).train(), explanation().frames
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (explain("tsn", model, frames, size=32).score for _ in range(2))
    assert first == second
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_unknown_class_suggests_the_nearest():
    with pytest.raises(ValueError, match="tsn knows no class 'Twist something'; did you mean 'Twisting something'"):
        explain("tsn", network(), explanation().frames, "Twist something", size=32)


@pytest.mark.parametrize(
    ("name", "message"), [("a.jpg", "must end in .png, .gif, .mp4"), ("file/a.png", "is no folder")]
)
def test_pictures_that_cannot_be_written_are_refused(name, message, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((ValueError, OSError), match=message):
        save_explanations(tmp_path / name, [explanation()])
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_grad_cam_is_a_method_too():
    frames = torch.randint(0, 256, (4, 3, 32, 32)).byte()
    tubes, cam = (explain("tsn", network(), frames, NAMES[0], 32, method).tubes for method in ("tubes", "grad_cam"))
    assert tubes.shape == cam.shape
    assert not torch.equal(tubes, cam)
    with pytest.raises(ValueError, match="no method 'gradcam' to find saliency; did you mean 'grad_cam'"):
        explain("tsn", network(), frames, NAMES[0], 32, "gradcam")


def test_folders_above_a_picture_are_made(tmp_path):
    save_explanations(tmp_path / "new" / "deeper" / "a.png", [explanation()])
    assert (tmp_path / "new" / "deeper" / "a.png").stat().st_size > 0
