import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import ctnet
from ctnet.analysis import count_cost
from ctnet.engine import Scores, View, load_model, save_model, score_files, testing
from ctnet.engine.evaluation import data_identity, evaluate
from ctnet.engine.loading import eval_data, load_split
from ctnet.engine.testing import distinct_names
from ctnet.micro import make


@pytest.fixture(scope="module")
def networks(tiny, tmp_path_factory):
    """Two untrained networks in folders of one name."""
    folder, classes = tmp_path_factory.mktemp("networks"), load_split(tiny, "val").class_names
    paths = [folder / name / "seed0" / "model.safetensors" for name in ("a", "b")]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_model(path, ctnet.create_model(tiny.model, len(classes), tiny.frames), classes, tiny)
    return paths


def test_lines_are_those_of_every_view_and_of_the_ensemble(networks, tiny, tmp_path):
    lines = score_files(networks, ["workers=0"], [View(), View(3, 2)], tmp_path)
    a, b = map(str, networks)
    assert [line.model for line in lines] == [a, b, "all 2, fused"] * 2
    assert [line.frames for line in lines] == ["2x1x1", "2x1x1", "x1x1", "2x3x2", "2x3x2", "x3x2"]
    assert lines[3].gmacs == pytest.approx(6 * lines[0].gmacs)
    assert lines[5].gmacs == lines[3].gmacs + lines[4].gmacs
    mean = (lines[0].scores.probabilities + lines[1].scores.probabilities) / 2
    np.testing.assert_allclose(lines[2].scores.probabilities, mean, rtol=1e-6)
    names = ["a-seed0-model-1x1.npz", "a-seed0-model-3x2.npz", "b-seed0-model-1x1.npz", "b-seed0-model-3x2.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names

    again = score_files([tmp_path / names[0], tmp_path / names[2]])
    assert [line.gmacs for line in again] == [None] * 3
    np.testing.assert_array_equal(again[2].scores.probabilities, lines[2].scores.probabilities)


def test_multiply_adds_are_those_of_the_clips_that_were_tested(networks):
    changes = ["workers=0", "test_size=24", "frames=3"]
    own, looked = (score_files(networks[:1], changes, [view])[0] for view in (View(3, 1), View(3, 1, 20)))
    model = load_model(networks[0])
    assert own.gmacs == pytest.approx(3 * count_cost(model, size=24, frames=3).gmacs)
    assert looked.gmacs == pytest.approx(3 * count_cost(model, size=20, frames=3).gmacs)
    assert (own.frames, looked.frames) == ("3x3x1", "3x3x1@20")


def test_scores_of_the_first_network_are_kept_when_the_second_fails(networks, tmp_path, monkeypatch):
    calls = []

    def evaluating_once(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        return evaluate(*arguments, **options)

    monkeypatch.setattr(testing, "evaluate", evaluating_once)
    with pytest.raises(RuntimeError, match="out of memory"):
        score_files(networks, ["workers=0"], keep=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a-seed0-model-1x1.npz"]


def test_videos_that_are_left_out_are_told(networks, tmp_path, run):
    root = make("MicroSomething", tmp_path / "set", "somethingv2", counts={"train": 24, "val": 24, "test": 1}, size=32)
    next((root / "20bn-something-something-v2").glob("30.webm")).unlink()
    changes = ["dataset=somethingv2", f"root={root}", "missing=skip", "workers=0"]
    changes += ["train_clips=null", "val_clips=null", "difficulty=null"]
    code, out, err = run("test", str(networks[0]), *changes)
    assert code == 0
    assert re.search(r"Videos.*│ +23 +│", out, re.DOTALL)
    assert "validation: 1 left out, 23 used" in err
    (line,) = json.loads(run("test", str(networks[0]), *changes, "--json")[1])
    assert (line["videos"], line["left_out"]) == (23, 1)


def test_kept_scores_tell_where_they_come_from(networks, tiny, tmp_path):
    (line,) = score_files(networks[:1], ["workers=0", "test_size=24"], [View(3, 1)], tmp_path)
    (path,) = tmp_path.iterdir()
    about = Scores.load(path).about
    assert about == json.loads(json.dumps(line.scores.about))
    assert about["weights"] == hashlib.sha256(networks[0].read_bytes()).hexdigest()[:16]
    assert about["recipe"] == tiny.override({"test_size": 24}).to_dict()
    assert (about["changed"], about["view"], about["precision"]) == (["workers", "test_size"], "3x1", "float32")
    assert about["devices"] == "1 x CPU"
    assert about["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert about["behaviour"]["engine"] == ctnet.engine.VERSION
    assert about["data"] == data_identity(line.scores)
    other = Scores(line.scores.probabilities, line.scores.labels[::-1], line.scores.names, line.scores.classes)
    assert about["data"] != data_identity(other)


def test_scores_tell_the_network_that_gave_them_whatever_a_recipe_names(networks, tiny, tmp_path):
    other = tmp_path / "other" / "model.safetensors"
    save_model(other, load_model(networks[0]), recipe=tiny.override({"model": "csn_r26_twin"}))
    score_files([other], keep=tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    assert Scores.load(kept).about["behaviour"]["networks"].keys() == {tiny.model}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["r/a/model.st"], ["a-model"]),
        (["r/a/s0/model.st", "r/b/s0/model.st"], ["a-s0-model", "b-s0-model"]),
        (["r/a/model.st", "r/a/other.st"], ["a-model", "a-other"]),
        (["r/a/x/m.st", "r/b/x/m.st", "s/a/x/m.st"], ["r-a-x-m", "r-b-x-m", "s-a-x-m"]),
        (["r/-x/model.st"], ["x-model"]),
        (["/model.st"], ["model"]),
        (["r/a/model.st", "r/a/model.safetensors"], ["1-r-a-model", "2-r-a-model"]),
    ],
)
def test_scores_of_different_files_have_different_names(paths, names, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert distinct_names([Path(path) for path in paths]) == names


def test_what_cannot_be_done_is_refused_before_the_work(networks, tiny, tmp_path):
    """Nothing of this reads a video: the networks' clips could not be read."""
    unreadable = f"root={tmp_path / 'nothing'}"
    (tmp_path / "file").touch()
    other = Scores(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), ["video"], ["a", "b"])
    other.save(tmp_path / "other.npz")
    for files, keep, message in [
        ([], None, "name a checkpoint"),
        (networks, tmp_path / "file", "no folder"),
        ([*networks, tmp_path / "none"], None, "no weights at"),
        ([networks[0], tmp_path / "other.npz"], None, "different videos or classes"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            score_files(files, ["workers=0"] if keep is None else [unreadable], keep=keep)
    for change in ("model=csn_r26_twin", "options={}"):
        with pytest.raises(ValueError, match=r"the network is the one in .*model.safetensors: leave out"):
            score_files(networks, [change])
    with pytest.raises(ValueError, match="leave out --view and fields"):
        score_files([tmp_path / "other.npz"], views=[View()])


@pytest.mark.parametrize("average", ["probabilities", "scores"])
def test_views_are_averaged_as_asked_and_that_is_told(average, networks, tiny, tmp_path):
    model = load_model(networks[0])
    model.head.weight.data *= 100  # so that the two differ
    save_model(tmp_path / "sharp.safetensors", model, model.classes, tiny)
    (line,) = score_files([tmp_path / "sharp.safetensors"], ["workers=0"], [View(3, 2)], average=average)
    dataset = eval_data(tiny, model, View(3, 2))
    own, other = (
        evaluate(model, dataset, average=each) for each in (average, *({"probabilities", "scores"} - {average}))
    )
    np.testing.assert_allclose(line.scores.probabilities, own.probabilities, atol=1e-5)
    assert np.abs(line.scores.probabilities - other.probabilities).max() > 0.01
    assert line.scores.about["average"] == average


def test_networks_are_tested_in_full_precision_unless_another_is_named(networks, monkeypatch):
    """As on a processor that multiplies bf16, in whose 8 bits the best classes often tie."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    full, fast = (score_files(networks[:1], ["workers=0", f"precision={name}"])[0].scores for name in ("auto", "bf16"))
    assert (full.about["precision"], fast.about["precision"]) == ("float32", "bfloat16")
    (named,) = score_files(networks[:1], ["workers=0", "precision=fp32"])
    np.testing.assert_array_equal(full.probabilities, named.scores.probabilities)
    assert not np.array_equal(fast.probabilities, full.probabilities)
