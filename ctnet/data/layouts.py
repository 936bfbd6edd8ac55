"""The video datasets of the paper, from their official directories and annotation files.

| dataset         | annotations                                           | videos                                   |
|-----------------|-------------------------------------------------------|------------------------------------------|
| `kinetics`      | `train.csv`, `val.csv` or `validate.csv`, in the root | `<id>_<start>_<end>.mp4`, anywhere under |
|                 | or in `annotations/`                                  | `train/` and `val/`, or under the root   |
| `mini-kinetics` | also `mini-kinetics-classes.txt`, one class per line  | as for Kinetics                          |
| `something-v1`  | `something-something-v1-{labels,train,validation}.csv`  | `20bn-something-something-v1/<id>/`      |
| `something-v2`  | `something-something-v2-{labels,train,validation}.json` | `20bn-something-something-v2/<id>.webm`  |
| `ucf101`        | `ucfTrainTestlist/`                                   | `UCF-101/<class>/`                       |
| `hmdb51`        | `testTrainMulti_7030_splits/`                         | `hmdb51_org/<class>/`                    |
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

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


def load_videos(
    root: str | os.PathLike[str],
    split: Split,
    dataset: str | None = None,
    fold: int = 1,
    missing: Literal["error", "skip"] = "error",
) -> VideoList:
    """List the videos and labels of a split.

    Classes are in alphabetical order for Something-Something V1 (as in the authors' code) and for datasets without a
    class file; in the others, in the order of that file.

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
    classes, entries = _READERS[dataset](root, split, fold)
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
    return videos


def detect_dataset(root: str | os.PathLike[str]) -> str:
    """Tell which dataset a directory holds by its annotation files; raises FileNotFoundError if none is known."""
    for dataset, marker in DATASETS.items():
        if any(Path(root).glob(marker)):
            return dataset
    raise FileNotFoundError(f"{root}: holds no known annotation files, which are {', '.join(DATASETS.values())}")


def folds_of(dataset: str) -> range:
    """Numbers of the official folds."""
    return range(1, 4 if dataset in ("ucf101", "hmdb51") else 2)


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation file")
    return path.read_text(encoding="utf-8")


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _kinetics_csv(root: Path, split: Split) -> pd.DataFrame:
    names = ["train.csv"] if split == "train" else ["val.csv", "validate.csv"]
    candidates = [root / folder / name for folder in ("", "annotations") for name in names]
    path = next((path for path in candidates if path.is_file()), candidates[0])
    _text(path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if absent := {"label", "youtube_id", "time_start", "time_end"} - set(table.columns):
        raise ValueError(f"{path}: has no column {', '.join(sorted(absent))}")
    return table


def _kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    table = _kinetics_csv(root, split)
    folder = root / split if (root / split).is_dir() else root
    files = {path.stem: path.relative_to(root).as_posix() for path in folder.rglob("*.*")}

    def entries() -> Entries:
        columns = (table[name] for name in ("youtube_id", "time_start", "time_end", "label"))
        for video, start, end, label in zip(*columns, strict=True):
            stem = f"{video}_{float(start):06.0f}_{float(end):06.0f}"
            yield files.get(stem, f"{folder.relative_to(root).as_posix()}/{stem}.mp4"), label

    return sorted(set(_kinetics_csv(root, "train")["label"])), entries()


def _mini_kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    classes = _lines(root / DATASETS["mini-kinetics"])
    kinetics_classes, entries = _kinetics(root, split, fold)
    if unknown := set(classes) - set(kinetics_classes):
        raise ValueError(f"{DATASETS['mini-kinetics']}: {min(unknown)!r} is no class of Kinetics")
    return classes, (entry for entry in entries if entry[1] in set(classes))


def _something_v1(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    path = root / f"something-something-v1-{'train' if split == 'train' else 'validation'}.csv"
    rows = [line.partition(";") for line in _lines(path)]
    for number, (_, separator, _) in enumerate(rows, 1):
        if not separator:
            raise ValueError(f"{path}: line {number} is not 'id;label'")
    classes = sorted(_lines(root / DATASETS["something-v1"]))
    return classes, ((f"20bn-something-something-v1/{video}", label) for video, _, label in rows)


def _something_v2(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    path = root / f"something-something-v2-{'train' if split == 'train' else 'validation'}.json"
    try:
        order = {name: int(number) for name, number in json.loads(_text(root / DATASETS["something-v2"])).items()}
        rows = [
            (row["id"], row["template"].translate({ord("["): None, ord("]"): None})) for row in json.loads(_text(path))
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the annotations of Something-Something V2 ({error!r})") from error
    return sorted(order, key=order.__getitem__), (
        (f"20bn-something-something-v2/{video}.webm", name) for video, name in rows
    )


def _ucf101(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    classes = [line.split()[-1] for line in _lines(root / DATASETS["ucf101"])]
    names = [
        line.split()[0]
        for line in _lines(root / f"ucfTrainTestlist/{'train' if split == 'train' else 'test'}list{fold:02}.txt")
    ]
    return classes, ((f"UCF-101/{name}", name.partition("/")[0]) for name in names)


def _hmdb51(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    ending = f"_test_split{fold}.txt"
    files = sorted((root / "testTrainMulti_7030_splits").glob(f"*{ending}"))
    flag = "1" if split == "train" else "2"

    def entries() -> Entries:
        for file in files:
            name = file.name.removesuffix(ending)
            for line in _lines(file):
                video, _, use = line.rpartition(" ")
                if use not in ("0", "1", "2"):
                    raise ValueError(f"{file}: {line!r} is not a video and 0, 1 or 2")
                if use == flag:
                    yield f"hmdb51_org/{name}/{video.strip()}", name

    return [file.name.removesuffix(ending) for file in files], entries()


DATASETS: dict[str, str] = {  # name: the annotation file that tells it
    "something-v1": "something-something-v1-labels.csv",
    "something-v2": "something-something-v2-labels.json",
    "ucf101": "ucfTrainTestlist/classInd.txt",
    "hmdb51": "testTrainMulti_7030_splits/*_test_split1.txt",
    "mini-kinetics": "mini-kinetics-classes.txt",
    "kinetics": "**/train.csv",
}
_READERS: dict[str, Callable[[Path, Split, int], tuple[list[str], Entries]]] = {
    "something-v1": _something_v1,
    "something-v2": _something_v2,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "mini-kinetics": _mini_kinetics,
    "kinetics": _kinetics,
}
