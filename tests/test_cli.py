import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from ctnet import cli, create_model, data, list_models, micro, save_model
from ctnet.engine import get_recipe
from ctnet.micro import write_video


def test_models(run):
    assert run("models") == (0, "\n".join(list_models()) + "\n", "")
    assert json.loads(run("models", "--json")[1]) == list_models()


def test_flops_prints_the_papers_figures_as_json(run):
    code, out, _ = run("flops", "ctnet_r50", "--frames", "8", "--size", "256", "--classes", "174", "--json")
    figures = json.loads(out)
    assert code == 0
    assert (figures["gmacs"], figures["conv_linear_gmacs"], figures["params_m"]) == (37.32, 37.04, 20.96)
    assert figures["uncounted"] == {}


def test_flops_of_an_ablation(run):
    code, out, _ = run("flops", "ctnet_r50", "sizes=3", "excitation=none", "pointwise=false", "--json")
    assert (code, json.loads(out)["gmacs"]) == (0, 35.7)  # Table 2b, K = 3
    assert json.loads(out)["options"] == {"sizes": 3, "excitation": "none", "pointwise": False}
    assert "ctnet_r50_twin, blocks=1, 8 x 32 x 32" in run("flops", "ctnet_r50_twin", "blocks=1", "--size", "32")[1]


def test_flops_are_of_a_network_for_as_many_frames(run):
    code, out, err = run("flops", "corrnet_r50", "--frames", "16", "--size", "64")
    assert (code, err) == (0, "")
    assert "16 x 64 x 64" in out


def test_flops_for_people(run):
    code, out, _ = run("flops", "tsn_r50_twin", "--size", "32", "--frames", "2")
    assert code == 0
    assert "GMACs in all" in out
    assert "2 x 32 x 32, 174 classes" in out
    assert "Not counted: no operator with multiply-adds" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flops", "ctnet_r52"], "did you mean 'ctnet_r50'"),
        (["flops", "ctnet_r50", "--frames", "0"], "must be positive"),
        (["flops", "tsn_r50_twin", "--classes", "0"], "--classes"),
        (["flops", "tsn_r50", "--frames", "eight"], "--frames"),
        (["flops"], "Missing argument"),
        (["flops", "ctnet_r50", "sizes"], "'sizes' is no option of a network: write name=value, such as sizes=3"),
        (["flops", "ctnet_r50", "size=3"], "ctnet_r50 has no option size; there are sizes, kernels"),
        (["flops", "ctnet_r50", "num_classes=3"], "ctnet_r50 cannot be built with num_classes=3: "),
        (["flops", "ctnet_r50", "kernels=[3"], "cannot read the value in 'kernels=[3'"),
        (["fops"], "No such command"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("ctnet: ")
    assert message in err


def test_the_installed_command_is_this_one():
    command = shutil.which("ctnet", path=f"{sys.prefix}/bin")
    assert command, "the package is not installed"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "saliency" in done.stdout


def test_a_drawn_dataset_can_be_made_described_and_checked(run, tmp_path):
    root = tmp_path / "micro"
    counts = ("--train", "24", "--val", "24", "--test", "2")
    code, out, _ = run("data", "make", "MicroSomething", str(root), *counts, "--size", "32")
    assert code == 0
    assert len(json.loads((root / "something-something-v2-test.json").read_text())) == 2
    assert f"ctnet data info {root}" in out
    assert json.loads(run("data", "info", str(root), "--json")[1])["splits"]["val"]["videos"] == 24
    assert "somethingv2, 24 classes" in run("data", "info", str(root))[1]
    assert run("data", "check", str(root), "--workers", "0", "--json")[:2] == (0, "{}\n")

    broken = root / "20bn-something-something-v2" / "1.webm"
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, _ = run("data", "check", str(root), "--workers", "0", "--skip-list", str(tmp_path / "skip.txt"))
    assert code == 1
    assert broken.name in out
    assert broken.name in (tmp_path / "skip.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "nowhere"),
        (["check", "nowhere"], "nowhere"),
        (["make", "MicroNothing", "out"], "MicroSomething"),
        (["make", "MicroSomething", "out", "--layout", "charades"], "somethingv2"),
        (["make", "MicroSomething", "out", "--difficulty", "7"], "between 0 and 1"),
    ],
)
def test_mistakes_about_data_are_one_line_too(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("data", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def footage(tmp_path):
    """A video, and the weights of an untrained network with three classes."""
    write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 255, (10, 36, 64, 3), np.uint8))
    model = create_model("tsn_r50_twin", num_classes=3, num_frames=4)
    recipe = get_recipe("micro-something").override({"frames": 4})
    save_model(tmp_path / "weights.safetensors", model, ["Twisting", "Folding", "Lifting"], recipe)
    return tmp_path / "clip.mp4", tmp_path / "weights.safetensors"


def test_saliency_draws_networks_side_by_side(run, footage, tmp_path):
    video, weights = map(str, footage)
    options = ["--out", str(tmp_path / "a.png")]
    code, out, err = run("saliency", video, "--checkpoint", weights, *options, "--label", "Folding")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"weights: Folding, \d+ %\n", out)
    (tmp_path / "other").mkdir()
    again = shutil.copy(weights, tmp_path / "other")
    both = json.loads(run("saliency", video, "--checkpoint", weights, "--checkpoint", again, *options, "--json")[1])
    assert [found["name"] for found in both] == [weights, again]
    assert both[0]["label"] in ("Twisting", "Folding", "Lifting")
    assert 1 / 3 < both[0]["score"] < 1


def test_saliency_samples_and_crops_as_the_network_was_trained(run, footage, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("ctnet.analysis.overlay.save_explanations", lambda path, found: drawn.extend(found))
    run("saliency", str(footage[0]), "--checkpoint", str(footage[1]), "--out", str(tmp_path / "a.png"))
    assert drawn[0].frames.shape == (4, 3, 36, 64)
    assert drawn[0].tubes.shape == (4, 32, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--label": "Fold"}, "did you mean 'Folding'"),
        ({"--out": "a.jpg", "--checkpoint": "nothing"}, "must end in .png"),
        ({"--out": "file/a.png"}, "file is no folder"),
        ({"--checkpoint": "nothing"}, "no weights at nothing"),
        ({"video": "nothing.mp4"}, "nothing.mp4: no such video"),
    ],
)
def test_mistakes_about_saliency_are_one_line_too(run, footage, changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    options = {"--checkpoint": str(footage[1]), "--out": "a.gif"} | changes
    video = options.pop("video", str(footage[0]))
    code, out, err = run("saliency", video, *(word for option in options.items() for word in option))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not any(path.suffix in (".gif", ".jpg") for path in tmp_path.iterdir())


def test_names_in_brackets_are_printed_as_they_are(capsys):
    cli.print_table(["Model"], [["runs[old]/model.safetensors"]])
    assert "runs[old]/model.safetensors" in capsys.readouterr().out


def test_saliency_of_a_head_that_tubes_do_not_know(run, footage, tmp_path):
    weights, out = tmp_path / "x3d.safetensors", tmp_path / "a.gif"
    recipe = get_recipe("micro-something").override({"frames": 4, "model": "x3d_xl"})
    save_model(weights, create_model("x3d_xl", num_classes=3, num_frames=4), ["a", "b", "c"], recipe)
    command = ["saliency", str(footage[0]), "--checkpoint", str(weights), "--out", str(out)]
    code, _, err = run(*command)
    assert (code, err.count("\n")) == (2, 1)
    assert "use grad_cam" in err
    code, shown, err = run(*command, "--method", "grad_cam")
    assert (code, err, out.exists()) == (0, "", True)
    assert shown.startswith("x3d: ")


@pytest.mark.parametrize("error", [IndexError("list index"), KeyError("key"), TypeError("a\nb"), AssertionError()])
def test_a_mistake_in_the_program_is_one_line_and_can_be_found(error, capsys, monkeypatch):
    app = typer.Typer()

    @app.command()
    def fail():
        raise error

    monkeypatch.setattr(sys, "argv", ["ctnet"])
    monkeypatch.delenv("CTNET_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.execute(app, "ctnet")
    message = capsys.readouterr().err
    assert (stop.value.code, message.count("\n")) == (2, 1)
    assert f"internal error: {type(error).__name__}" in message
    assert "test_cli.py, line" in message
    monkeypatch.setenv("CTNET_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.execute(app, "ctnet")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b: No space left on device"),
        (OSError("own words"), "own words"),
        (RuntimeError("first\n  second"), "first second"),
        (MemoryError("1 TB"), "not enough memory (1 TB)"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 1 GiB"),
            "CUDA out of memory: lower clips_per_device (of predict --view, of bench --clips); "
            "in training activation_checkpointing=true saves memory too",
        ),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_told_in_one_line(error, message):
    assert cli.describe_error(error) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("modles", "Did you mean 'models'?"),
        ("train somethingv2 --lr 0.1 --out x", "fields of a recipe are written lr=VALUE"),
        ("train somethingv2 --batch-size 8 --out x", "fields of a recipe are written batch_size=VALUE"),
        ("train somethingv2 lr 0.1 --out x", "write field=value"),
        ("train SomethingV2 --show", "did you mean 'somethingv2'?"),
        ("train micro-something dataset=MicroSomethin --out x", "did you mean 'MicroSomething'?"),
        ("test c.safetensors --veiw 3x2", "Possible options: --view"),
        ("predict notes.txt", "Missing option '--checkpoint'"),
        ("predict notes.txt --checkpoint c.safetensors --device cuda:99", "there is no device 'cuda:99' here"),
        ("predict notes.txt --checkpoint c.safetensors --device gpu", "there is no device 'gpu' here: take one of cpu"),
        ("--import broken models", "--import broken: SyntaxError: "),
        ("--import failing models", "--import failing: NameError: name 'undefined' is not defined"),
        ("convert notes.txt --recipe somethingv1 --out .", "is a folder: give the name of a file"),
        ("convert page.html --recipe somethingv1 --out c.safetensors", "it is a web page"),
        ("train micro-something --out notes.txt", "notes.txt is no folder"),
        ("data check . --dataset folders --skip-list .", "is a folder: give the name of a file"),
    ],
)
def test_slips_are_answered_in_one_line(words, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / "failing.py").write_text("undefined")
    code, out, err = run(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.fixture
def asked(monkeypatch):
    """A function that replaces another one of the package; it returns the arguments, by name, of every call."""

    def replace(package, name, result):
        calls, signature = [], inspect.signature(getattr(package, name))

        def called(*arguments, **options):
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            calls.append(bound.arguments)
            return result

        monkeypatch.setattr(package, name, called)
        return calls

    return replace


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--dataset", "kinetics"], {"dataset": "kinetics"}),
        (["--min-frames", "12"], {"min_frames": 12}),
        (["--every-frame"], {"every_frame": True}),
        (["--workers", "3"], {"workers": 3}),
        (["--skip-list", "bad.txt"], {"skip_list": Path("bad.txt")}),
        (["--seconds", "7"], {"seconds": 7.0}),
        (["--json"], {"progress": False}),
    ],
)
def test_options_of_a_check_are_passed_on(words, changed, asked, run):
    calls = asked(data, "check", {})
    assert run("data", "check", "set", *words)[0] == 0
    usual = {"dataset": None, "min_frames": 8, "every_frame": False, "workers": None, "skip_list": None}
    assert calls == [{"root": Path("set"), "progress": True, "seconds": 300} | usual | changed]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--layout", "kinetics"], {"layout": "kinetics"}),
        (["--train", "5", "--val", "4", "--test", "3"], {"counts": {"train": 5, "val": 4, "test": 3}}),
        (["--size", "64"], {"size": 64}),
        (["--difficulty", "0.3"], {"difficulty": 0.3}),
        (["--seed", "9"], {"seed": 9}),
    ],
)
def test_options_of_a_drawn_dataset_are_passed_on(words, changed, asked, run):
    calls = asked(micro, "make", Path("set"))
    assert run("data", "make", "MicroUCF", "set", *words)[0] == 0
    usual = {"layout": "somethingv2", "counts": {}, "size": 128, "difficulty": None, "seed": 0}
    assert calls == [{"name": "MicroUCF", "root": Path("set"), "frames": None, "progress": True} | usual | changed]
