"""What a dataset on disk holds, and which of its videos cannot be used."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ctnet.data.layouts import Split, detect_dataset, folds_of, load_videos
from ctnet.data.sampling import sample_sparse
from ctnet.data.skipping import write_skip_list
from ctnet.data.video import VideoError, read_frames
from ctnet.data.workers import results
from ctnet.errors import printable
from ctnet.files import PathLike, check_file
from ctnet.processes import cores

SPLITS: tuple[Split, ...] = ("train", "val")


def info(root: PathLike, dataset: str | None = None) -> dict[str, Any]:
    """Count the videos of a dataset.

    Returns:
        Its name, the number of classes, and for each split (and fold, where there are several) the number of videos, of
        classes with a video, and of annotations and files left out, as `load_videos` does with `missing="skip"`.
    """
    dataset = dataset or detect_dataset(root)
    splits = {}
    for fold in folds_of(dataset):
        for split in SPLITS:
            videos = load_videos(root, split, dataset, fold, missing="skip")
            name = f"{split} {fold}" if len(folds_of(dataset)) > 1 else split
            splits[name] = {
                "videos": len(videos),
                "classes": len(set(videos.labels)),
                "left_out": len(videos.left_out),
            }
    return {"dataset": dataset, "classes": len(videos.classes), "splits": splits}


def check(
    root: PathLike,
    dataset: str | None = None,
    min_frames: int = 8,
    every_frame: bool = False,
    workers: int | None = None,
    skip_list: PathLike | None = None,
    progress: bool = True,
    seconds: float = 300,
) -> dict[Path, str]:
    """Find the videos of a dataset that are missing frames, damaged or too short, on all splits and folds.

    Args:
        root: directory of the dataset.
        dataset: its name; told from the annotation files if not given.
        min_frames: a video with fewer frames is reported.
        every_frame: decode whole videos, which finds damage anywhere but takes longer; otherwise a few frames of each.
        workers: number of processes, one per core unless given; 0 is 1, for nothing else could end a file that hangs.
        skip_list: file to write, one line for each bad video: its path under the root, a tab, the reason.
            `VideoDataset(skip=...)` reads it. It is written at the end, whole or not at all. Until then the good videos
            are noted in a file beside it, FILE.checked: the same call after an interruption reads only the others.
        progress: show a progress bar.
        seconds: a video that takes longer is reported, and so is one that ends its process.

    Returns:
        The reason for each bad video, in one line. Missing files are not among them: see `info`.

    Raises:
        OSError: when `skip_list` cannot be written, before any video is read.
        ValueError: when there is no video to check, or a number is out of its range.
        RuntimeError: when no process can be started, as from a script without ``if __name__ == "__main__":``.
    """
    if min_frames < 1 or seconds <= 0 or (workers is not None and workers < 0):
        raise ValueError("min_frames must be at least 1, seconds above 0, and workers not negative")
    root = Path(root)
    dataset = dataset or detect_dataset(root)
    if skip_list is not None:
        check_file(skip_list)
    paths = sorted(
        {
            path
            for fold in folds_of(dataset)
            for split in SPLITS
            for path in load_videos(root, split, dataset, fold, missing="skip").paths
        }
    )
    if not paths:
        raise ValueError("none of the annotated videos is there; see `ctnet data info`")
    examine = partial(_examine, min_frames=min_frames, every_frame=every_frame)
    count = cores() if workers is None else max(workers, 1)
    checked = None if skip_list is None else Path(f"{skip_list}.checked")
    asked = {"root": str(root.resolve()), "dataset": dataset, "min_frames": min_frames, "every_frame": every_frame}
    good = _noted(checked, asked) if checked else set()
    left = [path for path in paths if str(path.relative_to(root)) not in good]
    found = results(examine, left, count, seconds)
    if checked:
        found = _noting(found, checked, root)
    reasons = dict(tqdm(found, total=len(paths), initial=len(paths) - len(left), unit="video", disable=not progress))
    bad = {path: reason for path in left if (reason := reasons[path])}
    if skip_list is not None:
        write_skip_list(skip_list, {path.relative_to(root).as_posix(): reason for path, reason in bad.items()})
    if checked:
        checked.unlink(missing_ok=True)
    return bad


def _noted(checked: Path, asked: dict[str, Any]) -> set[str]:
    """The videos that an interrupted check of the same kind found good; without one, its notes begin."""
    lines = checked.read_text(encoding="utf-8", errors="replace").split("\n") if checked.exists() else []
    if not lines or lines[0] != json.dumps(asked):
        checked.write_text(json.dumps(asked), encoding="utf-8")
        return set()
    good = set()
    for line in lines[1:]:
        with suppress(ValueError):  # cut off when the check ended
            good.add(json.loads(line))
    return good


def _noting(found: Iterable[tuple[Path, str | None]], checked: Path, root: Path) -> Iterator[tuple[Path, str | None]]:
    """Note good videos as they are found: bad ones are looked at again, for somebody may mend them meanwhile."""
    with open(checked, "a", encoding="utf-8") as notes:
        for path, reason in found:
            if reason is None:
                notes.write(f"\n{json.dumps(str(path.relative_to(root)))}")
                notes.flush()
            yield path, reason


def _examine(path: Path, min_frames: int, every_frame: bool) -> str | None:
    """Say in one line what is wrong with a video."""

    def indices(num_frames: int) -> Sequence[int]:
        if num_frames < min_frames:
            raise VideoError(f"{path}: {num_frames} frames, fewer than {min_frames}")
        return range(num_frames) if every_frame else sample_sparse(num_frames, min(num_frames, 8))[0].tolist()

    try:
        read_frames(path, indices, short_side=16)
    except VideoError as error:
        return str(error)
    except (OSError, ValueError, ArithmeticError, MemoryError) as error:  # one file ends no check of the others
        return printable(f"{path}: {error or type(error).__name__}")
    return None
