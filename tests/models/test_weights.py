import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ctnet
from ctnet.models import find_weights, list_weights
from ctnet.models.weights import weights_folder

ROOT = Path(__file__).parents[2]


def test_a_trained_twin_comes_by_name_with_its_classes():
    model = ctnet.create_model("ctnet_r50_twin", weights="micro-something").eval()
    kept = ctnet.load_model(find_weights("ctnet_r50_twin", "micro-something").path)
    clips = torch.rand(1, 3, 8, 64, 64)
    assert torch.equal(model(clips), kept(clips))
    assert model.classes == kept.classes
    assert (model.input_mean, model.input_std) == (kept.input_mean, kept.input_std)


def test_clips_are_normalised_as_the_weights_were_trained(monkeypatch, tmp_path):
    model = ctnet.create_model("tsn_r26_twin", num_classes=2)
    model.input_mean, model.input_std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    (tmp_path / "checkpoints").mkdir()
    ctnet.save_model(tmp_path / "checkpoints" / "tsn_r26_twin-Mine-0.safetensors", model, classes=["a", "b"])
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    again = ctnet.create_model("tsn_r26_twin", num_classes=2, weights="mine")
    assert (again.input_mean, again.input_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_trained_twin_takes_a_head_for_other_classes():
    trained = ctnet.create_model("ctnet_r50_twin", weights="micro-something").eval()
    model = ctnet.create_model("ctnet_r50_twin", num_classes=99, weights="micro-something").eval()
    clips = torch.rand(1, 3, 8, 64, 64)
    assert torch.equal(model.forward_features(clips), trained.forward_features(clips))
    assert model(clips).shape == (1, 99)
    assert (model.classes, model.config["num_classes"], trained.config["num_classes"]) == (None, 99, 24)


def test_every_file_of_weights_has_a_name():
    files = {path for name in ctnet.list_models() for path in list_weights(name).values()}
    assert files == set(weights_folder().glob("*.safetensors"))
    assert files


def test_weights_that_are_not_here_are_refused_in_a_line_that_helps(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="for ctnet_r50_twin: there are micro-something; a clone"):
        ctnet.create_model("ctnet_r50_twin", weights="micro-somethign")
    with pytest.raises(ValueError, match="for ctnet_r50: there are imagenet, and none lie in"):
        ctnet.create_model("ctnet_r50", weights="imagnet")
    with pytest.raises(ValueError, match="other options"):
        ctnet.create_model("ctnet_r50_twin", weights="micro-something", excitation="se")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"there are none, and none lie in .*study run --weights"):
        ctnet.create_model("ctnet_r50_twin", weights="micro-something")


@pytest.mark.parametrize("damage", ["pointer", "cut", "foreign", "undescribed"])
def test_a_damaged_file_is_refused_in_a_line(monkeypatch, tmp_path, damage):
    kept = find_weights("ctnet_r50_twin", "micro-something").path
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    path = tmp_path / "checkpoints" / kept.name
    path.parent.mkdir()
    if damage == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif damage == "cut":
        path.write_bytes(kept.read_bytes()[:-1000])
    else:
        save_file({"a": torch.ones(1)}, path, {"about": "{}"} if damage == "undescribed" else None)
    with pytest.raises(
        ValueError, match=r"is damaged, or no file of weights that ctnet wrote .*`git lfs pull`"
    ) as error:
        ctnet.create_model("ctnet_r50_twin", weights="micro-something")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_torch_hub_builds_networks_with_labels_and_a_transform():
    code = f"""
import torch
model = torch.hub.load({str(ROOT)!r}, "ctnet_r50_twin", source="local", weights="micro-something")
frames = torch.randint(0, 255, (8, 3, 80, 120), dtype=torch.uint8)
clip = model.transform(frames).movedim(0, 1)
print(tuple(clip.shape), tuple(model(clip[None]).shape), len(model.classes), model.training)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(3, 8, 64, 64) (1, 24) 24 False"
