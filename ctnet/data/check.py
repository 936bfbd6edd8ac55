"""What a dataset on disk holds, and which of its videos cannot be used."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ctnet.data.layouts import Split, detect_dataset, folds_of, load_videos
from ctnet.data.sampling import sample_sparse
from ctnet.data.video import VideoError, read_frames

SPLITS: tuple[Split, ...] = ("train", "val")


def info(root: str | os.PathLike[str], dataset: str | None = None) -> dict[str, Any]:
    """Count the videos of a dataset.

    Returns:
        Its name, the number of classes, and for each split (and fold, where there are several) the number of videos, of
        classes with a video, and of annotations left out, since their file is missing, their class unknown or their
        path outside the root.
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
    root: str | os.PathLike[str],
    dataset: str | None = None,
    min_frames: int = 8,
    every_frame: bool = False,
    workers: int | None = None,
    skip_list: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> dict[Path, str]:
    """Find the videos of a dataset that are missing frames, damaged or too short, on all splits and folds.

    Args:
        root: directory of the dataset.
        dataset: its name; told from the annotation files if not given.
        min_frames: a video with fewer frames is reported.
        every_frame: decode whole videos, which finds damage anywhere but takes longer; otherwise a few frames of each.
        workers: number of processes; 0 works in this one, and the default is one per core.
        skip_list: file to write, one line for each bad video: its path under the root, a tab, the reason.
            `VideoDataset(skip=...)` reads it.
        progress: show a progress bar.

    Returns:
        The reason for each bad video. Missing files are not among them: see `info`.
    """
    root = Path(root)
    dataset = dataset or detect_dataset(root)
    paths = sorted(
        {
            path
            for fold in folds_of(dataset)
            for split in SPLITS
            for path in load_videos(root, split, dataset, fold, missing="skip").paths
        }
    )
    examine = partial(_examine, min_frames=min_frames, every_frame=every_frame)
    pool = nullcontext() if workers == 0 else ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    with pool as executor:
        results = executor.map(examine, paths, chunksize=8) if executor else map(examine, paths)
        reasons = list(tqdm(results, total=len(paths), unit="video", disable=not progress))
    bad = {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}
    if skip_list is not None:
        lines = [f"{path.relative_to(root).as_posix()}\t{reason}\n" for path, reason in bad.items()]
        Path(skip_list).write_text("".join(lines), encoding="utf-8")
    return bad


def _examine(path: Path, min_frames: int, every_frame: bool) -> str | None:
    """Say in one line what is wrong with a video."""

    def indices(num_frames: int) -> Sequence[int]:
        if num_frames < min_frames:
            raise VideoError(f"{path}: {num_frames} frames, fewer than {min_frames}")
        return range(num_frames) if every_frame else sample_sparse(num_frames, min(num_frames, 8))[0].tolist()

    try:
        read_frames(path, indices, short_side=16)
    except VideoError as error:
        return " ".join(str(error).split())
    return None
