"""The video datasets of the paper, from their official directories and annotation files, and videos of one's own.

Annotation files lie in the root or in its folder `annotations`; a star stands for labels, train and validation.
`folders` is for any other dataset: it has none, and tells classes by the names of directories. A video is a file, or a
folder of pictures.

| dataset         | annotations                                       | videos                                       |
|-----------------|---------------------------------------------------|----------------------------------------------|
| `kinetics`      | `train.csv`, `val.csv` or `validate.csv`          | `<id>_<start>_<end>.mp4` in `train`, `val`,  |
|                 |                                                   | at any depth, or else in the root            |
| `mini-kinetics` | also `train_ytid_list.txt`, `val_ytid_list.txt`   | as for Kinetics                              |
| `somethingv1`   | `something-something-v1-*.csv`                    | `20bn-something-something-v1/<id>/`          |
| `somethingv2`   | `something-something-v2-*.json`, `labels/*.json`  | `20bn-something-something-v2/<id>.webm`      |
| `ucf101`        | `ucfTrainTestlist/`                               | `UCF-101/<class>/`                           |
| `hmdb51`        | `testTrainMulti_7030_splits/`                     | `hmdb51_org/<class>/`                        |
| `folders`       | none                                              | `train/<class>/` and `val/<class>/`          |
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from torch import Tensor

from ctnet.data.video import Indices, read_frames

Split = Literal["train", "val"]
Entries = Iterator[tuple[str, str]]  # (path under the root, class)


@dataclass(frozen=True)
class VideoList:
    """The videos of one split.

    Attributes:
        dataset: name of the dataset.
        root: its directory.
        classes: names of the classes; a label is an index into it.
        paths: video files, or folders of frames.
        labels: label of each path.
        left_out: "path: reason" for each annotation that was skipped.
    """

    dataset: str
    root: Path
    classes: list[str]
    paths: list[Path]
    labels: list[int]
    left_out: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by label."""
        return self.classes

    @property
    def names(self) -> list[str]:
        """Paths under the root, with forward slashes."""
        return [path.relative_to(self.root).as_posix() for path in self.paths]

    def read(self, index: int, indices: Indices, short_side: int | None = None) -> Tensor:
        """Frames of a video, as from `read_frames`."""
        return read_frames(self.paths[index], indices, short_side)


def load_videos(
    root: str | os.PathLike[str],
    split: Split,
    dataset: str | None = None,
    fold: int = 1,
    missing: Literal["error", "skip"] = "error",
) -> VideoList:
    """List the videos and labels of a split.

    Classes are in alphabetical order for Something-Something V1 (as in the authors' code) and for datasets without a
    class file; in the others, in the order of that file. Those of `folders` are the directories in `train`.

    Args:
        root: directory of the dataset, laid out as the module's table shows.
        split: "train", or "val" for the one that accuracy is reported on (the test lists of UCF101 and HMDB51).
        dataset: a name from `DATASETS`; told from the annotation files if not given.
        fold: 1, 2 or 3, of UCF101 and HMDB51.
        missing: what to do with an annotation that names a missing file, an unknown class or a path outside the
            root: raise an "error", or "skip" it and list it in `left_out`.

    Raises:
        FileNotFoundError: an annotation file is missing, or a video and `missing` is "error".
        ValueError: an annotation cannot be read, or names an unknown class or a path outside the root.
    """
    root = Path(root)
    dataset = dataset or detect_dataset(root)
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; known are {', '.join(DATASETS)}")
    if split not in ("train", "val"):
        raise ValueError(f"split must be 'train' or 'val', not {split!r}")
    if missing not in ("error", "skip"):
        raise ValueError(f"missing must be 'error' or 'skip', not {missing!r}")
    if fold not in folds_of(dataset):
        raise ValueError(f"{dataset} has no fold {fold}")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such directory")
    classes, entries = _LAYOUTS[dataset][1](root, split, fold)
    label_of = {name: label for label, name in enumerate(classes)}
    videos = VideoList(dataset, root, classes, [], [], [])
    for relative, name in entries:
        path = root / relative
        problem: Exception
        if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
            problem = ValueError(f"{relative}: outside {root}")
        elif name not in label_of:
            problem = ValueError(f"{relative}: unknown class {name!r}")
        elif not path.exists():
            problem = FileNotFoundError(f"{path}: no such video; missing='skip' leaves out such videos")
        else:
            videos.paths.append(path)
            videos.labels.append(label_of[name])
            continue
        if missing == "error":
            raise problem
        videos.left_out.append(str(problem).split(";")[0])
    if not (videos.paths or videos.left_out):
        raise ValueError(f"{root}: the annotations of {dataset} name no videos of split {split!r}")
    return videos


def detect_dataset(root: str | os.PathLike[str]) -> str:
    """Tell which dataset a directory holds, by its annotation files, or else by its folders.

    Raises:
        FileNotFoundError: when it holds neither.
    """
    for dataset, (markers, _) in _LAYOUTS.items():
        if any(any(_annotations(Path(root)).glob(marker)) for marker in markers):
            return dataset
    known = ", ".join(marker for markers, _ in _LAYOUTS.values() for marker in markers)
    raise FileNotFoundError(f"{root}: holds no known annotation files and no folders of classes; looked for {known}")


def folds_of(dataset: str) -> range:
    """Numbers of the official folds."""
    return range(1, 4 if dataset in ("ucf101", "hmdb51") else 2)


def _annotations(root: Path) -> Path:
    return root / "annotations" if (root / "annotations").is_dir() else root


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    files = {name: _annotations(root) / f"{name}.csv" for name in ("train", "val", "validate")}
    path = files["validate"] if split == "val" and files["validate"].is_file() else files[split]
    try:
        columns = ["label", "youtube_id", "time_start", "time_end"]
        table = pd.read_csv(io.StringIO(_text(path)), dtype=str, keep_default_na=False)[columns]
        classes = sorted(
            set(pd.read_csv(io.StringIO(_text(files["train"])), dtype=str, keep_default_na=False)["label"])
        )
        rows = [(label, f"{video}_{int(start):06}_{int(end):06}") for label, video, start, end in table.to_numpy()]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not the annotations of Kinetics ({error})") from error
    folder = split if (root / split).is_dir() else "."
    found = {file.stem: file.relative_to(root).as_posix() for file in (root / folder).rglob("*.*")}
    return classes, ((found.get(stem, f"{folder}/{stem}.mp4"), label) for label, stem in rows)


def _mini_kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def listed(part: Split) -> list[tuple[str, str]]:
        """The rows of Kinetics whose id is in the list; an id that Kinetics has not is an entry without a class."""
        ids = dict.fromkeys(_lines(_annotations(root) / f"{part}_ytid_list.txt"))
        rows = [(file, label, Path(file).stem[:-14]) for file, label in _kinetics(root, part, fold)[1]]
        unknown = ids.keys() - {video for *_, video in rows}
        return [(file, label) for file, label, video in rows if video in ids] + [
            (video, "") for video in sorted(unknown)
        ]

    classes = sorted({label for _, label in listed("train") if label})
    return classes, iter(listed(split))


def _something_v1(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    path = _annotations(root) / f"something-something-v1-{'train' if split == 'train' else 'validation'}.csv"
    rows = [line.partition(";") for line in _lines(path)]
    for number, (video, separator, _) in enumerate(rows, 1):
        if not (video and separator):
            raise ValueError(f"{path}: line {number} is not 'id;label'")
    classes = sorted(_lines(path.with_name("something-something-v1-labels.csv")))
    return classes, ((f"20bn-something-something-v1/{video}", label) for video, _, label in rows)


def _something_v2(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def listed(part: str) -> Path:
        unpacked = _annotations(root) / "labels" / f"{part}.json"  # as the archive of the labels has it
        return unpacked if unpacked.is_file() else _annotations(root) / f"something-something-v2-{part}.json"

    path = listed("train" if split == "train" else "validation")
    try:
        number_of = json.loads(_text(listed("labels")))
        classes = [name for name, _ in sorted(number_of.items(), key=lambda item: int(item[1]))]
        rows = [(str(row["id"]), re.sub(r"[\[\]]", "", row["template"])) for row in json.loads(_text(path))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the annotations of Something-Something V2 ({error!r})") from error
    return classes, ((f"20bn-something-something-v2/{video}.webm", label) for video, label in rows)


def _ucf101(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    folder = _annotations(root) / "ucfTrainTestlist"
    classes = [line.split()[-1] for line in _lines(folder / "classInd.txt")]
    files = [line.split()[0] for line in _lines(folder / f"{'train' if split == 'train' else 'test'}list{fold:02}.txt")]
    return classes, ((f"UCF-101/{file}", file.partition("/")[0]) for file in files)


def _hmdb51(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    ending = f"_test_split{fold}.txt"
    folder = _annotations(root) / "testTrainMulti_7030_splits"
    lists = sorted(folder.glob(f"*{ending}"))
    if not lists:
        raise FileNotFoundError(f"{folder}: no annotation files *{ending}")
    classes = [path.name.removesuffix(ending) for path in lists]
    rows = [(name, *line.rpartition(" ")) for name, path in zip(classes, lists, strict=True) for line in _lines(path)]
    for name, file, _, use in rows:
        if use not in ("0", "1", "2") or not file:
            raise ValueError(f"{name}{ending}: {f'{file} {use}'!r} is not a video and 0, 1 or 2")
    wanted = "1" if split == "train" else "2"
    return classes, ((f"hmdb51_org/{name}/{file.strip()}", name) for name, file, _, use in rows if use == wanted)


def _folders(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def inside(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))

    def named(part: str) -> list[str]:
        if not (root / part).is_dir():
            raise FileNotFoundError(f"{root / part}: no such directory; put videos into train/<class> and val/<class>")
        return [name for name in inside(root / part) if (root / part / name).is_dir()]

    return named("train"), ((f"{split}/{c}/{v}", c) for c in named(split) for v in inside(root / split / c))


_LAYOUTS: dict[str, tuple[tuple[str, ...], Callable[[Path, Split, int], tuple[list[str], Entries]]]] = {
    # name: (annotation files or folders of which one tells it, its reader)
    "somethingv1": (("something-something-v1-labels.csv",), _something_v1),
    "somethingv2": (("something-something-v2-labels.json", "labels/labels.json"), _something_v2),
    "ucf101": (("ucfTrainTestlist/classInd.txt",), _ucf101),
    "hmdb51": (("testTrainMulti_7030_splits/*_test_split1.txt",), _hmdb51),
    "mini-kinetics": (("train_ytid_list.txt",), _mini_kinetics),
    "kinetics": (("train.csv",), _kinetics),
    "folders": (("train/*/*",), _folders),
}
DATASETS = tuple(_LAYOUTS)
