"""From a trained network to what runs it fast: for inference, exported, in another runtime, measured.

What the package offers is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from ctnet.lazy import loaded_when_used

if TYPE_CHECKING:
    from ctnet.deploy.files import calibration_clips, export
    from ctnet.deploy.inference import optimize
    from ctnet.deploy.profiling import Share, profile
    from ctnet.deploy.runtime import load_exported, load_network
    from ctnet.deploy.timing import BACKENDS, Timing, bench, matrix_rate

__all__ = [
    "BACKENDS",
    "Share",
    "Timing",
    "bench",
    "calibration_clips",
    "export",
    "load_exported",
    "load_network",
    "matrix_rate",
    "optimize",
    "profile",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        "files": ("calibration_clips", "export"),
        "inference": ("optimize",),
        "profiling": ("Share", "profile"),
        "runtime": ("load_exported", "load_network"),
        "timing": ("BACKENDS", "Timing", "bench", "matrix_rate"),
    },
)
