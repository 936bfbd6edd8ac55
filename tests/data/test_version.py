"""The same file, recipe and seed give the same clips, or ctnet.data.VERSION says that they do not."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from versions import check, record_anew
from video_files import draw_frames, write_video

from ctnet.data import (
    VERSION,
    VideoDataset,
    eval_transform,
    left_right_swap,
    read_frames,
    sample_dense,
    sample_sparse,
    train_transform,
)

RECORD, NAME = Path(__file__).with_name("version.json"), "VERSION in ctnet/data/__init__.py"


class Drawn:
    """Two videos in memory, to be told apart by every pixel."""

    names, labels, class_names = ["a", "b"], [0, 1], ["left", "right"]

    def read(self, index: int, indices: Any, short_side: int | None = None) -> torch.Tensor:
        frames = draw_frames(30, 64 + 16 * index, 48)[indices(30)]
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


def grid(pixels: Any) -> list[float]:
    """Means of 3 x 4 fields of each frame and channel, as floats of a common scale."""
    pixels = torch.as_tensor(np.asarray(pixels)).float()
    means = torch.nn.functional.adaptive_avg_pool2d(pixels.flatten(0, -4), (3, 4)) / (255 if pixels.max() > 8 else 1)
    return [round(value, 4) for value in means.flatten().tolist()]


def probe() -> dict[str, Any]:
    """Indices of both samplers, clips for training and testing, and frames of files."""
    found: dict[str, Any] = {}
    for name, sampler in (("sparse", sample_sparse), ("dense", partial(sample_dense, window=32))):
        for count in (5, 40, 100):
            drawn = sampler(count, 8, 2, generator=np.random.default_rng([1, count]))
            found[f"{name} indices of {count} frames"] = [sampler(count, 8, clips=3).tolist(), drawn.tolist()]
    transforms = {
        "scales and flip": train_transform(16, 24, flip=True, swap={0: 1, 1: 0}),
        "short sides": train_transform(16, range(20, 30), None),
    }
    for name, transform in transforms.items():
        data = VideoDataset(Drawn(), partial(sample_sparse, length=2), transform, train=True, seed=3)
        clips = [(data.set_epoch(epoch), data[index])[1] for epoch in (0, 1) for index in (0, 1)]
        found[f"training clips, {name}"] = [value for clip, _ in clips for value in grid(clip)]
        found[f"training labels, {name}"] = [label for _, label in clips]
    views = VideoDataset(Drawn(), partial(sample_dense, length=2, clips=2, window=8), eval_transform(20, 24, crops=3))
    spellings = ["Turn left", "turn_right", "Clockwise", "anti-clockwise", "Up", "TurnsLeftwards"]
    found["pairs that a flip exchanges"] = [list(pair) for pair in sorted(left_right_swap(spellings).items())]
    found["testing views"] = grid(views[1][0])
    with TemporaryDirectory() as folder:
        encoders: dict[str, dict[str, str]] = {  # so that neither processor nor number of cores decides what they lose
            "libx264": {"qp": "0"},
            "libvpx-vp9": {"threads": "1"},
            "mpeg4": {"threads": "1"},
        }
        for name, (encoder, options) in zip(("a.mp4", "a.webm", "a.avi"), encoders.items(), strict=True):
            path = write_video(Path(folder, name), encoder, **options)
            found[f"frames of {name}"] = grid(read_frames(path, [0, 17, 39], short_side=24))
        Image.fromarray(draw_frames(1)[0]).save(Path(folder, "1.jpg"), subsampling=0, quality=95)
        (Path(folder) / "frames").mkdir()
        Path(folder, "1.jpg").rename(Path(folder, "frames", "1.jpg"))
        found["frames of pictures"] = grid(read_frames(Path(folder) / "frames", [0], short_side=24))
    return found


def test_the_same_file_recipe_and_seed_give_the_clips_of_this_version():
    check(RECORD, NAME, VERSION, probe())


if __name__ == "__main__":
    record_anew(RECORD, NAME, VERSION, probe())
