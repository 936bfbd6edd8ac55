import copy
import json

import numpy as np
import pytest
import torch
from networks import shaken
from typer.testing import CliRunner

import ctnet
from ctnet import deploy
from ctnet.cli import app
from ctnet.deploy import calibration_clips, export, load_exported, load_network
from ctnet.engine import View, eval_data, evaluate, get_recipe, load_recipe, predict, save_model
from ctnet.engine.loading import load_split
from ctnet.micro import write_video

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
RECIPE = get_recipe("micro-something").override(
    {"model": "ctnet_r26_twin", "options": {"blocks": {"layer4": [1]}}, "frames": 4}
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of weights as a run leaves it, and the network that it is of."""
    torch.manual_seed(0)
    model = shaken(ctnet.create_model("ctnet_r26_twin", num_classes=24, num_frames=4, blocks={"layer4": [1]}))
    model.classes = [f"class {number}" for number in range(24)]
    model.input_mean = (0.4, 0.5, 0.6)
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    save_model(path, model, recipe=RECIPE)
    return path, model


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(request, trained):
    """The same network exported by the command line."""
    path, _ = trained
    out = path.with_suffix(SUFFIXES[request.param])
    done = CliRunner().invoke(app, ["export", str(path), "--format", request.param])
    assert done.exit_code == 0, done.output
    return out


@torch.inference_mode()
def test_the_runtime_scores_any_number_of_clips_as_the_network_does(trained, exported):
    _, model = trained
    program = load_exported(exported)
    for count in (1, 2, 5):
        clips = torch.randn(count, 3, 4, 32, 32)
        torch.testing.assert_close(program(clips), model(clips), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"exported for clips of shape \(N, 3, 4, 32, 32\)"):
        program(torch.randn(1, 3, 5, 32, 32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_clips_of_any_precision_are_scored_in_float32(trained, exported, dtype):
    program, clips = load_exported(exported), torch.randn(2, 3, 4, 32, 32).to(dtype)
    scores = program(clips.requires_grad_())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, trained[1](clips.float()).detach(), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"normalised by input_mean and input_std, got torch\.uint8"):
        program(torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_reading_a_file_takes_its_runtime_alone(tmp_path, monkeypatch, suffix, package):
    monkeypatch.setattr("ctnet.deploy.files.find_spec", lambda name: None)
    (tmp_path / f"network{suffix}").touch()
    with pytest.raises(ValueError, match=f"needs {package}: pip install"):
        load_exported(tmp_path / f"network{suffix}")
    with pytest.raises(ValueError, match=f"needs onnx, onnxscript, {package}: pip install"):
        export(None, tmp_path / f"network{suffix}", {".xml": "openvino"}.get(suffix, "onnx"), size=32)


def test_the_file_knows_classes_normalisation_and_recipe(trained, exported):
    _, model = trained
    program, recipe = load_network(exported)
    assert program.classes == model.classes
    assert (program.input_mean, program.input_std) == (model.input_mean, model.input_std)
    assert (program.num_frames, program.size, recipe) == (4, 32, RECIPE)


def test_a_video_is_predicted_from_an_exported_file_as_from_weights(trained, exported, tmp_path):
    path, model = trained
    video = tmp_path / "own.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (9, 36, 64, 3), np.uint8))
    expected = predict(model, load_recipe(path), [video]).probabilities[0]
    done = CliRunner().invoke(app, ["predict", str(video), "--checkpoint", str(exported), "--json"])
    best = json.loads(done.output)["top5"]
    assert [line["class"] for line in best] == [model.classes[label] for label in (-expected).argsort()[:5]]
    assert [line["probability"] for line in best] == pytest.approx(sorted(expected)[:-6:-1], abs=1e-3)


@pytest.mark.parametrize("changes", [{"frames": 3}, {"size": 24}, {"frames": 2, "size": 40}], ids=str)
def test_a_file_of_other_frames_or_size_predicts_as_the_network_does_at_these(trained, tmp_path, changes):
    _, model = trained
    video = tmp_path / "own.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (9, 36, 64, 3), np.uint8))
    export(model, tmp_path / "other.pt2", "torch", RECIPE, **changes)
    program, recipe = load_network(tmp_path / "other.pt2")
    assert (program.num_frames, program.size) == (changes.get("frames", 4), changes.get("size", 32))
    changed = RECIPE.override({"frames": program.num_frames, "test_size": program.size})
    expected = predict(model, changed, [video]).probabilities
    np.testing.assert_allclose(predict(program, recipe, [video]).probabilities, expected, atol=1e-4)


@pytest.mark.parametrize("change", [{"of the future": 1}, {"frames": "many"}])
def test_a_recipe_of_another_version_is_refused_in_a_line(trained, tmp_path, monkeypatch, change):
    recipe = copy.deepcopy(RECIPE)
    monkeypatch.setattr(type(recipe), "to_dict", lambda self: vars(self) | change)
    export(trained[1], tmp_path / "other.pt2", "torch", recipe, frames=2)
    with pytest.raises(ValueError, match=r"other\.pt2 holds the recipe of another version of ctnet: export it anew"):
        load_network(tmp_path / "other.pt2")


def test_eight_bits_agree_with_the_network_that_they_round(trained, tmp_path):
    model = copy.deepcopy(trained[1])
    model.classes = None  # of drawn clips they are
    recipe = RECIPE.override({"train_clips": 24, "val_clips": 48})
    export(model, tmp_path / "small.onnx", "onnx", recipe, int8=calibration_clips(model, recipe, 8))
    clips = eval_data(recipe, model, View())
    scores = [evaluate(network, clips) for network in (model, load_exported(tmp_path / "small.onnx"))]
    full, rounded = (np.log(each.probabilities) for each in scores)
    assert not np.array_equal(full, rounded)
    change, rounded_change = full - full.mean(0), rounded - rounded.mean(0)  # from clip to clip
    assert np.corrcoef(change.ravel(), rounded_change.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tflite"], "unknown format 'tflite'; there are onnx, openvino, torch"),
        (["--format", "openvino", "--int8"], "int8 is ONNX Runtime's: export to onnx"),
        (["--out", "."], "give it the suffix .onnx"),
        (["--format", "torch", "--out", "network.onnx"], "network.onnx would not be read as torch"),
    ],
)
def test_what_cannot_be_exported_is_told(trained, arguments, message):
    done = CliRunner().invoke(app, ["export", str(trained[0]), *arguments])
    assert message in str(done.exception)


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_files_that_are_no_exported_network_are_refused(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="no exported network"):
        load_network(tmp_path / f"none{suffix}")
    (tmp_path / f"broken{suffix}").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="damaged, or no network that ctnet exported"):
        load_network(tmp_path / f"broken{suffix}")
    with pytest.raises(ValueError, match="those end in"):
        load_exported(tmp_path / "model.safetensors")


def test_the_program_of_somebody_else_is_refused(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "foreign.pt2")
    with pytest.raises(ValueError, match=r"foreign\.pt2 is damaged, or no network that ctnet exported"):
        load_exported(tmp_path / "foreign.pt2")


def test_a_network_is_exported_in_fp32_and_stays_what_it_was(trained, tmp_path):
    model = copy.deepcopy(trained[1]).bfloat16()
    export(model, tmp_path / "half.pt2", "torch", size=32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert load_exported(tmp_path / "half.pt2")(torch.randn(1, 3, 4, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize("words", [[], ["--int8"]])
def test_the_command_calibrates_8_bits_and_nothing_else(words, trained, tmp_path, monkeypatch):
    clips, written = [torch.zeros(3, 4, 32, 32)], []
    monkeypatch.setattr(deploy, "calibration_clips", lambda model, recipe: clips)
    monkeypatch.setattr(deploy, "export", lambda *arguments, **options: written.append((arguments[1:], options)))
    done = CliRunner().invoke(app, ["export", str(trained[0]), "frames=5", *words])
    assert done.exit_code == 0, done.output
    (((path, format, recipe), options),) = written
    assert path == trained[0].with_suffix(".int8.onnx" if words else ".onnx")
    assert (format, recipe) == ("onnx", RECIPE.override({"frames": 5}))
    assert options["int8"] is (clips if words else None)


def test_8_bits_are_calibrated_on_training_clips_all_over_the_split(trained):
    model = copy.deepcopy(trained[1])
    model.classes = None
    recipe = RECIPE.override({"train_clips": 24, "val_clips": 24})
    first, middle, last = calibration_clips(model, recipe, 3)
    learnt = eval_data(recipe, model, videos=load_split(recipe, "train"))
    for clip, number in ((first, 0), (middle, 11), (last, 23)):
        assert torch.equal(clip, learnt[number][0])
        assert not torch.equal(clip, eval_data(recipe, model)[number][0])
    assert len(calibration_clips(model, recipe)) == 24


def test_a_file_without_a_recipe_is_exported_at_a_given_size_and_read_as_a_program_alone(trained, tmp_path):
    with pytest.raises(ValueError, match="no recipe tells how large clips are: give size"):
        export(trained[1], tmp_path / "bare.pt2", "torch")
    export(trained[1], tmp_path / "bare.pt2", "torch", size=32)
    assert load_exported(tmp_path / "bare.pt2").size == 32
    with pytest.raises(ValueError, match="bare.pt2 holds no recipe"):
        load_network(tmp_path / "bare.pt2")
    save_model(tmp_path / "bare.safetensors", trained[1])
    with pytest.raises(ValueError, match="bare.safetensors holds no recipe"):
        load_network(tmp_path / "bare.safetensors")
