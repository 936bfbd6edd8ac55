"""Videos: exact frames, the paper's datasets, samplers and transforms, and drawn Micro datasets for those without."""

from ctnet.data.check import check, info
from ctnet.data.dataset import VideoDataset
from ctnet.data.layouts import DATASETS, VideoList, detect_dataset, load_videos
from ctnet.data.micro import Difficulty, Scene, compose, render
from ctnet.data.micro_datasets import (
    MICRO_DATASETS,
    MicroClass,
    MicroDataset,
    MicroHMDB,
    MicroKinetics,
    MicroPictures,
    MicroSomething,
    MicroSomething64,
    MicroSplit,
    MicroUCF,
)
from ctnet.data.micro_files import make, write_video
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
)
from ctnet.data.video import VideoError, count_frames, read_frames

__all__ = [
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MICRO_DATASETS",
    "Difficulty",
    "MicroClass",
    "MicroDataset",
    "MicroHMDB",
    "MicroKinetics",
    "MicroPictures",
    "MicroSomething",
    "MicroSomething64",
    "MicroSplit",
    "MicroUCF",
    "MultiScaleCrop",
    "RandomFlip",
    "Scene",
    "ThreeCrop",
    "VideoDataset",
    "VideoError",
    "VideoList",
    "check",
    "compose",
    "count_frames",
    "detect_dataset",
    "eval_transform",
    "info",
    "left_right_swap",
    "load_videos",
    "make",
    "read_frames",
    "render",
    "sample_dense",
    "sample_sparse",
    "train_transform",
    "write_video",
]
