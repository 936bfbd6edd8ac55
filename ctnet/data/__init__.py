"""Videos: exact frames, the layouts of the paper's datasets, checks, samplers and transforms."""

from ctnet.data.check import check, info
from ctnet.data.dataset import VideoDataset, Videos
from ctnet.data.layouts import DATASETS, VideoList, detect_dataset, load_videos
from ctnet.data.sampling import sample_dense, sample_sparse
from ctnet.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MultiScaleCrop,
    RandomFlip,
    ThreeCrop,
    eval_transform,
    left_right_swap,
    train_transform,
    unmatched_left_right,
)
from ctnet.data.video import VideoError, count_frames, read_frames

VERSION = 1
"""Of reading videos: to be raised whenever the same file, recipe and seed give other frames, clips or labels.

With `flip=true`, version 1 exchanges the labels of classes that `left_right_swap` pairs, clockwise ones and other
spellings of left and right included. Earlier code of the same version knew fewer; no kept run flips its clips."""

__all__ = [
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VERSION",
    "MultiScaleCrop",
    "RandomFlip",
    "ThreeCrop",
    "VideoDataset",
    "VideoError",
    "VideoList",
    "Videos",
    "check",
    "count_frames",
    "detect_dataset",
    "eval_transform",
    "info",
    "left_right_swap",
    "load_videos",
    "read_frames",
    "sample_dense",
    "sample_sparse",
    "train_transform",
    "unmatched_left_right",
]
