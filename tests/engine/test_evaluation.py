import io
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from forks import Fork

import ctnet
from ctnet.engine import Place, Scores, View, eval_data, evaluate, evaluation, fuse, get_recipe, predict
from ctnet.engine.evaluation import data_identity
from ctnet.micro import write_video


def scores(rows, labels, classes="abcdef"):
    return Scores(np.array(rows, np.float32), np.array(labels), [str(i) for i in range(len(labels))], list(classes))


EXAMPLE = scores(
    [[0.5, 0.3, 0.2, 0, 0, 0], [0.1, 0.2, 0.3, 0.25, 0.15, 0], [0, 0.1, 0.2, 0.3, 0.4, 0], [0.1, 0.5, 0.4, 0, 0, 0]],
    [0, 3, 4, 0],
)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.5), (2, 0.75), (3, 1.0), (6, 1.0)])
def test_top_k_accuracy(k, expected):
    assert EXAMPLE.accuracy(k) == expected


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 6), (2, 1 / 3), (6, 1.0)])
def test_a_constant_answer_earns_what_guessing_does(k, expected):
    assert scores(np.full((6, 6), 1 / 6), range(6)).accuracy(k) == pytest.approx(expected)


def test_one_rule_for_ties_stands_behind_every_accuracy():
    """Probabilities of few digits, so that the best classes of many videos tie: the first of them is predicted."""
    rng = np.random.default_rng(0)
    tied = scores(rng.integers(0, 3, (400, 6)) / 2, rng.integers(0, 6, 400))
    assert (tied.probabilities == tied.probabilities.max(1, keepdims=True)).sum() > 600
    np.testing.assert_array_equal(tied.predictions, tied.probabilities.argmax(1))
    np.testing.assert_array_equal(tied.predictions, tied.top(3)[:, 0])
    assert tied.accuracy() == (tied.predictions == tied.labels).mean() == tied.confusion().trace() / 400


@pytest.mark.parametrize("k", [1, 5])
def test_an_answer_that_is_no_number_earns_nothing(k):
    assert scores(np.full((2, 6), np.nan), [0, 3]).accuracy(k) == 0


def test_confusion_and_accuracy_of_each_class():
    confusion = EXAMPLE.confusion()
    assert confusion.sum() == 4
    assert (confusion[0, 0], confusion[0, 1], confusion[3, 2], confusion[4, 4]) == (1, 1, 1, 1)
    np.testing.assert_array_equal(EXAMPLE.per_class(), [0.5, np.nan, np.nan, 0, 1, np.nan])


def test_the_hardest_classes_and_what_they_are_taken_for():
    hardest = EXAMPLE.hardest(9)
    found = [("d", 1, 0.0, "c", 1), ("a", 2, 0.5, "b", 1), ("e", 1, 1.0, None, 0)]
    assert list(map(astuple, hardest)) == found
    assert hardest[0].mistaken_for == "c"
    assert EXAMPLE.hardest(1) == hardest[:1]
    assert EXAMPLE.hardest(0) == []


def test_hardest_classes_count_the_mistake_that_is_made_most():
    said = [1, 2, 2, 2, 0, 3]
    found = scores(np.eye(6)[said], [0, 0, 0, 0, 0, 3]).hardest(1)
    assert list(map(astuple, found)) == [("a", 5, 0.2, "c", 3)]


def test_scores_are_kept_in_a_file(tmp_path):
    EXAMPLE.save(tmp_path / "new" / "scores.npz")
    loaded = Scores.load(tmp_path / "new" / "scores.npz")
    np.testing.assert_array_equal(loaded.probabilities, EXAMPLE.probabilities)
    assert (loaded.names, loaded.classes, loaded.labels.tolist()) == (EXAMPLE.names, EXAMPLE.classes, [0, 3, 4, 0])


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "scores.npz").write_bytes(content)
    with pytest.raises(ValueError, match="holds no scores"):
        Scores.load(tmp_path / "scores.npz")


def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path):
    EXAMPLE.save(tmp_path / "whole.npz")
    content, path = (tmp_path / "whole.npz").read_bytes(), tmp_path / "scores.npz"
    generator, refused = np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[int(generator.integers(len(content)))] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            loaded = Scores.load(path)
        except ValueError:
            refused += 1
        else:  # some bytes tell nothing
            assert data_identity(loaded) == data_identity(EXAMPLE)
            np.testing.assert_array_equal(loaded.probabilities, EXAMPLE.probabilities)
    assert refused > 75


def test_an_ensemble_averages_and_can_beat_its_members():
    one, other = scores([[0.6, 0.4], [0.9, 0.1]], [1, 0], "ab"), scores([[0.1, 0.9], [0.45, 0.55]], [1, 0], "ab")
    fused = fuse([one, other])
    np.testing.assert_allclose(fused.probabilities, [[0.35, 0.65], [0.675, 0.325]], rtol=1e-6)
    assert (one.accuracy(), other.accuracy(), fused.accuracy()) == (0.5, 0.5, 1.0)


def test_scores_of_other_videos_are_not_fused():
    with pytest.raises(ValueError, match="different videos or classes"):
        fuse([EXAMPLE, scores([[0.6, 0.4]], [1], "ab")])


@pytest.mark.parametrize(
    "change",
    [{"names": ["0", "1", "2", "x"]}, {"classes": list("abcdeg")}, {"labels": np.array([0, 3, 4, 1])}],
    ids=lambda change: next(iter(change)),
)
def test_one_other_name_class_or_label_makes_other_videos(change):
    other = replace(EXAMPLE, **change)
    assert data_identity(replace(EXAMPLE)) == data_identity(EXAMPLE) != data_identity(other)
    fuse([EXAMPLE, EXAMPLE])
    with pytest.raises(ValueError, match="different videos or classes"):
        fuse([EXAMPLE, other])


@pytest.mark.parametrize(("view", "average"), [("1x1", "probabilities"), ("3x2", "probabilities"), ("3x2", "scores")])
def test_views_are_averaged_behind_the_softmax_or_before_it(tiny, view, average):
    torch.manual_seed(0)
    model = ctnet.create_model("tsn_r50_twin", num_classes=24).eval()
    model.head.weight.data *= 100  # so that the two differ
    dataset = eval_data(tiny, model, View.parse(view))
    measured = evaluate(model, dataset, batch_size=10, average=average)
    with torch.no_grad():
        clips = dataset[7][0]
        found = model(clips.reshape(-1, *clips.shape[-4:]))
        expected = found.softmax(-1).mean(0) if average == "probabilities" else found.mean(0).softmax(-1)
    torch.testing.assert_close(torch.from_numpy(measured.probabilities[7]), expected, rtol=1e-4, atol=1e-6)
    assert len(measured.labels) == 25
    np.testing.assert_allclose(measured.probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(("batch_size", "most"), [(10, 6), (12, 12), (4, 6)])
def test_no_more_clips_are_on_a_device_at_once_than_asked(tiny, batch_size, most):
    """A video of six views is whole: 10 leave room for one, and so do 4."""
    seen = []
    model = ctnet.create_model("tsn_r26_twin", num_classes=24)
    model.register_forward_pre_hook(lambda module, clips: seen.append(len(clips[0])))
    evaluate(model, eval_data(tiny, model, View.parse("3x2")), batch_size=batch_size)
    assert max(seen) == most
    assert sum(seen) == 25 * 6


def test_a_network_with_another_number_of_classes_is_refused(tiny):
    model = ctnet.create_model("tsn_r50_twin", num_classes=5)
    with pytest.raises(ValueError, match="the network scores 5 classes, the dataset has 24"):
        evaluate(model, eval_data(tiny, model))


def test_evaluation_leaves_the_mode_of_the_network(tiny):
    model = ctnet.create_model("tsn_r50_twin", num_classes=24).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, eval_data(tiny, model))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_of_several_processes_return_to_their_places():
    """What `all_gather` brings is padded to the same length; the padding must not come out."""
    rows = torch.arange(7.0)[:, None]
    place = Place(torch.device("cpu"), 0, 3)
    shares = [rows[rank::3] for rank in range(3)]

    def all_gather(gathered, mine):
        assert mine.shape == (3, 1)
        for slot, share in zip(gathered, shares, strict=True):
            slot.zero_()
            slot[: len(share)] = share

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_gather", all_gather)
        assert torch.equal(place.interleave(shares[0], 7), rows)


def test_a_video_that_is_not_there_is_named_whichever_it_is(tmp_path):
    model = ctnet.create_model("tsn_r50_twin", num_classes=2)
    model.classes = ["a", "b"]
    recipe = get_recipe("micro-something").override({"frames": 2, "size": 16, "workers": 0})
    write_video(tmp_path / "there.mp4", np.zeros((8, 32, 32, 3), np.uint8))
    for names in (["absent.mp4"], ["there.mp4", "absent.mp4"]):
        with pytest.raises(FileNotFoundError, match="absent.mp4: no such video"):
            predict(model, recipe, [tmp_path / name for name in names])
    with pytest.raises(ValueError, match="name a video"):
        predict(model, recipe, [])
    for single in (str(tmp_path / "there.mp4"), tmp_path / "there.mp4"):
        with pytest.raises(ValueError, match=r"as a list: \['.*there\.mp4'\]"):
            predict(model, recipe, single)


def test_predicted_videos_have_the_names_that_they_were_given(tmp_path, monkeypatch):
    model = ctnet.create_model("tsn_r26_twin", num_classes=2)
    model.classes = ["a", "b"]
    recipe = get_recipe("micro-something").override({"frames": 2, "size": 16, "workers": 0})
    (tmp_path / "store").mkdir()
    write_video(tmp_path / "store" / "9f2c.mp4", np.zeros((8, 32, 32, 3), np.uint8))
    (tmp_path / "holiday.mp4").symlink_to(tmp_path / "store" / "9f2c.mp4")
    monkeypatch.chdir(tmp_path)
    given = ["holiday.mp4", tmp_path / "holiday.mp4", "store/../store/9f2c.mp4"]
    assert predict(model, recipe, given).names == list(map(str, given))


@pytest.mark.parametrize(
    ("terminal", "notebook", "seconds"), [(True, False, 0.1), (False, True, 0.1), (False, False, 60)]
)
def test_bars_move_where_somebody_looks_and_seldom_in_files(terminal, notebook, seconds, monkeypatch):
    base = type("tqdm_notebook", (), {}) if notebook else object
    monkeypatch.setattr(evaluation, "tqdm", type("tqdm", (base,), {}))
    monkeypatch.setattr(sys, "stderr", type("Stream", (io.StringIO,), {"isatty": lambda self: terminal})())
    assert evaluation.interval() == seconds


def scores_in_two(file, rank, recipe):
    """Score the clips of a process which has one less than the first."""
    torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    model = ctnet.create_model("tsn_r50_twin", num_classes=24)
    evaluate(
        model,
        eval_data(recipe.override({"val_clips": recipe.val_clips - rank}), model),
        Place(torch.device("cpu"), rank, 2),
    )


def test_processes_with_different_videos_join_no_scores(tiny, tmp_path):
    """Row i of process r would be taken for a video that only the first has there."""
    for process in [Fork(scores_in_two, tmp_path / "group", rank, tiny) for rank in range(2)]:
        assert "the processes have different videos" in process.end(120).stderr
