"""Which frames of a video make up its clips: functions of the number of frames and the clip's length (Section 4).

Each returns frame indices of shape (clips, length), int64 and ascending within a clip. With a generator the draw is
random (training); without one it is fixed (testing).
"""

import numpy as np
from numpy.typing import NDArray


def sample_sparse(
    num_frames: int, length: int, clips: int = 1, generator: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Sample one frame from each of `length` equal segments, as TSN does (used for Something-Something).

    In training the frame is drawn anywhere in its segment. In testing the first clip takes the segments' centres, and
    further clips shift by 1/clips of a segment each, around the segment: two clips are centres and beginnings. A video
    shorter than `length` gives repeated frames.

    Raises:
        ValueError: an argument is below 1.
    """
    _check(num_frames=num_frames, length=length, clips=clips)
    place = (0.5 + np.arange(clips)[:, None] / clips) % 1 if generator is None else generator.random((clips, length))
    return np.floor((np.arange(length) + place) * num_frames / length).astype(np.int64)


def sample_dense(
    num_frames: int, length: int, clips: int = 1, window: int = 64, generator: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Sample a window of consecutive frames at a stride of window // length, as Non-local does (used for Kinetics).

    In training the window begins anywhere. In testing the windows are spread evenly from the beginning to the end of
    the video; a single one stands in the middle. A video shorter than the window is sampled sparsely.

    Args:
        num_frames: number of frames of the video.
        length: number of frames of a clip, T.
        clips: number of clips (4 in the paper's tests on Kinetics).
        window: number of consecutive frames that a clip covers; the authors' released code has 80.
        generator: source of randomness for training.

    Raises:
        ValueError: an argument is below 1, or the window is shorter than the clip.
    """
    _check(num_frames=num_frames, length=length, clips=clips)
    if window < length:
        raise ValueError(f"a window of {window} frames cannot hold {length}")
    spare = num_frames - window
    if spare < 0:
        return sample_sparse(num_frames, length, clips, generator)
    if generator is not None:
        start = generator.integers(spare + 1, size=clips)
    elif clips == 1:
        start = np.array([spare // 2])
    else:
        start = np.linspace(0, spare, clips).astype(np.int64)
    return start[:, None] + np.arange(length) * (window // length)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
