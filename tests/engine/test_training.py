import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from forks import Fork, command
from kills import kill_at_random
from safetensors.torch import load_file
from torch.amp import GradScaler

import ctnet
from ctnet import cli
from ctnet.data import VideoError, load_videos
from ctnet.engine import Place, Scores, eval_data, evaluate, load_model, load_recipe, train, train_data, training
from ctnet.engine.checkpoint import load_init, read_about, read_tensors, save_model, write_tensors
from ctnet.engine.optimizers import build_optimizer
from ctnet.engine.training import choose_precision, recompute_activations
from ctnet.micro import MicroKinetics, MicroSomething, make
from ctnet.models import CTModule

COMMAND = [sys.executable, "-m", "ctnet.cli", "train", "micro-something"]


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    train(tiny, out, progress=False)
    return out


def weights(out):
    return load_file(out / "model.safetensors")


def losses(out):
    return json.loads((out / "metrics.json").read_text())["losses"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def arguments(recipe, out):
    defaults = ctnet.engine.get_recipe("micro-something").to_dict()
    changed = [
        f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in recipe.to_dict().items() if v != defaults[k]
    ]
    return [*changed, "--out", str(out)]


def train_until(stop, recipe, out):
    """Train, and interrupt it at a step."""
    seed_step = training.seed_step

    def stops(seed, step, rank):
        if step == stop:
            raise KeyboardInterrupt
        seed_step(seed, step, rank)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "seed_step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out, progress=False)


def test_a_run_leaves_a_model_that_knows_how_to_be_used(whole, tiny):
    model, recipe = load_model(whole / "model.safetensors"), load_recipe(whole / "model.safetensors")
    assert recipe == tiny
    assert model.classes == MicroSomething(tiny.root, "val", count=25).class_names
    measured = evaluate(model, ctnet.engine.eval_data(recipe, model), batch_size=16)
    kept = Scores.load(whole / "scores.npz")
    np.testing.assert_allclose(kept.probabilities, measured.probabilities, rtol=1e-4, atol=1e-6)


def test_a_run_keeps_its_metrics(whole):
    table, kept = pd.read_csv(whole / "metrics.csv"), json.loads((whole / "metrics.json").read_text())
    scores = Scores.load(whole / "scores.npz")
    assert table["epoch"].tolist() == [1, 2]
    assert len(kept["losses"]) == 8
    assert table["train_loss"].tolist() == pytest.approx([np.mean(kept["losses"][:4]), np.mean(kept["losses"][4:])])
    assert table["val_top1"].iloc[-1] == pytest.approx(scores.accuracy())
    assert table["val_top5"].iloc[-1] == pytest.approx(scores.accuracy(5))
    own = scores.probabilities[range(25), scores.labels]
    assert table["val_loss"].iloc[-1] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    assert table["lr"].iloc[-1] == pytest.approx(0)
    assert ((table["waiting_for_data"] > 0) & (table["waiting_for_data"] < 1)).all()


def test_videos_of_ones_own_take_the_datasets_place(whole, tiny, tmp_path):
    videos = {split: MicroKinetics(tiny.root, split, count=18) for split in ("train", "val")}
    recipe = tiny.override({"epochs": 1, "init": str(whole / "model.safetensors")})
    scores = train(recipe, tmp_path, videos=videos, progress=False)
    assert scores.names == videos["val"].names
    assert load_model(tmp_path / "model.safetensors").classes == videos["train"].class_names
    (note,) = json.loads((tmp_path / "metrics.json").read_text())["notes"]  # what a run without a bar has told nobody
    assert "of the weights are those of" in note
    assert train(recipe, tmp_path, videos=videos, progress=False).names == scores.names
    fewer = videos | {"val": MicroKinetics(tiny.root, "val", count=9)}
    with pytest.raises(ValueError, match="holds a finished run on other videos"):
        train(recipe, tmp_path, videos=fewer, progress=False)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, "videos lacks train and val"),
        ({"train": MicroKinetics}, "videos lacks val: give both"),
        ({"train": MicroKinetics, "val": MicroSomething}, "are of different classes"),
    ],
)
def test_videos_that_do_not_fit_are_refused_at_the_start(tiny, tmp_path, splits, message):
    videos = {split: kind(tiny.root, split, count=9) for split, kind in splits.items()}
    with pytest.raises(ValueError, match=message):
        train(tiny, tmp_path, videos=videos, progress=False)


def test_notes_of_the_start_outlive_a_resumption(whole, tiny, tmp_path):
    recipe = tiny.override({"init": str(whole / "model.safetensors")})
    train_until(5, recipe, tmp_path)
    train(recipe, tmp_path, progress=False)
    (note,) = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    assert note.startswith("init: ")


def test_frozen_parts_stay_and_the_rest_learns(whole, tiny, tmp_path):
    start = str(whole / "model.safetensors")
    recipe = tiny.override(
        {"epochs": 1, "init": start, "freeze": ["backbone.conv1", "backbone.bn1", "backbone.layer1"]}
    )
    train(recipe, tmp_path, progress=False)
    before, after = load_model(start).state_dict(), load_model(tmp_path / "model.safetensors").state_dict()
    kept = {name for name, value in after.items() if torch.equal(value, before[name])}
    frozen = {name for name in after if name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))}
    assert kept == frozen
    train_until(3, recipe.override({"save_every": 2}), tmp_path / "resumed")
    train(recipe, tmp_path / "resumed", progress=False)
    assert same(weights(tmp_path / "resumed"), weights(tmp_path))
    for parts, message in (
        (["backbone.layer9"], "did you mean 'backbone.layer"),
        (["backbone", "head"], "nothing to train"),
    ):
        with pytest.raises(ValueError, match=message):
            train(recipe.override({"freeze": parts}), tmp_path / "other", progress=False)


def test_epochs_without_a_test_have_no_accuracy(tiny, tmp_path):
    train(tiny.override({"train_clips": 8, "epochs": 3, "eval_every": 2}), tmp_path, progress=False)
    assert pd.read_csv(tmp_path / "metrics.csv")["val_top1"].isna().tolist() == [True, False, False]


def test_who_looks_at_every_epoch_changes_nothing(tiny, whole, tmp_path):
    """It draws numbers, takes gradients and tests the network: the run ends with the same bits."""
    seen = []

    def look(row, model):
        assert not any(part.training for part in model.modules())
        model(torch.rand(2, 3, 2, 16, 16)).sum().backward()
        seen.append(row)
        row["val_top1"] = -1.0  # its own copy

    train(tiny, tmp_path, progress=False, on_epoch=look)
    assert [row["epoch"] for row in seen] == [1, 2]
    assert same(weights(tmp_path), weights(whole))
    assert pd.read_csv(tmp_path / "metrics.csv")["val_top1"].tolist() == pytest.approx(
        pd.read_csv(whole / "metrics.csv")["val_top1"].tolist()
    )


def test_who_looks_at_an_epoch_may_end_the_run(tiny, whole, tmp_path):
    def enough(row, model):
        raise StopIteration(f"behind epoch {row['epoch']}")

    with pytest.raises(StopIteration, match="behind epoch 1"):
        train(tiny, tmp_path, progress=False, on_epoch=enough)
    rest = []
    train(tiny, tmp_path, progress=False, on_epoch=lambda row, model: rest.append(row["epoch"]))
    assert rest == [2]
    assert same(weights(tmp_path), weights(whole))


def test_training_learns(tiny, tmp_path):
    """Eight clips of eight classes are learnt by heart."""
    changes = {"train_clips": 8, "epochs": 16, "eval_every": 16, "warmup_epochs": 4, "dropout": 0.0, "lr": 0.4}
    train(tiny.override(changes | {"frames": 1}), tmp_path, progress=False)
    assert np.mean(losses(tmp_path)[-3:]) < 0.8 * losses(tmp_path)[0]


@pytest.mark.parametrize("name", ["c3d_r26_twin", "csn_r26_twin", "ctnet_inceptionv3_twin"])
def test_networks_of_any_kind_of_convolution_train(name, tiny, tmp_path):
    changes = {"model": name, "train_clips": 8, "val_clips": 8, "epochs": 1, "warmup_epochs": 1, "size": 32}
    assert len(train(tiny.override(changes), tmp_path, progress=False).labels) == 8


def test_the_head_learns_faster_and_only_weights_decay(tiny):
    model = ctnet.create_model("ctnet_r50_twin", num_classes=4)
    optimizer = build_optimizer(model, tiny.override({"head_lr": 5.0, "weight_decay": 0.1}))
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["lr_scale"] == (5.0 if name.startswith("head.") else 1.0)
        assert group["weight_decay"] == (0.1 if parameter.dim() > 1 else 0.0)


def test_every_step_is_the_one_written_out_here(tiny, tmp_path):
    """SGD with momentum over clips that are shuffled and drawn anew in each epoch, in the plainest code.

    Batch normalisation is frozen: with 8 clips it makes a rounding error grow a thousand times from step to step.
    """
    changes = {"head_lr": 5.0, "label_smoothing": 0.1, "lr": 0.4, "weight_decay": 0.01, "clip_grad": 2.0, "seed": 3}
    recipe = tiny.override(changes | {"freeze_bn": "all", "dropout": 0.0})
    train(recipe, tmp_path, progress=False)
    classes = load_model(tmp_path / "model.safetensors").classes
    torch.manual_seed(3)
    model = training.build_model(recipe, classes).eval()
    clips, expected = train_data(recipe, model), []
    learnt = {name: weight for name, weight in model.named_parameters() if weight.dim() > 1 or name == "head.bias"}
    velocity = {name: torch.zeros_like(weight) for name, weight in learnt.items()}
    for epoch in range(2):
        clips.set_epoch(epoch)
        order = torch.randperm(34, generator=torch.Generator().manual_seed(300_009 + epoch))
        for step in range(4):
            batch = [clips[int(index)] for index in order[8 * step : 8 * step + 8]]
            scores = model(torch.stack([clip for clip, _ in batch]))
            labels = torch.tensor([label for _, label in batch])
            loss = torch.nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
            gradients = torch.autograd.grad(loss, list(learnt.values()))
            shorter = min(1, 2.0 / float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
            rate = recipe.lr_at(epoch + (step + 1) / 4)
            for (name, weight), gradient in zip(learnt.items(), gradients, strict=True):
                decay = 0.01 * weight.detach() if weight.dim() > 1 else 0
                velocity[name] = 0.9 * velocity[name] + shorter * gradient + decay
                weight.data -= rate * (5 if name.startswith("head.") else 1) * velocity[name]
            expected.append(loss.item())
    np.testing.assert_allclose(losses(tmp_path), expected, rtol=1e-4)


def test_another_seed_is_another_start_another_order_and_other_clips(tiny, tmp_path):
    recipes = [tiny.override({"seed": seed}) for seed in (0, 1)]
    one, other = (training.Run(recipe, tmp_path, Place(torch.device("cpu")), resume=True) for recipe in recipes)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    assert list(one.batches) != list(other.batches)
    assert not torch.equal(one.train_set[0][0], other.train_set[0][0])


def test_what_is_random_in_a_step_is_its_own():
    drawn = set()
    for step in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)):  # seed, step, process
        training.seed_step(*step)
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 4


def test_a_step_goes_no_farther_than_the_clipped_gradient(tiny, tmp_path):
    one_step = {"epochs": 1, "warmup_epochs": 1, "train_clips": 8, "weight_decay": 0.0, "lr": 0.8}
    recipe = tiny.override({**one_step, "clip_grad": 1e-3})
    train(recipe, tmp_path, progress=False)
    classes = load_model(tmp_path / "model.safetensors").classes
    torch.manual_seed(recipe.seed)
    before = training.build_model(recipe, classes).state_dict()
    after = weights(tmp_path)
    trained = [name for name in before if "running" not in name and "tracked" not in name]
    way = torch.stack([(after[name] - before[name]).norm() for name in trained]).norm()
    assert 0.9e-3 * recipe.peak_lr < way <= 1.01e-3 * recipe.peak_lr


@pytest.mark.parametrize("warmup", [0, 0.5])
def test_a_run_whose_only_step_has_rate_0_is_refused(warmup, tiny, tmp_path):
    one = tiny.override({"epochs": 1, "batch_size": 32, "warmup_epochs": warmup})
    with pytest.raises(ValueError, match="a run of one step has rate 0: raise epochs"):
        train(one, tmp_path)
    train(one.override({"warmup_epochs": 1}), tmp_path, progress=False)


def test_a_run_says_how_it_goes(tiny, tmp_path, capsys):
    train(tiny.override({"epochs": 1, "freeze_bn": "all"}), tmp_path)
    out, err = capsys.readouterr()
    assert "epoch 1/1: loss" in out
    assert "validation top-1" in out
    assert "clips/s" in out
    assert "0/32 [" in err  # clips of the bar, which a file is shown once a minute


def test_a_finished_run_is_not_trained_again(whole, tiny, monkeypatch):
    monkeypatch.setattr(training, "train_one_epoch", None)
    assert train(tiny, whole, progress=False).accuracy() == Scores.load(whole / "scores.npz").accuracy()


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 7])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(stop, whole, tiny, tmp_path):
    recipe = tiny.override({"save_every": 2})
    train_until(stop, recipe, tmp_path)
    torch.manual_seed(99)  # whatever the process drew before
    train(recipe, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))
    assert losses(tmp_path) == losses(whole)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(whole, tiny, tmp_path):
    """kill -9, as a cluster does it: at moments that no test chooses, with a process that loads data."""
    recipe = tiny.override({"save_every": 1, "workers": 1})
    kills = kill_at_random(recipe, tmp_path, 5, np.random.default_rng())
    assert kills.total() >= 1
    train(recipe, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))


def train_on_a_full_disk(recipe, out):
    size = (out / "state.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
    try:
        train(recipe, out, progress=False)
    except OSError as error:
        print(error.strerror)


def test_a_full_disk_ends_a_run_in_one_line_and_keeps_the_last_state(whole, tiny, tmp_path):
    """A process that may write half a state stands for a disk with no more room."""
    train_until(6, tiny.override({"save_every": 1}), tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()
    done = Fork(train_on_a_full_disk, tiny, tmp_path).end()
    assert done.stdout == f"no room left to write {tmp_path / 'state.safetensors'} (File too large)\n", done.stderr
    assert (tmp_path / "state.safetensors").read_bytes() == before
    train(tiny, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))


@pytest.mark.parametrize("changes", [{"lr": 0.5}, {"seed": 1}, {"epochs": 3}, {"model": "csn_r50_twin"}])
def test_a_directory_with_a_run_of_another_recipe_is_refused_and_kept(changes, whole, tiny):
    before = (whole / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"another recipe.*{next(iter(changes))} is") as refused:
        train(tiny.override(changes), whole, progress=False)
    assert "\n" not in str(refused.value)
    assert (whole / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-999], lambda b: b"", lambda b: b"\0" * len(b)], ids=["cut", "empty", "0"]
)
def test_a_damaged_state_is_refused_in_one_line(damage, whole, tiny, tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(damage((whole / "state.safetensors").read_bytes()))
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged") as refused:
        train(tiny, tmp_path, progress=False)
    assert "\n" not in str(refused.value)


def test_a_state_whose_optimizer_cannot_be_read_is_refused(whole, tiny, tmp_path):
    """Going on without its momentum would give other weights, and say nothing."""
    tensors, about = read_tensors(whole / "state.safetensors")
    older = {name.replace("optimizer.momentum_buffer.", "optimizer."): tensor for name, tensor in tensors.items()}
    assert older.keys() != tensors.keys()
    write_tensors(tmp_path / "state.safetensors", older, about)
    with pytest.raises(ValueError, match="written by another version"):
        train(tiny, tmp_path, progress=False)


def test_a_run_killed_before_its_end_is_only_tested(whole, tiny, tmp_path, monkeypatch):
    (tmp_path / "state.safetensors").write_bytes((whole / "state.safetensors").read_bytes())
    monkeypatch.setattr(training, "train_one_epoch", None)
    scores = train(tiny.override({"workers": 1}), tmp_path, progress=False)  # as many as there are now
    np.testing.assert_allclose(scores.probabilities, Scores.load(whole / "scores.npz").probabilities, rtol=1e-6)
    assert same(weights(tmp_path), weights(whole))


@pytest.mark.parametrize("lost", ["model.safetensors", "scores.npz", "metrics.json"])
def test_what_a_finished_run_has_lost_is_written_again(lost, whole, tiny, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / lost).unlink()
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    monkeypatch.setattr(training, "train_one_epoch", None)
    train(tiny, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))
    assert losses(tmp_path) == losses(whole)
    assert Scores.load(tmp_path / "scores.npz").accuracy() == Scores.load(whole / "scores.npz").accuracy()


def test_an_interrupted_run_needs_no_initial_weights(whole, tiny, tmp_path):
    init = tmp_path / "init.safetensors"
    shutil.copy(whole / "model.safetensors", init)
    recipe = tiny.override({"init": str(init), "epochs": 1, "save_every": 2})
    train(recipe, tmp_path / "straight", progress=False)
    train_until(3, recipe, tmp_path / "stopped")
    init.unlink()
    train(recipe, tmp_path / "stopped", progress=False)
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))


def test_places_and_packages_are_tried_before_the_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Run", None)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is no folder"):
        train(tiny, tmp_path / "file")


def test_what_killed_processes_left_is_removed(tiny, tmp_path):
    left = tmp_path / f".state.safetensors.{'0' * 32}"
    left.mkdir()
    (left / "part").touch()
    train(tiny.override({"epochs": 1}), tmp_path, progress=False)
    assert not left.exists()


@pytest.fixture(scope="module")
def filmed(tiny, tmp_path_factory):
    """A recipe of three steps on video files."""
    root = tmp_path_factory.mktemp("filmed") / "set"
    make("MicroSomething", root, "somethingv2", counts={"train": 24, "val": 24, "test": 1}, size=32)
    changes = {"dataset": "somethingv2", "root": str(root), "epochs": 1, "workers": 2, "save_every": 1}
    return tiny.override(changes | {"train_clips": None, "val_clips": None, "difficulty": None})


def test_a_damaged_validation_video_loses_nothing(filmed, tmp_path):
    filmed = filmed.override({"root": str(shutil.copytree(filmed.root, tmp_path / "set"))})
    bad = load_videos(filmed.root, "val").paths[5]
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(VideoError, match=bad.name) as refused:
        train(filmed, tmp_path / "run", progress=False)
    assert "\n" not in str(refused.value)
    progress = read_about(tmp_path / "run" / "state.safetensors")["progress"]
    assert (progress["epoch"], progress["step"], len(progress["losses"])) == (0, 3, 3)

    listed = tmp_path / "bad.txt"
    listed.write_text(f"{bad.relative_to(filmed.root).as_posix()}\tdamaged\n")
    repaired = filmed.override({"skip": str(listed)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", None)  # nothing is trained again
        scores = train(repaired, tmp_path / "run", progress=False)
    assert len(scores.labels) == 23
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    skip, clips = kept["changes"]
    assert skip == {"field": "skip", "before": "", "now": str(listed), "epoch": 1, "step": 3}
    assert clips["field"] == "validation clips"
    assert [clips[when].partition(" ")[0] for when in ("before", "now")] == ["24", "23"]
    assert kept["recipe"]["skip"] == str(listed)
    train(repaired, tmp_path / "straight", progress=False)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "straight"))


def test_another_video_takes_the_place_of_one_that_cannot_be_read(filmed, tmp_path, capfd):
    filmed = filmed.override({"root": str(shutil.copytree(filmed.root, tmp_path / "set"))})
    recipe = filmed.override({"unreadable": "replace", "workers": 2, "epochs": 2})
    bad = load_videos(filmed.root, "train").paths[5]
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(VideoError, match=bad.name):
        train(filmed.override({"workers": 2}), tmp_path / "strict", progress=False)
    train(recipe, tmp_path / "run")
    assert "1 videos unreadable" in capfd.readouterr().out
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"]
    assert [row["unreadable"] for row in rows] == [1, 1]
    name = bad.relative_to(filmed.root).as_posix()
    assert {line.partition("\t")[0] for line in (tmp_path / "run" / "unreadable.txt").read_text().splitlines()} == {
        name
    }

    train_until(5, recipe, tmp_path / "stopped")
    train(recipe.override({"workers": 0}), tmp_path / "stopped", progress=False)
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "run"))

    other = load_videos(filmed.root, "train").paths[7]
    whole = other.read_bytes()
    other.write_bytes(whole[:200])
    for _ in range(2):  # who only runs it again is told again
        with pytest.raises(RuntimeError, match="2 of 24 training videos cannot be read"):
            train(recipe, tmp_path / "many", progress=False)
        assert {bad.name, other.name} <= set(re.split(r"[/\t]", (tmp_path / "many" / "unreadable.txt").read_text()))
    other.write_bytes(whole)  # mended
    train(recipe, tmp_path / "many", progress=False)
    rows = json.loads((tmp_path / "many" / "metrics.json").read_text())["epochs"]
    assert [row["unreadable"] for row in rows] == [1, 1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_videos_is_refused_at_the_start(split, filmed, tmp_path):
    videos = load_videos(filmed.root, split)
    (tmp_path / "all.txt").write_text("".join(f"{name}\n" for name in videos.names))
    with pytest.raises(ValueError, match=f"no video to {'train' if split == 'train' else 'test'} on: 24 were left out"):
        train(filmed.override({"skip": str(tmp_path / "all.txt")}), tmp_path / "run", progress=False)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_used_directory_is_refused_by_a_run_that_is_to_be_new(whole, tiny):
    with pytest.raises(ValueError, match="holds a run already"):
        train(tiny, whole, resume=False, progress=False)


@pytest.mark.parametrize("left", ["model.safetensors", "scores.npz"])
def test_what_a_run_left_whose_state_is_gone_is_never_taken_for_another_runs(left, whole, tiny, tmp_path):
    shutil.copy(whole / left, tmp_path / left)
    before = (tmp_path / left).read_bytes()
    with pytest.raises(ValueError, match=f"holds {left} of a run whose state is gone: move it, or give another"):
        train(tiny.override({"seed": 5}), tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {left: before}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which files are mapped")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_resumed_run_lets_the_file_of_its_state_go(optimizer, tiny, tmp_path):
    """Windows replaces no file that is mapped."""
    recipe = tiny.override({"optimizer": optimizer, "save_every": 1})
    train_until(2, recipe, tmp_path)
    run = training.Run(recipe, tmp_path, Place(torch.device("cpu")), resume=True)
    assert run.progress.step == 2
    assert run.optimizer.state
    with open("/proc/self/maps") as maps:
        mapped = {line.split(maxsplit=5)[-1].strip() for line in maps}
    assert str(tmp_path / "state.safetensors") not in mapped  # other tests may still map theirs


def test_a_run_that_goes_on_by_another_version_says_so(tiny, tmp_path, monkeypatch, capfd):
    train_until(2, tiny.override({"save_every": 1}), tmp_path)
    before = read_about(tmp_path / "state.safetensors")["behaviour"]
    assert before["networks"].keys() == {tiny.model}
    monkeypatch.setattr("ctnet.engine.checkpoint.VERSION", before["engine"] + 1)
    train(tiny.override({"save_every": 1}), tmp_path)
    (change,) = json.loads((tmp_path / "metrics.json").read_text())["changes"]
    assert change["field"] == "behaviour"
    assert (change["before"], change["now"]) == (before, before | {"engine": before["engine"] + 1})
    assert "resumed with another behaviour" in capfd.readouterr().out


def test_the_time_of_an_epoch_is_that_of_all_its_steps(tiny, tmp_path, monkeypatch):
    """A clock that only a step moves on: no time is spent waiting, however few the steps."""
    clock, step = [100.0], training.train_step
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])

    def ticking(*arguments):
        loss = step(*arguments)
        clock[0] += 2.0
        return loss

    monkeypatch.setattr(training, "train_step", ticking)
    train(tiny.override({"train_clips": 16, "epochs": 1}), tmp_path, progress=False)
    (row,) = json.loads((tmp_path / "metrics.json").read_text())["epochs"]
    assert row["clips_per_second"] == pytest.approx(16 / (2 * 2.0))
    assert row["waiting_for_data"] == 0


def test_a_run_under_way_gives_the_network_so_far(whole, tiny):
    state = load_model(whole / "state.safetensors")
    assert same(state.state_dict(), load_model(whole / "model.safetensors").state_dict())
    assert state.classes == load_model(whole / "model.safetensors").classes
    assert load_recipe(whole / "state.safetensors") == tiny


@pytest.fixture
def interrupted(tiny, tmp_path):
    """A run with tuples in its options that was stopped before the last of its four steps."""
    changes = {"model": "ctnet_r26_twin", "options": {"kernels": (1, 3)}, "save_every": 3, "epochs": 1}
    recipe = tiny.override(changes)
    train_until(3, recipe, tmp_path)
    return recipe


def test_a_resumed_run_counts_only_its_own_clips(interrupted, tmp_path):
    run = training.Run(interrupted, tmp_path, Place(torch.device("cpu")), resume=True)
    training.train_one_epoch(run, progress=False)
    run.seconds = 1.0
    run.finish_epoch()
    assert run.progress.epochs[0]["clips_per_second"] == 8


def test_weights_are_no_state(whole, tiny, tmp_path):
    (tmp_path / "state.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="holds no state of a run"):
        train(tiny, tmp_path, progress=False)


@pytest.fixture(scope="module")
def steady(tiny, tmp_path_factory):
    """A recipe whose steps do not depend on how a batch is cut, with frozen batch normalisation, and a run of it."""
    recipe, out = tiny.override({"freeze_bn": "all", "dropout": 0.0}), tmp_path_factory.mktemp("steady")
    train(recipe, out, progress=False)
    return recipe, out


@pytest.mark.parametrize("pieces", [1, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(pieces, steady, tmp_path):
    """With frozen statistics of batch normalisation, a batch may be cut in pieces of any size."""
    recipe, whole = steady
    train_until(4, recipe.override({"clips_per_device": pieces}), tmp_path)  # for an epoch
    progress = read_about(tmp_path / "state.safetensors")["progress"]
    np.testing.assert_allclose(progress["losses"], losses(whole)[:4], rtol=1e-4)


def side_by_side(recipe, *outs, main=cli.main):
    """Train as `torchrun` has two processes do it, each with a directory; returns how they end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    forks = [
        Fork(command, main, "train", "micro-something", *words, **place, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank, words in enumerate(arguments(recipe, out) for out in outs)
    ]
    return [fork.end() for fork in forks]


def in_two_processes(recipe, out):
    """Train in two processes; returns what they print."""
    done = side_by_side(recipe, out, out)
    assert [each.returncode for each in done] == [0, 0], done
    return "".join(each.stdout for each in done)


def main_that_is_asked_to_stop():
    """`ctnet`, of which the second of two processes is asked to stop in its first step."""
    step = training.train_step

    def asks(run, at, batches):
        if run.place.rank == 1 and at == 0:
            signal.raise_signal(signal.SIGTERM)
        return step(run, at, batches)

    training.train_step, training.ASKED = asks, 3
    cli.main()


def test_processes_stop_together_whichever_is_asked_to(tiny, tmp_path):
    done = side_by_side(tiny, tmp_path, tmp_path, main=main_that_is_asked_to_stop)
    assert [each.returncode for each in done] == [128 + signal.SIGTERM] * 2, done
    assert read_about(tmp_path / "state.safetensors")["progress"]["step"] == 3


def test_processes_that_find_different_states_go_no_further(whole, tiny, tmp_path):
    """As where each machine has a disk of its own, and only the first process has written to its."""
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
    state = read_tensors(whole / "state.safetensors")
    write_tensors(tmp_path / "0" / "state.safetensors", *state)
    for done in side_by_side(tiny, tmp_path / "0", tmp_path / "1"):
        assert done.returncode == 2
        assert "from different states (epoch 3 step 0, epoch 1 step 0): give all the same" in done.stderr


def test_a_run_goes_on_in_another_precision(whole, tiny, tmp_path):
    """The state of a run in fp32 or bf16 has no scale of gradients, which fp16 then begins with."""
    assert read_about(whole / "state.safetensors")["scaler"] == {}
    write_tensors(tmp_path / "state.safetensors", *read_tensors(whole / "state.safetensors"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", lambda device, enabled: GradScaler(device, enabled=True))
        train(tiny, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))


@pytest.fixture
def scaled(monkeypatch):
    """Gradients are scaled as in fp16, which needs a GPU."""
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: GradScaler(device, enabled=True))


def test_gradients_are_clipped_at_their_own_scale(scaled, whole, tiny, tmp_path):
    train(tiny, tmp_path, progress=False)
    assert read_about(tmp_path / "state.safetensors")["scaler"]["scale"] > 1
    np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-6)


def test_a_resumed_run_goes_on_with_its_scale_of_gradients(scaled, tiny, tmp_path):
    train_until(1, tiny.override({"save_every": 1}), tmp_path)
    tensors, about = read_tensors(tmp_path / "state.safetensors")
    assert about["scaler"]["scale"] != 4.0
    about["scaler"]["scale"] = 4.0
    write_tensors(tmp_path / "state.safetensors", tensors, about)
    assert training.Run(tiny, tmp_path, Place(torch.device("cpu")), resume=True).scaler.get_scale() == 4.0


def test_a_run_on_classes_in_another_order_is_refused(whole, tiny, tmp_path):
    tensors, about = read_tensors(whole / "state.safetensors")
    write_tensors(tmp_path / "state.safetensors", tensors, about | {"classes": about["classes"][::-1]})
    with pytest.raises(ValueError, match="the dataset has other classes"):
        train(tiny, tmp_path, progress=False)


def test_the_scores_of_a_run_are_in_full_precision_whatever_it_trains_in(tiny, tmp_path, monkeypatch):
    """As on a processor that multiplies bf16, in whose 8 bits the best classes often tie."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    recipe = tiny.override({"precision": "auto", "epochs": 1, "warmup_epochs": 1})
    kept = train(recipe, tmp_path, progress=False)
    model = load_model(tmp_path / "model.safetensors")
    np.testing.assert_allclose(kept.probabilities, evaluate(model, eval_data(recipe, model)).probabilities, atol=1e-5)


@pytest.mark.parametrize("more", [0, 1])
def test_a_run_that_goes_on_with_other_clips_says_so(more, filmed, tmp_path, capfd):
    names = [f"20bn-something-something-v2/{number}.webm\tbad\n" for number in (1, 2)]
    listed = tmp_path / "bad.txt"
    listed.write_text(names[0])
    recipe = filmed.override({"skip": str(listed), "epochs": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Run, "finish_epoch", None)  # dies at the end of the first epoch
        with pytest.raises(TypeError):
            train(recipe, tmp_path / "run", progress=False)
    listed.write_text("".join(names[: 1 + more]))
    train(recipe, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [change["field"] for change in kept.get("changes", [])] == ["training clips"] * more
    assert all(row["clips_per_second"] >= 0 for row in kept["epochs"])
    assert ("resumed with another training clips" in capfd.readouterr().out) == bool(more)


def by_torchrun(recipe, out):
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*starter, *COMMAND[1:], *arguments(recipe, out)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("most", "trained"), [(None, by_torchrun), (3, in_two_processes)], ids=["whole", "pieces"])
def test_two_processes_have_the_loss_curve_of_one(most, trained, steady, tmp_path):
    """Same global batch; statistics of batch normalisation frozen, since those of all processes need GPUs."""
    recipe, alone = steady
    pieces = recipe.override({"clips_per_device": most, "compile": "eager" if most else ""})  # two of two clips each
    assert trained(pieces, tmp_path).count("of 25 videos") == 1
    np.testing.assert_allclose(losses(tmp_path), losses(alone), rtol=1e-4)
    one, two = (Scores.load(out / "scores.npz") for out in (alone, tmp_path))
    assert len(one.labels) % 2 == 1  # one process gets a clip less
    np.testing.assert_allclose(two.probabilities, one.probabilities, atol=1e-4)


def test_two_processes_test_the_network_that_is_saved(tiny, tmp_path):
    """Each normalises by its own clips while it trains; the first one's statistics are saved."""
    recipe = tiny.override({"epochs": 1})
    in_two_processes(recipe, tmp_path)
    model = load_model(tmp_path / "model.safetensors")
    kept = Scores.load(tmp_path / "scores.npz").probabilities
    np.testing.assert_allclose(kept, evaluate(model, eval_data(recipe, model)).probabilities, atol=1e-4)


def test_recomputed_activations_change_nothing(tiny):
    torch.manual_seed(0)
    plain = ctnet.create_model("ctnet_r50_twin", num_classes=5).train()
    saving = ctnet.create_model("ctnet_r50_twin", num_classes=5).train()
    saving.load_state_dict(plain.state_dict())
    recompute_activations(saving)
    clip = torch.randn(2, 3, 4, 16, 16)
    for model in (plain, saving):
        torch.manual_seed(1)
        model(clip).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"activation_checkpointing": True},
        {"compile": "eager"},
        {"workers": 1},
        {"eval_every": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_ways_of_execution_do_not_change_what_is_learnt(changes, whole, tiny, tmp_path):
    train(tiny.override(changes), tmp_path, progress=False)
    if "precision" in changes:  # rounding to 8 bits grows from step to step
        assert losses(tmp_path)[0] == pytest.approx(losses(whole)[0], rel=0.05)
        assert losses(tmp_path) != losses(whole)
    else:
        np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-4)


@pytest.mark.parametrize("which", ["none", "partial", "all"])
def test_frozen_batch_normalisation_keeps_its_statistics(which, tiny, tmp_path):
    train(tiny.override({"freeze_bn": which, "epochs": 1, "model": "ctnet_r26_twin"}), tmp_path, progress=False)
    trained = weights(tmp_path)
    means = {name: value for name, value in trained.items() if name.endswith("running_mean")}
    kept = {name for name, value in means.items() if bool((value == 0).all())}
    # Offsets begin at 0, as means do, and all of them would be learnt.
    offsets = {name for name in means if bool((trained[name.replace("running_mean", "bias")] == 0).all())}
    assert offsets == kept
    first = next(iter(means))
    new = {name for name in means if ".module." in name}  # in CT-Modules
    assert 0 < len(new) < len(means) - 1
    assert kept == {"none": set(), "partial": means.keys() - new - {first}, "all": means.keys()}[which]


def test_tensorboard(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny.override({"tensorboard": True}), tmp_path, progress=False)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in log.Scalars("val_top1")] == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run_before_its_state_is_overwritten(tiny, tmp_path):
    with pytest.raises(RuntimeError, match="the loss is .* at step .* lower lr"):
        train(tiny.override({"lr": 1e25, "clip_grad": None}), tmp_path, progress=False)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_weight_that_is_not_finite_stops_the_run_and_another_begins_from_the_last_good_state(tiny, tmp_path):
    recipe, out = tiny.override({"save_every": 3, "epochs": 1}), tmp_path / "run"
    train_until(3, recipe, out)
    step = training.train_step

    def spoils(run, number, batches):
        loss = step(run, number, batches)
        run.model.head.weight.data[0, 0] = float("nan")
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", spoils)
        with pytest.raises(RuntimeError, match="a weight is not finite behind step 4 of epoch 1: lower lr.*init="):
            train(recipe, out, progress=False)
    state = load_model(out / "state.safetensors").state_dict()
    started = training.build_model(
        recipe.override({"init": str(out / "state.safetensors")}), load_model(out / "state.safetensors").classes
    )
    assert same(started.state_dict(), state)
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_asked_to_stop_saves_at_once_and_goes_on_later(number, whole, tiny, tmp_path):
    step = training.train_step

    def asks(run, at, batches):
        if at == 2:
            signal.raise_signal(number)
        return step(run, at, batches)

    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", asks)
        with pytest.raises(SystemExit) as stop:
            train(tiny, tmp_path, progress=False)
    assert stop.value.code == 128 + number
    assert signal.getsignal(number) == before
    progress = read_about(tmp_path / "state.safetensors")["progress"]
    assert (progress["epoch"], progress["step"]) == (0, 3)
    train(tiny, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))


def test_a_signal_to_all_processes_of_a_run_lets_it_save(tiny, tmp_path):
    """As torchrun, Slurm and `timeout` send it: those that load data get it too."""
    recipe = tiny.override({"workers": 2, "epochs": 400, "eval_every": 400, "save_every": 1})
    fork = Fork(command, cli.main, "train", "micro-something", *arguments(recipe, tmp_path))
    while fork.is_alive() and not (tmp_path / "state.safetensors").exists():
        time.sleep(0.01)
    fork.signal(signal.SIGTERM)
    done = fork.end(seconds=60)
    assert done.returncode == 128 + signal.SIGTERM, done
    assert read_about(tmp_path / "state.safetensors")["progress"]["losses"]


def test_a_second_signal_acts_as_it_always_does():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with training.signals() as asked:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert asked == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_best_epoch_is_kept_beside_the_last(tiny, tmp_path, monkeypatch):
    shares = iter([0.2, 0.6, 0.4])

    def evaluate(run, progress):
        labels = np.arange(25) % 2
        right = np.arange(25) < 25 * next(shares)
        table = np.eye(24, dtype=np.float32)[np.where(right, labels, labels + 2)]
        return Scores(table, labels, run.test_set.names, run.classes)

    monkeypatch.setattr(training.Run, "evaluate", evaluate)
    recipe = tiny.override({"epochs": 3, "keep_best": True})
    train_until(8, recipe, tmp_path)  # before the third epoch
    second = load_model(tmp_path / "state.safetensors")
    train(recipe, tmp_path, progress=False)
    best = load_model(tmp_path / "best.safetensors")
    assert same(best.state_dict(), second.state_dict())
    rows = json.loads((tmp_path / "metrics.json").read_text())["epochs"]
    assert [row.get("kept") for row in rows] == [1, 1, None]
    assert not same(best.state_dict(), load_model(tmp_path / "model.safetensors").state_dict())


@pytest.mark.parametrize("stop", [None, 5])
def test_the_mean_of_the_weights_is_what_is_tested_and_kept(stop, tiny, tmp_path):
    recipe = tiny.override({"ema": 0.75, "epochs": 2})
    seen, step = [], training.train_step

    def notes(run, number, batches):
        loss = step(run, number, batches)
        seen.append(run.model.head.weight.detach().clone())
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", notes)
        if stop is not None:
            train_until(stop, recipe.override({"save_every": 1}), tmp_path)
        scores = train(recipe.override({"save_every": 1}), tmp_path, progress=False)
    mean = seen[0]
    for weight in seen[1:]:
        mean = 0.75 * mean + 0.25 * weight
    kept = load_model(tmp_path / "model.safetensors")
    torch.testing.assert_close(kept.head.weight.detach(), mean)
    assert (kept.head.weight - seen[-1]).abs().max() > 1e-4
    assert same(load_model(tmp_path / "state.safetensors").state_dict(), kept.state_dict())
    measured = evaluate(kept, eval_data(recipe, kept), batch_size=16)
    np.testing.assert_allclose(scores.probabilities, measured.probabilities, rtol=1e-4, atol=1e-6)


def test_clips_are_blended_with_their_neighbours_and_so_is_the_loss(tiny, tmp_path):
    torch.manual_seed(0)
    clips = torch.rand(4, 3, 2, 5, 5)
    torch.testing.assert_close(training.mixed(clips, 0.8)[1], 0.8 * clips[1] + 0.2 * clips[0])
    assert training.mixup_share(0.0) == 1
    shares = [training.mixup_share(0.2) for _ in range(200)]
    assert np.mean([share < 0.1 or share > 0.9 for share in shares]) > 0.5  # Beta(0.2, 0.2) is a bathtub

    recipe = tiny.override({"mixup": 0.8, "dropout": 0.0})
    train(recipe, tmp_path / "whole", progress=False)
    train_until(3, recipe, tmp_path / "stopped")
    train(recipe, tmp_path / "stopped", progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    run = training.Run(recipe, tmp_path / "first", Place(torch.device("cpu")), resume=True)
    clips, labels = next(run.start_epoch())
    training.seed_step(recipe.seed, 0, 0)
    share, entropy = training.mixup_share(0.8), torch.nn.functional.cross_entropy
    scores = run.model(training.mixed(clips, share))
    expected = share * entropy(scores, labels) + (1 - share) * entropy(scores, labels.roll(1))
    assert losses(tmp_path / "whole")[0] == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(ValueError, match="mixup blends clips that a device has at once"):
        train(recipe.override({"clips_per_device": 1}), tmp_path / "alone", progress=False)


def test_what_crashes_together_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="compile and activation_checkpointing do not go together"):
        train(tiny.override({"compile": "eager", "activation_checkpointing": True}), tmp_path, progress=False)


@pytest.mark.parametrize("changes", [{"precision": "fp16"}, {"sync_bn": True}])
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_what_needs_a_gpu_is_refused_on_a_cpu(changes, tiny, tmp_path):
    with pytest.raises(ValueError, match="GPU"):
        train(tiny.override(changes), tmp_path, progress=False)


def test_testing_is_in_full_precision_unless_told_otherwise():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, testing=True) == torch.float32
    assert choose_precision("bf16", cpu, testing=True) == torch.bfloat16


def test_the_fastest_precision_is_one_that_the_cpu_multiplies():
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16") or able.get("amx_bf16")
    assert choose_precision("auto", torch.device("cpu")) == (torch.bfloat16 if fast else torch.float32)


# -- Initial weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("init", "asked"), [("imagenet", "imagenet"), ("none", None)])
def test_a_recipe_asks_for_the_weights_that_it_names(init, asked, tiny, monkeypatch):
    found, create = [], training.create_model

    def created(*arguments, weights, **options):
        found.append(weights)
        return create(*arguments, **options)

    monkeypatch.setattr(training, "create_model", created)
    training.build_model(tiny.override({"init": init}), ["a", "b"])
    assert found == [asked]


def saved(path, name="tsn_r50_twin", classes=("a", "b")):
    torch.manual_seed(5)
    model = ctnet.create_model(name, num_classes=len(classes))
    save_model(path, model, list(classes))
    return model


def test_a_video_network_starts_from_a_network_for_pictures(tmp_path):
    source = saved(tmp_path / "pictures.safetensors")
    model = ctnet.create_model("ctnet_r50_twin", num_classes=3)
    head = model.head.weight.clone()
    told = load_init(tmp_path / "pictures.safetensors", model, ["x", "y", "z"])
    assert torch.equal(model.backbone.layer3[2].conv2.weight, source.backbone.layer3[2].conv2.weight)
    assert torch.equal(model.head.weight, head)
    share, _, rest = told.partition("% of the weights are those of ")
    new = {name for name, part in model.named_modules() if isinstance(part, CTModule)}
    values = sum(p.numel() for name in new for p in model.get_submodule(name).state_dict().values())
    of_all = sum(value.numel() for value in model.state_dict().values())
    assert float(share) == pytest.approx(100 - 100 * (values + model.head.weight.numel() + 3) / of_all, abs=0.06)
    assert re.search(r"not backbone\.layer1\.1\.conv2.* and \d+ more; name was 'tsn_r50_twin' and is 'ctnet_", rest)


def test_options_that_networks_do_not_share_are_told(tmp_path):
    source = ctnet.create_model("ctnet_r50_twin", num_classes=2, connection="serial")
    save_model(tmp_path / "serial.safetensors", source, ["a", "b"])
    told = load_init(tmp_path / "serial.safetensors", ctnet.create_model("ctnet_r50_twin", num_classes=2), ["a", "b"])
    assert re.fullmatch(r"100.0% of the weights are those of .*; connection was 'serial' and is 'unset'", told)


@pytest.mark.parametrize(("classes", "kept"), [(["a", "b"], True), (["b", "a"], False)])
def test_a_head_is_kept_for_the_same_classes_only(classes, kept, tmp_path):
    source = saved(tmp_path / "source.safetensors")
    model = ctnet.create_model("tsn_r50_twin", num_classes=2)
    load_init(tmp_path / "source.safetensors", model, classes)
    assert torch.equal(model.head.weight, source.head.weight) == kept


def test_weights_of_another_network_are_refused(tmp_path):
    saved(tmp_path / "source.safetensors", "tsn_r50")
    with pytest.raises(ValueError, match="is of tsn_r50 and shares only"):
        load_init(tmp_path / "source.safetensors", ctnet.create_model("tsn_r50_twin", num_classes=2), ["a", "b"])


def test_a_file_of_half_the_size_scores_almost_the_same(tmp_path):
    model = saved(tmp_path / "full.safetensors").eval()
    save_model(tmp_path / "half.safetensors", model, ["a", "b"], dtype=torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    clip = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "half.safetensors")(clip), model(clip), rtol=0.02, atol=1e-3)


def test_the_description_can_be_read_without_the_weights(whole):
    about = read_about(whole / "model.safetensors")
    assert about["config"]["name"] == "tsn_r26_twin"
    assert about["recipe"]["size"] == 16
