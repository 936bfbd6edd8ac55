import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import current_process

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from forks import Fork, command
from trained import arguments, kept_losses, losses, same, train_until, weights

import ctnet
from ctnet import cli
from ctnet.engine import (
    Place,
    Scores,
    eval_data,
    evaluate,
    load_model,
    load_recipe,
    signals,
    train,
    train_data,
    training,
)
from ctnet.engine import run as runs
from ctnet.engine.checkpoint import read_about, read_tensors, write_tensors
from ctnet.engine.optimizers import build_optimizer
from ctnet.engine.preparation import build_model, seed_step
from ctnet.engine.run import Run
from ctnet.micro import MicroKinetics, MicroSomething

COMMAND = [sys.executable, "-m", "ctnet.cli", "train", "micro-something"]


def test_a_run_leaves_a_model_that_knows_how_to_be_used(whole, tiny):
    model, recipe = load_model(whole / "model.safetensors"), load_recipe(whole / "model.safetensors")
    assert recipe == tiny
    assert model.classes == MicroSomething(tiny.root, "val", count=25).class_names
    measured = evaluate(model, ctnet.engine.eval_data(recipe, model), batch_size=16)
    kept = Scores.load(whole / "scores.npz")
    np.testing.assert_allclose(kept.probabilities, measured.probabilities, rtol=1e-4, atol=1e-6)


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
    model = build_model(recipe, classes).eval()
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
    one, other = (Run(recipe, tmp_path, Place(torch.device("cpu")), resume=True) for recipe in recipes)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    assert list(one.batches) != list(other.batches)
    assert not torch.equal(one.train_set[0][0], other.train_set[0][0])


def test_a_step_goes_no_farther_than_the_clipped_gradient(tiny, tmp_path):
    one_step = {"epochs": 1, "warmup_epochs": 1, "train_clips": 8, "weight_decay": 0.0, "lr": 0.8}
    recipe = tiny.override({**one_step, "clip_grad": 1e-3})
    train(recipe, tmp_path, progress=False)
    classes = load_model(tmp_path / "model.safetensors").classes
    torch.manual_seed(recipe.seed)
    before = build_model(recipe, classes).state_dict()
    after = weights(tmp_path)
    trained = [name for name in before if "running" not in name and "tracked" not in name]
    way = torch.stack([(after[name] - before[name]).norm() for name in trained]).norm()
    assert 0.9e-3 * recipe.peak_lr < way <= 1.01e-3 * recipe.peak_lr


def test_a_run_says_how_it_goes(tiny, tmp_path, capsys):
    train(tiny.override({"epochs": 1, "freeze_bn": "all"}), tmp_path)
    out, err = capsys.readouterr()
    assert "epoch 1/1: loss" in out
    assert "validation top-1" in out
    assert "clips/s" in out
    assert "0/32 [" in err  # clips of the bar, which a file is shown once a minute


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
    np.testing.assert_allclose(kept_losses(tmp_path), losses(whole)[:4], rtol=1e-4)


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

    training.train_step, runs.ASKED = asks, 3
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


def test_a_run_that_is_asked_to_stop_while_an_epoch_is_saved_stops_there(whole, tiny, tmp_path):
    save = runs.Run.save

    def asks(run):
        save(run)
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "save", asks)
        with pytest.raises(SystemExit) as stop:
            train(tiny, tmp_path, progress=False)
    assert stop.value.code == 128 + signal.SIGTERM
    progress = read_about(tmp_path / "state.safetensors")["progress"]
    assert (progress["epoch"], progress["step"]) == (0, 4)
    train(tiny, tmp_path, progress=False)
    assert same(weights(tmp_path), weights(whole))


@pytest.mark.parametrize("field", ["train_clips", "val_clips"])
def test_processes_that_see_different_videos_go_no_further(field, tiny, tmp_path):
    """As where each machine has a copy of the dataset, and one copy is not whole."""

    def main_that_lacks_a_video():
        fewer = {field: getattr(tiny, field) - (os.environ["RANK"] == "1")}
        read = {name: getattr(runs, name) for name in ("load_split", "eval_data")}
        runs.load_split = lambda recipe, *more: read["load_split"](recipe.override(fewer), *more)
        runs.eval_data = lambda recipe, *more, **named: read["eval_data"](recipe.override(fewer), *more, **named)
        cli.main()

    for done in side_by_side(tiny, tmp_path, tmp_path, main=main_that_lacks_a_video):
        assert done.returncode == 2, done
        assert "the processes have different videos: give all of them the same dataset" in done.stderr


@pytest.fixture
def as_data_processes_start(monkeypatch):
    """Let one of the processes that load data call a function while it starts.

    It does so behind torch's own handlers of signals, and before anything of this package.
    """
    seed = random.seed

    def start(number, act):
        def seeds(*values):
            if current_process().name.endswith(f":{number}"):
                act()
            seed(*values)

        monkeypatch.setattr(random, "seed", seeds)

    return start


@pytest.mark.parametrize(("slow", "times"), [(1, 1), (2, 1), (1, 2)])
def test_a_signal_to_all_processes_of_a_run_lets_it_save(slow, times, tiny, tmp_path, as_data_processes_start):
    """As Slurm and `timeout` send it: those that load data get it too, here while one of them starts.

    It comes twice where `torchrun` got it as well, before the first clips are there.
    """

    def ask():
        for _ in range(times):
            os.killpg(0, signal.SIGTERM)
            time.sleep(0.5)

    as_data_processes_start(slow, ask)
    recipe = tiny.override({"workers": 2, "train_clips": 800})
    done = Fork(command, cli.main, "train", "micro-something", *arguments(recipe, tmp_path)).end()
    assert done.returncode == 128 + signal.SIGTERM, done
    assert kept_losses(tmp_path)


def test_no_process_that_loads_data_outlives_a_run_that_is_killed_as_it_starts(tiny, tmp_path, as_data_processes_start):
    starting = tmp_path / "starting"

    def kill():
        starting.write_text(str(os.getpid()))
        trainer = os.getppid()
        os.kill(trainer, signal.SIGKILL)
        while os.getppid() == trainer:
            time.sleep(0.01)

    as_data_processes_start(1, kill)
    recipe = tiny.override({"workers": 1})
    done = Fork(command, cli.main, "train", "micro-something", *arguments(recipe, tmp_path / "run")).end()
    assert done.returncode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(starting.read_text())).wait(60)  # an error if it is still there


def test_a_signal_acts_as_it_always_does_when_it_comes_again_later(monkeypatch):
    acted = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: acted.append(number))
    try:
        with signals.noted() as asked:
            for _ in range(2):
                signal.raise_signal(signal.SIGUSR1)
            assert (asked, acted) == ([signal.SIGUSR1], [])
            monkeypatch.setattr(signals, "AGAIN", 0)
            signal.raise_signal(signal.SIGUSR1)
            assert (asked, acted) == ([signal.SIGUSR1], [signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, before)


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
    run = Run(recipe, tmp_path / "first", Place(torch.device("cpu")), resume=True)
    clips, labels = next(run.start_epoch())
    seed_step(recipe.seed, 0, 0)
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
