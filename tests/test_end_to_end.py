"""From video files to a prediction, by the command line alone, as somebody with a real dataset would go."""

import csv
import json
import sys
import time

import numpy as np
import pytest
import torch
from dataset_trees import add_junk, make_folders
from forks import Fork, command
from video_files import write_video

from ctnet import cli
from ctnet.data import load_videos
from ctnet.engine import Scores, View, eval_data, evaluate, load_model, load_recipe, predict, save_model
from ctnet.micro import MicroSomething
from ctnet.models import registry

FIELDS = [
    "model=ctnet_r26_twin",
    "init=none",
    "frames=4",
    "size=32",
    "short_side=36",
    "epochs=2",
    "warmup_epochs=1",
    "batch_size=8",
    "clips_per_device=4",
    "workers=1",
    "save_every=1",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos") / "micro"
    words = ["data", "make", "MicroSomething", root, "--train", "24", "--val", "24", "--size", "48"]
    assert Fork(command, cli.main, *words).end().returncode == 0
    return root


@pytest.fixture(scope="module")
def trained(videos, tmp_path_factory):
    """A run on webm files through a worker process, killed once and resumed."""
    out = tmp_path_factory.mktemp("run")
    words = [command, cli.main, "train", "somethingv2", f"root={videos}", *FIELDS, "--out", out]
    killed = Fork(*words)
    while not (out / "state.safetensors").exists():
        assert killed.is_alive(), "the run ended before it could be killed"
        time.sleep(0.02)
    killed.kill()
    assert not (out / "model.safetensors").exists()
    done = Fork(*words).end()
    assert "of 24 videos" in done.stdout, done.stderr
    return out


def test_the_run_ends_with_all_its_epochs(trained):
    with (trained / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert len(json.loads((trained / "metrics.json").read_text())["losses"]) == 6


def test_views_as_in_table_6(trained, run, tmp_path):
    checkpoint = str(trained / "model.safetensors")
    arguments = ["--view", "1x1", "--view", "3x2", "--scores", str(tmp_path), "--json"]
    code, out, _ = run("test", checkpoint, "workers=0", *arguments)
    one, six = json.loads(out)
    assert code == 0
    assert (one["frames"], six["frames"]) == ("4x1x1", "4x3x2")
    assert six["gmacs"] == pytest.approx(6 * one["gmacs"], rel=1e-3)
    kept = Scores.load(tmp_path / f"{trained.name}-model-1x1.npz")
    np.testing.assert_allclose(kept.probabilities, Scores.load(trained / "scores.npz").probabilities, atol=0.02)
    assert kept.names[0].endswith(".webm")

    files = sorted(map(str, tmp_path.glob("*.npz")))
    code, out, _ = run("test", checkpoint, *files, "workers=0", "--view", "1x1", "--view", "3x2", "--json")
    lines = json.loads(out)
    assert code == 0
    assert [line["model"] for line in lines] == [*files, *[checkpoint, "all 3, fused"] * 2]
    assert [line["frames"] for line in lines] == ["", "", "4x1x1", "", "4x3x2", ""]
    assert all((line["gmacs"] is None) == (line["model"] != checkpoint) for line in lines)
    code, out, _ = run("test", files[0], "--hardest", "2", "--json")
    (line,) = json.loads(out)
    assert [result["name"] for result in line["hardest"]] == [each.name for each in kept.hardest(2)]
    code, out, _ = run("test", files[0], "--hardest", "2")
    assert code == 0
    shown = out.partition(f"Hardest classes of {files[0]}\n")[2]
    lines = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert lines == [each.name for each in kept.hardest(2)]
    assert "Model" not in out, "one needs no column"
    code, out, _ = run("test", *files)
    assert code == 0
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == [*files, "all 2, fused"]
    for mistake in (["--view", "3x2"], ["size=7"]):
        code, _, errors = run("test", *files, *mistake)
        assert code == 2
        assert "leave out --view and fields" in errors


def test_fine_tuning_on_folders_of_other_classes(trained, videos, run, tmp_path):
    for split in ("train", "val"):
        found = load_videos(videos, split)
        for path, label in zip(found.paths, found.labels, strict=True):
            link = tmp_path / "own" / split / f"class {label % 2}" / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    own, init = ["dataset=folders", f"root={tmp_path / 'own'}"], trained / "model.safetensors"
    changes = [*FIELDS, *own, f"init={init}", "epochs=1", "lr=1e-9"]
    code, out, _ = run("train", "somethingv2", *changes, "--out", str(tmp_path / "run"))
    assert code == 0
    assert "of 24 videos" in out
    before, after = load_model(init), load_model(tmp_path / "run" / "model.safetensors")
    assert after.classes == ["class 0", "class 1"]
    for name, parameter in before.backbone.named_parameters():
        torch.testing.assert_close(after.backbone.get_parameter(name), parameter, msg=name)


def test_prediction_for_one_file(trained, videos, run):
    video = next(videos.rglob("*.webm"))
    code, out, _ = run("predict", str(video), "--checkpoint", str(trained / "model.safetensors"), "--json")
    best = json.loads(out)["top5"]
    assert code == 0
    assert len(best) == 5
    assert {line["class"] for line in best} <= {item.name for item in MicroSomething.classes}
    assert best == sorted(best, key=lambda line: -line["probability"])
    _, text, _ = run("predict", str(video), "--checkpoint", str(trained / "model.safetensors"))
    assert best[0]["class"] in text.splitlines()[0]
    assert "%" in text.splitlines()[0]


def test_prediction_for_several_files(trained, videos, run):
    files, weights = sorted(videos.rglob("*.webm"))[:3], str(trained / "model.safetensors")
    alone = [json.loads(run("predict", str(file), "--checkpoint", weights, "--json")[1]) for file in files]
    code, out, _ = run("predict", *map(str, files), "--checkpoint", weights, "--json", "--workers", "1")
    assert (code, [each["video"] for each in json.loads(out)]) == (0, list(map(str, files)))
    assert [each["top5"][0]["class"] for each in json.loads(out)] == [each["top5"][0]["class"] for each in alone]
    told = run("predict", *map(str, files), "--checkpoint", weights)[1].splitlines()
    assert told[::6] == list(map(str, files))


def test_networks_of_an_own_module_are_known_where_it_is_imported(run, tmp_path, monkeypatch):
    name = "registered_elsewhere"
    (tmp_path / f"{name}.py").write_text(
        "from ctnet.models import create_model, register\n"
        "@register('mine_r26_twin', version=1)\n"
        "def build(num_classes, num_frames, dropout):\n"
        "    return create_model('tsn_r26_twin', num_classes, num_frames, dropout=dropout)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "NETWORKS", dict(registry.NETWORKS))
    assert run("flops", "mine_r26_twin", "--size", "32")[0] == 2
    code, out, _ = run("--import", name, "flops", "mine_r26_twin", "--size", "32", "--json")
    assert code == 0
    assert json.loads(out)["gmacs"] == json.loads(run("flops", "tsn_r26_twin", "--size", "32", "--json")[1])["gmacs"]
    code, _, error = run("--import", "nowhere", "models")
    assert (code, "--import nowhere: No module named 'nowhere'" in error) == (2, True)


@pytest.mark.parametrize("view", ["1x1", "3x2"])
def test_prediction_is_what_testing_says_of_the_same_video(view, trained, videos):
    model, recipe = load_model(trained / "model.safetensors"), load_recipe(trained / "model.safetensors")
    tested = evaluate(model, eval_data(recipe, model, View.parse(view))).probabilities[5]
    found = predict(model, recipe, [load_videos(videos, "val").paths[5]], View.parse(view))
    np.testing.assert_allclose(found.probabilities[0], tested, atol=1e-5)
    other = predict(model, recipe, [load_videos(videos, "val").paths[5]], View(1, 1 if view == "3x2" else 3))
    assert not np.allclose(other.probabilities[0], tested, atol=1e-5)


def test_prediction_needs_no_list_of_videos_to_skip(trained, videos, run, tmp_path):
    listed, model = tmp_path / "bad.txt", load_model(trained / "model.safetensors")
    save_model(
        tmp_path / "model", model, recipe=load_recipe(trained / "model.safetensors").override({"skip": listed.name})
    )
    code, _, error = run("predict", str(next(videos.rglob("*.webm"))), "--checkpoint", str(tmp_path / "model"))
    assert (code, error) == (0, "")


def test_mistakes_are_one_line(trained, videos, run, tmp_path):
    checkpoint = str(trained / "model.safetensors")
    (tmp_path / "text.webm").write_text("no video")
    for arguments, message in [
        (["train"], "name a recipe"),
        (["train", "somethingv2"], "--out DIRECTORY"),
        (["train", "somethingv3", "--out", str(tmp_path / "x")], "did you mean 'somethingv2'"),
        (["train", "somethingv2", "lrr=1", "--out", str(tmp_path / "x")], "did you mean 'lr'"),
        (["train", "somethingv2", "seed=-1", "--out", str(tmp_path / "x")], "seed=-1 does not fit"),
        (
            ["train", "somethingv2", f"root={videos}", *FIELDS, "options={nonsense: 1}", "--out", str(tmp_path / "x")],
            "no option nonsense; there are sizes, kernels",
        ),
        (["train", "somethingv2", "init=none", "--out", str(tmp_path / "x")], "root=DIRECTORY"),
        (["train", "somethingv2", f"root={videos}", *FIELDS, "lr=1", "--out", str(trained)], "another recipe"),
        (["test", checkpoint, "--view", "2x2"], "is no view"),
        (["test", checkpoint, "--average", "labels"], "by their probabilities or scores, not by 'labels'"),
        (["test", str(tmp_path / "none.safetensors")], "no weights at"),
        (["test", str(tmp_path / "text.webm")], "damaged or no file of weights"),
        (["test", checkpoint, "root=/nowhere"], "/nowhere"),
        (["predict", str(tmp_path / "none.mp4"), "--checkpoint", checkpoint], "none.mp4"),
        (["predict", str(tmp_path / "text.webm"), "--checkpoint", checkpoint], "text.webm"),
    ]:
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err


def test_recipes_can_be_listed_and_shown(run):
    assert "kinetics" in run("train", "--list")[1]
    shown = json.loads(run("train", "kinetics", "lr=0.5", "--show")[1])
    assert (shown["lr"], shown["epochs"]) == (0.5, 110)


def test_training_leaves_out_what_is_no_video_and_says_so(tmp_path):
    root, video = tmp_path / "own", write_video(tmp_path / "video.mp4")
    make_folders(root, video)
    told = []
    for folder in ("train/tea", "train/coffee", "val/tea"):
        told += [f"{folder}/{name}" for name in add_junk(root / folder, video)]
    (root / "train" / "coffee").rename(root / "train" / "pour left")
    (root / "val" / "coffee").rename(root / "val" / "pour left")
    (tmp_path / "skip.txt").write_text(f"{root}/train/tea/a.mp4\nnothing.mp4\n")
    words = ["train", "kinetics", "dataset=folders", f"root={root}", *FIELDS, f"skip={tmp_path}/skip.txt"]
    words += ["model=tsn_r26_twin", "frames=2", "batch_size=2", "epochs=2", "workers=2", "--out", tmp_path / "run"]
    done = Fork(command, cli.main, *words).end()
    said = done.stdout + done.stderr
    left_out = len(told) // 3
    assert f"training: {2 * left_out} left out, 3 used: train/pour left/" in said
    assert f"validation: {left_out} left out, 2 used: val/tea/" in said
    assert "training: 1 of 3 skipped" in said
    assert f"training: 1 entries of {tmp_path}/skip.txt match no video: nothing.mp4" in said
    assert "training: flip=true gives clips of these classes a wrong label: pour left" in said
    assert "of 2 videos" in done.stdout
    assert Scores.load(tmp_path / "run" / "scores.npz").names == ["val/pour left/e.mp4", "val/tea/d.mp4"]
