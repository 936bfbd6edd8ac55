"""A checkpoint of the authors' layout, which is rebuilt literally, must load and agree."""

import pathlib

import numpy as np
import pytest
import torch
from official_layout import OfficialNet

import ctnet
from ctnet.engine import convert_official, get_recipe, load_model, load_recipe
from ctnet.micro import make
from ctnet.models.official import convert_official_key, load_official_checkpoint, read_official_checkpoint


@pytest.fixture(scope="module")
def official():
    torch.manual_seed(0)
    net = OfficialNet().eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "running_mean" in name:
                tensor.normal_(std=0.1)
            elif "running_var" in name or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def state_dict(official):
    return {f"module.{key}": value for key, value in official.state_dict().items()}


@pytest.fixture(scope="module")
def model():
    """A network that tests load weights into."""
    return ctnet.create_model("ctnet_r50")


def test_the_layout_has_the_recorded_number_of_entries(state_dict):
    assert len(state_dict) == 782


def test_loaded_network_gives_the_authors_scores(official, state_dict, tmp_path):
    path = tmp_path / "ct_net_8f_r50.pth.tar"
    torch.save({"epoch": 45, "arch": "resnet50", "state_dict": state_dict, "optimizer": {}, "best_prec1": 50.1}, path)
    model = ctnet.create_model("ctnet_r50", num_classes=174, checkpoint=str(path)).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        expected = official(clip.transpose(1, 2).reshape(2, 12, 64, 64))
        torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-4)


def test_the_authors_file_becomes_one_that_knows_its_network_and_recipe(official, state_dict, tmp_path, run):
    torch.save({"state_dict": state_dict}, tmp_path / "ct_net_8f_r50.pth.tar")
    recipe = get_recipe("somethingv1")
    paths = (
        str(tmp_path / "ct_net_8f_r50.pth.tar"),
        "--recipe",
        "somethingv1",
        "--out",
        str(tmp_path / "new.safetensors"),
    )
    assert run("convert", *paths) == (0, f"{paths[-1]}: ready\n", "")
    model, clip = load_model(tmp_path / "new.safetensors"), torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        expected = official(clip.transpose(1, 2).reshape(1, 12, 32, 32))
        torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-4)
    assert load_recipe(tmp_path / "new.safetensors") == recipe.override({"init": "ct_net_8f_r50.pth.tar"})

    with pytest.raises(ValueError, match="does not fit this model"):
        convert_official(tmp_path / "ct_net_8f_r50.pth.tar", tmp_path / "x", recipe.override({"model": "ctnet_r101"}))
    with pytest.raises(ValueError, match="was not written by the authors' code"):
        convert_official(tmp_path / "new.safetensors", tmp_path / "x", recipe)
    root = tmp_path / "drawn"
    make("MicroSomething", root, "somethingv1", counts={"train": 24, "val": 24, "test": 1}, size=32)
    with pytest.raises(ValueError, match="scores 174 classes, .* has 24"):
        convert_official(tmp_path / "ct_net_8f_r50.pth.tar", tmp_path / "x", recipe.override({"root": str(root)}))
    assert not (tmp_path / "x").exists()


def test_every_entry_sets_a_parameter_of_its_own(state_dict, model):
    converted = [convert_official_key(key) for key in state_dict]
    assert sorted(converted) == sorted(model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("module.new_fc.bias"), "1 entries differ: missing head.bias"),
        (lambda state: state.update({"module.extra.weight": torch.zeros(3)}), "left over extra.weight"),
        (
            lambda state: state.update({"module.new_fc.weight": torch.zeros(400, 2048)}),
            r"head.weight is \(400, 2048\), the model needs \(174, 2048\)",
        ),
        (lambda state: state.clear(), "holds no state dict"),
    ],
    ids=["missing", "left over", "shape", "empty"],
)
def test_a_checkpoint_that_does_not_fit_is_refused_whole(state_dict, model, change, message):
    changed = dict(state_dict)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(changed)
    with pytest.raises(ValueError, match=message):
        load_official_checkpoint(model, changed)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_plain_tsn_refuses_a_ctnet_checkpoint(state_dict):
    with pytest.raises(ValueError, match=r"missing backbone.layer1.1.conv2.weight"):
        load_official_checkpoint(ctnet.create_model("tsn_r50"), state_dict)


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["junk", "payload", "truncated"])
def test_unreadable_files_are_refused_and_execute_nothing(content, tmp_path, capsys):
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": Payload() if content == "payload" else {"a": torch.zeros(1000)}}, path)
    if content != "payload":
        path.write_bytes(b"junk" if content == "junk" else path.read_bytes()[:700])
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        load_official_checkpoint(ctnet.create_model("ctnet_r26_twin"), path)
    assert capsys.readouterr().out == ""


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        load_official_checkpoint(ctnet.create_model("ctnet_r26_twin"), "nowhere.pth")


@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.module.", "_orig_mod.module.", "module._orig_mod.", "model.", "model.net.module."]
)
def test_wrappers_are_taken_off_as_often_as_they_stand(prefix, state_dict, model):
    wrapped = {prefix + key.removeprefix("module."): value for key, value in state_dict.items()}
    torch.nn.init.zeros_(model.head.bias)
    load_official_checkpoint(model, wrapped)
    torch.testing.assert_close(model.head.bias, state_dict["module.new_fc.bias"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_in_this_packages_names_are_loaded_as_they_are(prefix):
    own = ctnet.create_model("ctnet_r26_twin", num_classes=5).eval()
    model, clips = ctnet.create_model("ctnet_r26_twin", num_classes=5).eval(), torch.randn(1, 3, 2, 32, 32)
    load_official_checkpoint(model, {prefix + key: value for key, value in own.state_dict().items()})
    assert torch.equal(model(clips), own(clips))


def test_another_number_of_classes_draws_the_head_anew_where_it_is_asked_for(state_dict, tmp_path):
    torch.save({"state_dict": state_dict}, tmp_path / "file.pth.tar")
    whole = ctnet.create_model("ctnet_r50", checkpoint=tmp_path / "file.pth.tar").state_dict()
    with pytest.warns(UserWarning, match="is of other classes: the head of the network is drawn anew"):
        model = ctnet.create_model("ctnet_r50", num_classes=5, checkpoint=tmp_path / "file.pth.tar")
    found = model.state_dict()
    assert found["head.weight"].shape == (5, 2048)
    assert all(torch.equal(found[key], value) for key, value in whole.items() if not key.startswith("head."))
    with pytest.raises(ValueError, match="2 entries differ: head.weight"):
        load_official_checkpoint(model, state_dict)


def test_counters_of_batch_normalisation_may_be_missing(state_dict, model):
    old = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state_dict)
    load_official_checkpoint(model, old)


def test_a_long_list_is_cut_and_counted(state_dict, model):
    with pytest.raises(ValueError, match=r"\d{3} entries differ") as refused:
        load_official_checkpoint(model, {f"{key}.x": v for key, v in state_dict.items()})
    assert len(str(refused.value)) < 600
    assert str(refused.value).count("; ") == 4
    assert str(refused.value).endswith(" more")


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model_state", "model", "model_ema", "net"])
def test_usual_names_of_state_dicts(name, tmp_path):
    torch.save({"epoch": 3, name: {"a": torch.ones(2)}}, tmp_path / "file")
    assert read_official_checkpoint(tmp_path / "file")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("trained", "mean"), [("state_dict", "state_dict_ema"), ("model", "ema"), ("model", "model_ema")]
)
def test_the_trained_weights_go_before_their_mean(trained, mean, tmp_path):
    torch.save({mean: {"a": torch.zeros(2)}, trained: {"a": torch.ones(2)}}, tmp_path / "file")
    assert read_official_checkpoint(tmp_path / "file")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<!DOCTYPE html><html>", "it is a web page; download the file"),
        ("version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
        ("\x1f\x8b\x08", "it is compressed; unpack it first"),
        ({1: torch.zeros(2)}, "holds no state dict"),
        ({"model": {"optimizer": {}}}, "holds no state dict"),
        ("\n <HTML>", "it is a web page"),
        ("junk", "it is damaged, or no file that torch.save wrote"),
        ({"best": np.float64(1), "state_dict": {}}, "it holds numpy.*scalar besides tensors"),
        ({"cut": pathlib.PurePosixPath("a")}, "it holds pathlib.* besides tensors"),
    ],
)
def test_the_advice_is_ours(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_text(content, "latin-1") if isinstance(content, str) else torch.save(content, path)
    with pytest.raises(ValueError, match=message) as refused:
        read_official_checkpoint(path)
    assert "weights_only" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_a_counter_of_operations_has_left_is_dropped(state_dict, prefix):
    """thop, which the authors' training script calls, registers its counters in the network."""
    places = {"", *(f"{key.removeprefix('module.').rpartition('.')[0]}." for key in state_dict)}
    counted = {f"{prefix}{place}{name}": torch.zeros(1) for place in places for name in ("total_ops", "total_params")}
    held = {prefix + key.removeprefix("module."): value for key, value in state_dict.items()}
    model = ctnet.create_model("ctnet_r50")
    load_official_checkpoint(model, held | counted)
    torch.testing.assert_close(model.head.bias, state_dict["module.new_fc.bias"])
