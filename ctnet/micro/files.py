"""Micro datasets as real video files, in the layouts that the official datasets come in."""

import csv
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ctnet.files import replacing
from ctnet.micro.datasets import MICRO_DATASETS, MicroClass, MicroDataset, MicroSplit
from ctnet.micro.drawing import Difficulty
from ctnet.processes import cores

RATE = 12  # frames per second
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {  # by the file's suffix: encoder, pixels, options
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "14", "b": "0", "deadline": "realtime", "cpu-used": "5"}),
    ".mp4": ("libx264", "yuv420p", {"crf": "14", "preset": "veryfast"}),
    ".avi": ("mpeg4", "yuv420p", {"qmin": "2", "qmax": "2"}),
    "": ("mjpeg", "yuvj420p", {"qmin": "2", "qmax": "2"}),
}


class Clip(NamedTuple):
    """One clip of a split: its number in the split's stream, and its number in the folder, from 1."""

    config: MicroSplit
    number: int
    ident: int


def write_video(path: Path, frames: NDArray[np.uint8], rate: int = RATE) -> None:
    """Encode frames (T, H, W, RGB) of even height and width as the file's suffix asks: .webm, .mp4, .avi.

    Without a suffix, `path` becomes a folder of pictures 00001.jpg, 00002.jpg, ...

    Raises:
        ValueError: for another suffix.
    """
    if path.suffix not in CODECS:
        raise ValueError(f"{path} cannot be written: videos end in {', '.join(filter(None, CODECS))}")
    codec, pixels, options = CODECS[path.suffix]
    file = path if path.suffix else path / "%05d.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())


def make(
    name: str,
    root: str | Path,
    layout: str,
    *,
    counts: dict[str, int] | None = None,
    size: int = 128,
    frames: int | None = None,
    difficulty: Difficulty | float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write a Micro dataset as video files.

    Clips are drawn at the size of the files, large enough for codecs to do them justice. A file shows the frames that
    the dataset in memory has with the same `size` and `seed`, up to the codec's loss.

    Args:
        name: a Micro dataset, such as "MicroSomething".
        root: folder to make; it appears when all is written, or not at all.
        layout: "somethingv1", "somethingv2", "kinetics" or "ucf101". The last is for sets with three folds, of
            which the others write the first.
        counts: number of clips by split, the dataset's own by default; in a set with folds "train" counts them all.
        size: height and width of the files, even.
        frames: length of the clips; 12 frames last a second.
        difficulty: a `Difficulty` or a level from 0 to 1; the dataset's own by default.
        seed: of everything random.
        progress: whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: for a name, layout or size that does not exist, or that do not go together.
        FileExistsError: if `root` exists and is not an empty folder.
    """
    root, counts = Path(root).expanduser(), counts or {}
    kind = _checked(name, root, layout, counts, size)
    define = partial(kind.split, frames=frames, size=size, difficulty=difficulty, seed=seed)
    idents, clips = itertools.count(1), {}
    for split in kind.counts:
        config = define(split, counts.get("train" if kind.folds > 1 else split))
        clips[split] = [Clip(config, number, next(idents)) for number in config.members]

    with replacing(root) as scratch:
        scratch.mkdir()
        files = LAYOUTS[layout](scratch, clips)
        with ThreadPoolExecutor(cores()) as pool:
            written = pool.map(lambda file: write_video(file[0], file[1].config.draw(file[1].number)[0]), files.items())
            for _ in tqdm(written, f"writing {name}", len(files), unit="clip", disable=not progress):
                pass
    return root


def _checked(name: str, root: Path, layout: str, counts: dict[str, int], size: int) -> type[MicroDataset]:
    """The dataset of this name, if it can be written so; raises as `make` says."""
    if name not in MICRO_DATASETS:
        raise ValueError(f"no Micro dataset {name!r}; there are {', '.join(MICRO_DATASETS)}")
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    kind = MICRO_DATASETS[name]
    if kind.frames == 1:
        raise ValueError(f"{name} holds pictures, not videos")
    if layout == "ucf101" and kind.folds == 1:
        raise ValueError(f"layout 'ucf101' wants a dataset with three folds, which {name} has not")
    for split in set(counts) - set(kind.counts):
        raise ValueError(f"{name} has no split {split!r} to count; it has {', '.join(kind.counts)}")
    if kind.folds > 1 and set(counts) - {"train"}:
        raise ValueError(f"{name} has folds, which share its clips out: count them all as 'train'")
    if size % 2:
        raise ValueError(f"video codecs want an even size, not {size}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} exists and is not empty; choose another folder")
    return kind


def _class(clip: Clip) -> MicroClass:
    return MICRO_DATASETS[clip.config.name].classes[clip.config.label(clip.number)]


def _things(clip: Clip) -> list[str]:
    """What stands in the place of each [something] in the clip's template."""
    actors = [f"a {sprite.appearance}" for sprite in clip.config.scene(clip.number).sprites if sprite.acting]
    return actors[: _class(clip).template.count("[something]")]


def _something_v2(root: Path, clips: dict[str, list[Clip]]) -> dict[Path, Clip]:
    prefix = "something-something-v2"
    kind = MICRO_DATASETS[clips["train"][0].config.name]

    def entry(clip: Clip) -> dict[str, Any]:
        template, things = _class(clip).template, _things(clip)
        return {
            "id": str(clip.ident),
            "label": template.replace("[something]", "{}").format(*things).lower(),
            "template": template,
            "placeholders": things,
        }

    tables: dict[str, Any] = {"labels": {item.name: str(label) for label, item in enumerate(kind.classes)}}
    tables |= {"train": [entry(clip) for clip in clips["train"]], "validation": [entry(clip) for clip in clips["val"]]}
    tables["test"] = [{"id": str(clip.ident)} for clip in clips.get("test", [])]
    for table, rows in tables.items():
        (root / f"{prefix}-{table}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return {root / f"20bn-{prefix}" / f"{clip.ident}.webm": clip for split in clips.values() for clip in split}


def _something_v1(root: Path, clips: dict[str, list[Clip]]) -> dict[Path, Clip]:
    prefix = "something-something-v1"
    kind = MICRO_DATASETS[clips["train"][0].config.name]
    tables = {"labels": [item.name for item in kind.classes]}
    tables |= {
        table: [f"{clip.ident};{_class(clip).name}" for clip in clips[split]]
        for table, split in (("train", "train"), ("validation", "val"))
    }
    tables["test"] = [str(clip.ident) for clip in clips.get("test", [])]
    for table, rows in tables.items():
        (root / f"{prefix}-{table}.csv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return {root / f"20bn-{prefix}" / str(clip.ident): clip for split in clips.values() for clip in split}


def _kinetics(root: Path, clips: dict[str, list[Clip]]) -> dict[Path, Clip]:
    files = {}
    for split, members in clips.items():
        rows = []
        for clip in members:
            name, stop = f"micro{clip.ident:06d}", -(-clip.config.frames // RATE)
            rows.append((_class(clip).name, name, 0, stop, {"val": "validate"}.get(split, split)))
            files[root / split / f"{name}_{0:06d}_{stop:06d}.mp4"] = clip
        with (root / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            writer.writerows(rows)
    return files


def _ucf101(root: Path, clips: dict[str, list[Clip]]) -> dict[Path, Clip]:
    pool = sorted(clips["train"] + clips["val"], key=lambda clip: clip.number)
    kind, lists = MICRO_DATASETS[pool[0].config.name], root / "ucfTrainTestlist"
    names = [item.name.title().replace(" ", "") for item in kind.classes]
    lists.mkdir()
    index = "".join(f"{label} {name}\n" for label, name in enumerate(names, start=1))
    (lists / "classInd.txt").write_text(index, encoding="utf-8")
    files: dict[str, Clip] = {}
    for clip in pool:
        name, (group, take) = names[clip.config.label(clip.number)], clip.config.group(clip.number)
        files[f"{name}/v_{name}_g{group + 1:02d}_c{take + 1:02d}.avi"] = clip
    for fold in range(1, kind.folds + 1):
        tests = {file: clip.config.test_fold(clip.number) == fold for file, clip in files.items()}
        train = [f"{file} {clip.config.label(clip.number) + 1}\n" for file, clip in files.items() if not tests[file]]
        (lists / f"trainlist{fold:02d}.txt").write_text("".join(train), encoding="utf-8")
        test = [f"{file}\n" for file in files if tests[file]]
        (lists / f"testlist{fold:02d}.txt").write_text("".join(test), encoding="utf-8")
    return {root / "UCF-101" / file: clip for file, clip in files.items()}


LAYOUTS: dict[str, Callable[[Path, dict[str, list[Clip]]], dict[Path, Clip]]] = {
    "somethingv1": _something_v1,
    "somethingv2": _something_v2,
    "kinetics": _kinetics,
    "ucf101": _ucf101,
}
