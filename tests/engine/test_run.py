import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from forks import Fork
from kills import kill_at_random
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel
from trained import kept_losses, losses, same, train_until, weights

from ctnet.data import VideoError, load_videos
from ctnet.engine import Place, Scores, eval_data, evaluate, load_model, load_recipe, train, training
from ctnet.engine.checkpoint import read_about, read_tensors, write_tensors
from ctnet.engine.preparation import build_model, choose_precision
from ctnet.engine.recipe import EXECUTION, REPAIRS
from ctnet.engine.run import Run
from ctnet.micro import MicroKinetics, MicroSomething, make


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


def test_a_directory_in_which_another_process_trains_is_refused(tiny, tmp_path):
    script = "import sys; from ctnet.files import claimed\nwith claimed(sys.argv[1]): print('in'); sys.stdin.read()"
    command, pipe = [sys.executable, "-u", "-c", script, str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(ValueError, match="another process trains in .*: wait for it, or give another directory"):
            train(tiny, tmp_path, progress=False)
        other.stdin.close()
    assert not any(tmp_path.glob("*.safetensors"))
    train(tiny.override({"epochs": 1}), tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").exists()


def test_notes_of_the_start_outlive_a_resumption(whole, tiny, tmp_path):
    recipe = tiny.override({"init": str(whole / "model.safetensors")})
    train_until(5, recipe, tmp_path)
    train(recipe, tmp_path, progress=False)
    (note,) = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    assert note.startswith("init: ")


@pytest.mark.parametrize("warmup", [0, 0.5])
def test_a_run_whose_only_step_has_rate_0_is_refused(warmup, tiny, tmp_path):
    one = tiny.override({"epochs": 1, "batch_size": 32, "warmup_epochs": warmup})
    with pytest.raises(ValueError, match="a run of one step has rate 0: raise epochs"):
        train(one, tmp_path)
    train(one.override({"warmup_epochs": 1}), tmp_path, progress=False)


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
    assert (progress["epoch"], progress["step"], len(kept_losses(tmp_path / "run"))) == (0, 3, 3)

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
    with pytest.raises(VideoError, match=rf"{bad.name}.*unreadable=replace.*ctnet data check"):
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
    assert list((tmp_path / "run").glob("[!.]*")) == []


def test_a_used_directory_is_refused_by_a_run_that_is_to_be_new(whole, tiny):
    with pytest.raises(ValueError, match="holds a run already"):
        train(tiny, whole, resume=False, progress=False)


@pytest.mark.parametrize("left", ["model.safetensors", "scores.npz"])
def test_what_a_run_left_whose_state_is_gone_is_never_taken_for_another_runs(left, whole, tiny, tmp_path):
    shutil.copy(whole / left, tmp_path / left)
    before = (tmp_path / left).read_bytes()
    with pytest.raises(ValueError, match=f"holds {left} of a run whose state is gone: move it, or give another"):
        train(tiny.override({"seed": 5}), tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")} == {left: before}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which files are mapped")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_resumed_run_lets_the_file_of_its_state_go(optimizer, tiny, tmp_path):
    """Windows replaces no file that is mapped."""
    recipe = tiny.override({"optimizer": optimizer, "save_every": 1})
    train_until(2, recipe, tmp_path)
    run = Run(recipe, tmp_path, Place(torch.device("cpu")), resume=True)
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
    run = Run(interrupted, tmp_path, Place(torch.device("cpu")), resume=True)
    training.train_one_epoch(run, progress=False)
    run.seconds = 1.0
    run.finish_epoch()
    assert run.progress.epochs[0]["clips_per_second"] == 8


def test_weights_are_no_state(whole, tiny, tmp_path):
    (tmp_path / "state.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="holds no state of a run"):
        train(tiny, tmp_path, progress=False)


def test_a_run_goes_on_in_another_precision(whole, tiny, tmp_path):
    """The state of a run in fp32 or bf16 has no scale of gradients, which fp16 then begins with."""
    assert read_about(whole / "state.safetensors")["scaler"] == {}
    train_until(3, tiny.override({"save_every": 1}), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", lambda device, enabled: GradScaler(device, enabled=True))
        train(tiny, tmp_path, progress=False)
    assert read_about(tmp_path / "state.safetensors")["scaler"]["scale"] > 1
    np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-6)


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
    assert Run(tiny, tmp_path, Place(torch.device("cpu")), resume=True).scaler.get_scale() == 4.0


def test_a_run_of_very_many_steps_keeps_and_resumes_its_losses(tiny, whole, tmp_path):
    """More than the description of a file may hold: that of a state stays short."""
    shutil.copy(whole / "state.safetensors", tmp_path)
    tensors, about = read_tensors(tmp_path / "state.safetensors")
    many = torch.rand(6_000_000)
    write_tensors(tmp_path / "state.safetensors", tensors | {"losses": many}, about)
    run = Run(tiny, tmp_path, Place(torch.device("cpu")), resume=True)
    run.save()
    assert run.progress.losses[-1] == kept_losses(tmp_path)[-1] == float(many[-1])
    assert len(json.dumps(read_about(tmp_path / "state.safetensors"))) < 10_000


def test_a_file_that_cannot_be_written_tells_what_its_writer_says(tmp_path):
    with pytest.raises(OSError, match=r"state\.safetensors") as refused:
        write_tensors(tmp_path / "state.safetensors", {}, {"text": "x" * 100_000_001})
    assert "Input/output" not in str(refused.value)


MAY_CHANGE = {
    "clips_per_device": 4,
    "precision": "auto",
    "compile": "eager",
    "activation_checkpointing": True,
    "workers": 1,
    "eval_every": 2,
    "save_every": 7,
    "keep_best": True,
    "missing": "skip",
    "unreadable": "replace",
}


def test_no_other_field_may_change():
    """Runs of other values of any field but these are other runs, in other directories and files."""
    on_gpus_or_elsewhere = {"root", "skip", "sync_bn", "tensorboard"}
    assert MAY_CHANGE.keys() | on_gpus_or_elsewhere == EXECUTION | REPAIRS


def test_a_dataset_that_has_moved_is_recorded(tiny, whole, tmp_path):
    shutil.copy(whole / "state.safetensors", tmp_path)
    moved = shutil.copytree(tiny.root, tmp_path / "moved")
    resumed = Run(tiny.override({"root": str(moved)}), tmp_path, Place(torch.device("cpu")), resume=True).progress
    assert [(change["field"], change["now"]) for change in resumed.changes] == [("root", str(moved))]


@pytest.mark.parametrize("field", MAY_CHANGE)
def test_what_changes_nothing_that_is_learnt_may_change_between_two_parts_of_a_run(field, tiny, whole, tmp_path):
    shutil.copy(whole / "state.safetensors", tmp_path)
    changed = tiny.override({field: MAY_CHANGE[field]})
    assert changed != tiny
    resumed = Run(changed, tmp_path, Place(torch.device("cpu")), resume=True).progress
    assert resumed.losses == losses(whole)
    told = [change["field"] for change in resumed.changes]
    assert told == ([field] if field in ("missing", "unreadable") else [])  # which decide what is read


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
        patch.setattr(Run, "finish_epoch", None)  # dies at the end of the first epoch
        with pytest.raises(TypeError):
            train(recipe, tmp_path / "run", progress=False)
    listed.write_text("".join(names[: 1 + more]))
    train(recipe, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [change["field"] for change in kept.get("changes", [])] == ["training clips"] * more
    assert all(row["clips_per_second"] >= 0 for row in kept["epochs"])
    assert ("resumed with another training clips" in capfd.readouterr().out) == bool(more)


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
    started = build_model(
        recipe.override({"init": str(out / "state.safetensors")}), load_model(out / "state.safetensors").classes
    )
    assert same(started.state_dict(), state)
    assert all(value.isfinite().all() for value in state.values())


def test_the_best_epoch_is_kept_beside_the_last(tiny, tmp_path, monkeypatch):
    shares = iter([0.2, 0.6, 0.4])

    def evaluate(run, progress):
        labels = np.arange(25) % 2
        right = np.arange(25) < 25 * next(shares)
        table = np.eye(24, dtype=np.float32)[np.where(right, labels, labels + 2)]
        return Scores(table, labels, run.test_set.names, run.classes)

    monkeypatch.setattr(Run, "evaluate", evaluate)
    recipe = tiny.override({"epochs": 3, "keep_best": True})
    train_until(8, recipe, tmp_path)  # before the third epoch
    second = load_model(tmp_path / "state.safetensors")
    train(recipe, tmp_path, progress=False)
    best = load_model(tmp_path / "best.safetensors")
    assert same(best.state_dict(), second.state_dict())
    rows = json.loads((tmp_path / "metrics.json").read_text())["epochs"]
    assert [row.get("kept") for row in rows] == [1, 1, None]
    assert not same(best.state_dict(), load_model(tmp_path / "model.safetensors").state_dict())


def test_the_mean_leaves_whole_numbers_as_they_are(tiny, tmp_path):
    """An index rounded down leads elsewhere: 0.9 of 7 and 0.1 of 7 are 6 in whole numbers."""
    run = Run(tiny.override({"ema": 0.9}), tmp_path, Place(torch.device("cpu")), resume=False)
    run.model.register_buffer("places", torch.arange(256))
    run.mean = AveragedModel(run.model, multi_avg_fn=run.mean.multi_avg_fn, use_buffers=True)
    for _ in range(3):
        run.mean.update_parameters(run.model)
    assert torch.equal(run.trained.places, torch.arange(256))


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
