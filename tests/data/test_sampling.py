import numpy as np
import pytest

from ctnet.data import sample_dense, sample_sparse

LENGTHS = [1, 4, 8, 16]
COUNTS = [1, 2, 7, 8, 9, 63, 64, 65, 300]


@pytest.mark.parametrize("sample", [sample_sparse, sample_dense])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("num_frames", COUNTS)
@pytest.mark.parametrize("clips", [1, 2, 4, 10])
@pytest.mark.parametrize("train", [False, True])
def test_indices_lie_in_the_video_and_ascend(sample, length, num_frames, clips, train):
    indices = sample(num_frames, length, clips, generator=np.random.default_rng(0) if train else None)
    assert indices.shape == (clips, length)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < num_frames
    assert (np.diff(indices, axis=1) >= 0).all()


def test_sparse_testing_takes_centres_then_beginnings_of_segments():
    assert sample_sparse(80, 8, 2).tolist() == [[5, 15, 25, 35, 45, 55, 65, 75], [0, 10, 20, 30, 40, 50, 60, 70]]
    assert sample_sparse(37, 4).tolist() == [[4, 13, 23, 32]]


def test_sparse_training_covers_each_segment_and_stays_in_it():
    generator = np.random.default_rng(0)
    draws = np.stack([sample_sparse(40, 8, generator=generator)[0] for _ in range(400)])
    for segment in range(8):
        assert set(draws[:, segment]) == set(range(5 * segment, 5 * segment + 5))


def test_short_videos_repeat_frames_over_their_whole_length():
    assert sample_sparse(4, 8).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert sample_dense(4, 8).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_dense_testing_spreads_windows_evenly():
    assert sample_dense(300, 8, 4)[:, 0].tolist() == [0, 78, 157, 236]
    assert sample_dense(300, 8)[0].tolist() == list(range(118, 118 + 64, 8))
    assert sample_dense(300, 16)[0].tolist() == list(range(118, 118 + 64, 4))
    assert sample_dense(300, 8, window=80)[0].tolist() == list(range(110, 110 + 80, 10))


def test_dense_training_draws_windows_anywhere():
    generator = np.random.default_rng(0)
    draws = np.stack([sample_dense(70, 8, generator=generator)[0] for _ in range(200)])
    assert set(draws[:, 0]) == set(range(7))
    assert (np.diff(draws, axis=1) == 8).all()


@pytest.mark.parametrize("sample", [sample_sparse, sample_dense])
def test_only_the_generator_decides_the_draw(sample):
    first, again, other = (sample(300, 8, 2, generator=np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("sample", [sample_sparse, sample_dense])
@pytest.mark.parametrize("arguments", [(0, 8), (10, 0), (10, 8, 0)])
def test_impossible_arguments_are_errors(sample, arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        sample(*arguments)


def test_window_shorter_than_the_clip_is_an_error():
    with pytest.raises(ValueError, match="window of 8"):
        sample_dense(100, 16, window=8)
