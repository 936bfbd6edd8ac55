"""How the paper's video datasets lie on disk after their official downloads, and how videos of your own may lie.

Annotation files lie in the root or in its folder `annotations`; a star stands for labels, train and validation.
`lists` and `folders` are for any other dataset: names of directories are the classes of `folders`. A video is a file
or a folder of pictures. Links are followed. Hidden files, and files that are no videos, are left out.

| dataset         | annotations                                       | videos                                       |
|-----------------|---------------------------------------------------|----------------------------------------------|
| `kinetics`      | `train.csv`, `val.csv` or `validate.csv`          | `<id>_<start>_<end>.mp4` in `train`, `val`,  |
|                 |                                                   | at any depth, or else in the root            |
| `mini-kinetics` | also `train_ytid_list.txt`, `val_ytid_list.txt`   | as for Kinetics                              |
| `somethingv1`   | `something-something-v1-*.csv`                    | `20bn-something-something-v1/<id>/`          |
| `somethingv2`   | `something-something-v2-*.json`, `labels/*.json`  | `20bn-something-something-v2/<id>.webm`, of  |
|                 |                                                   | another kind, or a folder of its frames      |
| `ucf101`        | `ucfTrainTestlist/`                               | `UCF-101/<class>/`                           |
| `hmdb51`        | `testTrainMulti_7030_splits/`                     | `hmdb51_org/<class>/`                        |
| `folders`       | none                                              | `train/<class>/` and `val/<class>/`          |
| `lists`         | `train.txt`, `val.txt`, maybe `classes.txt`       | anywhere in the root, as the lists say       |

A line of `lists` is a video's path under the root, a tab, and its class; or, as in the lists of TSN and TSM, path and
number of the class, maybe the number of frames, with spaces between. `classes.txt` names the classes in the order of
their numbers. Without it they are those of `train.txt`, sorted, or the numbers from 0 to the largest there.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ctnet.data.containers import ENDINGS, UNSURE
from ctnet.data.video import Indices, read_frames, why_no_video
from ctnet.errors import printable, some
from ctnet.files import PathLike

Split = Literal["train", "val"]


class Entry(NamedTuple):
    """What an annotation says, or what lies in a folder: a path under the root, and its class.

    `problem` tells why it cannot be used, where that is known already; one that is `aside` was never meant to be.
    """

    path: str
    label: str
    problem: str = ""
    aside: bool = False


Entries = Iterable[Entry]


@dataclass(frozen=True)
class VideoList:
    """The videos of one split.

    Attributes:
        dataset: name of the dataset.
        root: its directory.
        classes: names of the classes; a label is an index into it.
        paths: video files, or folders of frames.
        labels: label of each path.
        left_out: "path: reason" for each annotation that was skipped, and each file among the videos that is none.
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
        """Paths under the root, with forward slashes; whole ones of what lies elsewhere, such as on another drive."""
        return [
            (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix() for path in self.paths
        ]

    def read(self, index: int, indices: Indices, short_side: int | None = None) -> Tensor:
        """Frames of a video, as from `read_frames`."""
        return read_frames(self.paths[index], indices, short_side)


def load_videos(
    root: PathLike,
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
        missing: what to do with an annotation that cannot be read, or names a missing file, an unknown class, a path
            outside the root or a video once more: raise an "error", or "skip" it and list it in `left_out`.

    Raises:
        FileNotFoundError: an annotation file is missing, or a video and `missing` is "error".
        ValueError: an annotation file cannot be read or names no videos; or an annotation cannot be used and `missing`
            is "error".
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
    if twice := [name for label, name in enumerate(classes) if label_of[name] != label]:
        raise ValueError(f"{root}: the annotations of {dataset} list the class {twice[0]!r} twice")
    videos = VideoList(dataset, root, classes, [], [], [])
    listed: set[str] = set()
    for entry in entries:
        problem = _problem(root, entry, label_of, listed)
        if problem is None:
            listed.add(entry.path)
            videos.paths.append(root / entry.path)
            videos.labels.append(label_of[entry.label])
        elif missing == "error" and not entry.aside:
            raise problem
        else:
            videos.left_out.append(str(problem).removesuffix(_HINT))
    if not (videos.paths or (videos.left_out and missing == "skip")):
        why = f"; left out are {some(videos.left_out)}" if videos.left_out else ""
        raise ValueError(f"{root}: the annotations of {dataset} name no videos of split {split!r}{why}")
    return videos


_HINT = "; missing='skip' leaves out such videos"


def _problem(root: Path, entry: Entry, label_of: dict[str, int], listed: set[str]) -> Exception | None:
    """Why an entry cannot be used; `listed` are the paths of those before it."""
    name = printable(entry.path)
    if entry.problem:
        return ValueError(f"{name}: {entry.problem}")
    if not Path(os.path.normpath(root / entry.path)).is_relative_to(os.path.normpath(root)):
        return ValueError(f"{name}: outside {root}")
    if entry.label not in label_of:
        return ValueError(f"{name}: unknown class {entry.label!r}")
    if entry.path in listed:
        return ValueError(f"{name}: listed twice, here as {entry.label!r}{_HINT}")
    if not (os.path.isfile(root / entry.path) or os.path.isdir(root / entry.path)):
        return FileNotFoundError(f"{printable(str(root / name))}: no such video{_HINT}")
    return None


def detect_dataset(root: PathLike) -> str:
    """Tell which dataset a directory holds, by its annotation files, or else by its folders.

    Raises:
        FileNotFoundError: when it holds neither.
    """
    for dataset, (markers, _) in _LAYOUTS.items():
        if any(next(_visible(folder, marker), None) for folder in _places(Path(root)) for marker in markers):
            return dataset
    known = ", ".join(marker for markers, _ in _LAYOUTS.values() for marker in markers)
    raise FileNotFoundError(f"{root}: holds no known annotation files and no folders of classes; looked for {known}")


def folds_of(dataset: str) -> range:
    """Numbers of the official folds."""
    return range(1, 4 if dataset in ("ucf101", "hmdb51") else 2)


def _places(root: Path) -> tuple[Path, Path]:
    """Where annotation files lie, in the order in which they are looked for."""
    return root / "annotations", root


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    return (path for path in folder.glob(pattern) if not path.name.startswith("."))


def _annotations(root: Path, pattern: str) -> list[Path]:
    """Annotation files of a name, or a pattern of names."""
    return next(filter(None, (sorted(_visible(folder, pattern)) for folder in _places(root))), [])


def _text(root: Path, *names: str) -> tuple[Path, str]:
    """The first annotation file there is of some names, and its text, with or without the mark of UTF-8."""
    found = [path for name in names for path in _annotations(root, name) if path.is_file()]
    if not found:
        raise FileNotFoundError(f"{root / names[-1]}: no such annotation file")
    try:
        text = found[0].read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("zeros")
    except ValueError as error:
        raise ValueError(f"{found[0]}: not a text file in UTF-8") from error
    return found[0], text


def _lines(root: Path, name: str) -> list[str]:
    return [line.strip() for line in _text(root, name)[1].split("\n") if line.strip()]


class _Row(NamedTuple):
    """A row of Kinetics: its class, the video's id, and the name of its file but for the ending, or what is wrong."""

    label: str
    video: str
    stem: str
    problem: str


def _kinetics_rows(root: Path, split: Split) -> list[_Row]:
    path, text = _text(root, *(["validate.csv", "val.csv"] if split == "val" else ["train.csv"]))
    rows = []
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if lacking := {"label", "youtube_id", "time_start", "time_end"} - set(reader.fieldnames):
            raise ValueError(f"no column {', '.join(sorted(lacking))}")
        for row in reader:
            label, video, *times = (
                (row[name] or "").strip() for name in ("label", "youtube_id", "time_start", "time_end")
            )
            seconds = [_seconds(time) for time in times]
            wrong = [f"{time!r} is no time" for time, number in zip(times, seconds, strict=True) if number is None]
            wrong += ["no youtube_id"] * (not video) + ["no label"] * (not label)
            stem = "" if wrong else f"{video}_{seconds[0]:06}_{seconds[1]:06}"
            problem = f"{wrong[0]} in line {reader.line_num} of {path.name}" if wrong else ""
            rows.append(_Row(label, video, stem, problem))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}: not the annotations of Kinetics ({error})") from error
    return rows


def _seconds(text: str) -> int | None:
    """A time in whole seconds; None for what is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and 0 <= number < 1e6 else None


def _kinetics_entries(root: Path, split: Split, rows: list[_Row]) -> Entries:
    folder = split if (root / split).is_dir() else "."
    found = _find(root, folder, {row.stem for row in rows})
    for row in rows:
        path = found.get(row.stem, f"{folder}/{row.stem}.mp4") if row.stem else row.video
        yield Entry(path, row.label, row.problem)


_RANK = {ending: place for place, ending in enumerate((*ENDINGS, *UNSURE))}
"""Of several files of one video the one whose ending comes first is read."""


def _find(root: Path, folder: str, stems: set[str]) -> dict[str, str]:
    """The videos of some names but for their ending, at any depth of a folder: paths under the root."""
    candidates: dict[str, list[tuple[int, str]]] = {}
    entered = set()
    for place, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in entered else sorted(name for name in folders if not name.startswith("."))
        entered.add(real)
        frames = {name for name in folders if name in stems}  # a folder of frames, or of something else
        folders[:] = [name for name in folders if name not in stems]
        for name in (*files, *frames):
            stem, ending = (name, "") if name in frames else os.path.splitext(name)
            path = Path(place, name)
            if stem in stems and ending.lower() in _RANK and not why_no_video(path):
                relative = path.relative_to(root).as_posix()
                candidates.setdefault(stem, []).append((_RANK[ending.lower()], relative))
    return {stem: min(paths)[1] for stem, paths in candidates.items()}


def _beside(folder: Path, there: dict[str, list[str]], stem: str, usual: str) -> str:
    """The name of a video in a folder: with the usual ending, or else one of another kind or a folder of frames.

    Args:
        folder: with all videos side by side.
        there: the names in it, by their names without ending.
        stem: name of the video without ending.
        usual: its ending.
    """
    names = there.get(stem, [])
    if stem + usual in names or not names:
        return stem + usual
    endings = {name: os.path.splitext(name)[1].lower() for name in names}
    ranked = sorted((_RANK[ending], name) for name, ending in endings.items() if ending in _RANK)
    return next((name for _, name in ranked if not why_no_video(folder / name)), stem + usual)


def _kinetics_classes(rows: list[_Row]) -> list[str]:
    return sorted({row.label for row in rows if row.label})


def _kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    training = _kinetics_rows(root, "train")
    rows = training if split == "train" else _kinetics_rows(root, split)
    return _kinetics_classes(training), _kinetics_entries(root, split, rows)


def _mini_kinetics(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def listed(part: Split) -> tuple[list[_Row], list[Entry]]:
        """The rows of Kinetics whose id is in the list, and the ids that Kinetics has not."""
        ids = dict.fromkeys(_lines(root, f"{part}_ytid_list.txt"))
        rows = [row for row in _kinetics_rows(root, part) if row.video in ids]
        unknown = sorted(ids.keys() - {row.video for row in rows})
        return rows, [
            Entry(video, "", f"in {part}_ytid_list.txt, but not in Kinetics' {part} annotations") for video in unknown
        ]

    training = listed("train")
    rows, unknown = training if split == "train" else listed(split)
    return _kinetics_classes(training[0]), [*_kinetics_entries(root, split, rows), *unknown]


def _something_v1(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    name = f"something-something-v1-{'train' if split == 'train' else 'validation'}.csv"
    entries = []
    for number, line in enumerate(_lines(root, name), 1):
        video, separator, label = line.partition(";")
        problem = "" if video and separator else f"line {number} of {name} is not 'id;label'"
        entries.append(Entry(f"20bn-something-something-v1/{video}" if video else line, label, problem))
    return sorted(_lines(root, "something-something-v1-labels.csv")), entries


def _something_v2(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def listed(part: str) -> tuple[Path, Any]:
        """The file under the name it was published by, or as the archive of the labels has it."""
        path, text = _text(root, f"labels/{part}.json", f"something-something-v2-{part}.json")
        try:
            return path, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not the annotations of Something-Something V2 ({error})") from error

    labels, number_of = listed("labels")
    path, rows = listed("train" if split == "train" else "validation")
    try:
        by_number = {int(str(number)): name for name, number in number_of.items()}
        classes = [by_number[number] for number in sorted(by_number)]
        if len(classes) < len(number_of):
            raise ValueError("a number twice")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{labels}: not the labels of Something-Something V2, a number of its own for each class"
        ) from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: not the annotations of Something-Something V2, a list of videos")
    entries, folder = [], "20bn-something-something-v2"
    there: dict[str, list[str]] = {}
    for name in os.listdir(root / folder) if (root / folder).is_dir() else ():
        there.setdefault(os.path.splitext(name)[0], []).append(name)
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and isinstance(row.get("template"), str) and isinstance(row.get("id"), str | int):
            label = re.sub(r"[\[\]]", "", row["template"])
            entries.append(Entry(f"{folder}/{_beside(root / folder, there, str(row['id']), '.webm')}", label))
        else:
            entries.append(Entry(f"video {number}", "", f"not an id and a template, in {path.name}"))
    return classes, entries


def _ucf101(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    classes = [line.split()[-1] for line in _lines(root, "ucfTrainTestlist/classInd.txt")]
    name = f"ucfTrainTestlist/{'train' if split == 'train' else 'test'}list{fold:02}.txt"
    files = [line.split()[0].replace("\\", "/") for line in _lines(root, name)]
    return classes, [Entry(f"UCF-101/{file}", file.partition("/")[0]) for file in files]


def _hmdb51(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    ending = f"_test_split{fold}.txt"
    lists = _annotations(root, f"testTrainMulti_7030_splits/*{ending}")
    if not lists:
        raise FileNotFoundError(f"{root / 'testTrainMulti_7030_splits'}: no annotation files *{ending}")
    classes = [path.name.removesuffix(ending) for path in lists]
    wanted = "1" if split == "train" else "2"
    entries = []
    for name, path in zip(classes, lists, strict=True):
        for line in _lines(root, path.relative_to(path.parents[1]).as_posix()):
            file, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not file:
                entries.append(Entry(line, name, f"not a video and 0, 1 or 2, in {path.name}"))
            elif use == wanted:
                entries.append(Entry(f"hmdb51_org/{name}/{file.strip()}", name))
    return classes, entries


_LISTED = re.compile(r"(?P<path>[^\t]+?)(?:\t(?:\d+\t)?(?P<label>[^\t]+)| +(?:\d+ +)?(?P<number>\d+))")
_MOST = 100_000  # classes of lists that only number them


def _lists(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    names = _lines(root, "classes.txt") if _annotations(root, "classes.txt") else []

    def listed(part: str) -> Iterator[Entry]:
        for number, line in enumerate(_lines(root, f"{part}.txt"), 1):
            if (told := _LISTED.fullmatch(line)) is None:
                yield Entry(line, "", f"line {number} of {part}.txt is not a path, a tab and a class")
                continue
            label = (told["label"] or told["number"]).strip()
            if names and label not in names and label.isdecimal() and int(label) < len(names):
                label = names[int(label)]
            path = told["path"].replace("\\", "/")
            try:
                under = os.path.relpath(root / path, root)
            except ValueError:  # on Windows
                yield Entry(path, "", f"line {number} of {part}.txt is on another drive than {root}")
            else:
                yield Entry(under.replace(os.sep, "/"), label)

    found = {entry.label for entry in listed("train") if not entry.problem}
    largest = max(map(int, found)) if found and all(label.isdecimal() for label in found) else _MOST
    if names or largest >= _MOST:
        return names or sorted(found), listed(split)
    plain = (e._replace(label=str(int(e.label))) if e.label.isdecimal() else e for e in listed(split))  # 007 is 7
    return [str(n) for n in range(largest + 1)], plain


def _folders(root: Path, split: Split, fold: int) -> tuple[list[str], Entries]:
    def inside(folder: Path) -> list[Path]:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))

    def named(part: str) -> list[Path]:
        if not (root / part).is_dir():
            raise FileNotFoundError(f"{root / part}: no such directory; put videos into train/<class> and val/<class>")
        return [path for path in inside(root / part) if path.is_dir()]

    def entries() -> Iterator[Entry]:
        for folder in named(split):
            for path in inside(folder):
                reason = why_no_video(path)
                yield Entry(f"{split}/{folder.name}/{path.name}", folder.name, reason, aside=bool(reason))

    return [path.name for path in named("train")], entries()


_LAYOUTS: dict[str, tuple[tuple[str, ...], Callable[[Path, Split, int], tuple[list[str], Entries]]]] = {
    # name: (annotation files or folders of which one tells it, its reader)
    "somethingv1": (("something-something-v1-labels.csv",), _something_v1),
    "somethingv2": (("something-something-v2-labels.json", "labels/labels.json"), _something_v2),
    "ucf101": (("ucfTrainTestlist/classInd.txt",), _ucf101),
    "hmdb51": (("testTrainMulti_7030_splits/*_test_split1.txt",), _hmdb51),
    "mini-kinetics": (("train_ytid_list.txt",), _mini_kinetics),
    "kinetics": (("train.csv",), _kinetics),
    "folders": (("train/*/*",), _folders),
    "lists": (("train.txt",), _lists),
}
DATASETS = tuple(_LAYOUTS)
