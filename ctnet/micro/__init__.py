"""The Micro datasets: small video datasets that are drawn, not downloaded, in memory or as real video files."""

from ctnet.micro.datasets import (
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
from ctnet.micro.drawing import VERSION, Difficulty, Scene, compose, render
from ctnet.micro.files import make, write_video

__all__ = [
    "MICRO_DATASETS",
    "VERSION",
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
    "Scene",
    "compose",
    "make",
    "render",
    "write_video",
]
