import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ctnet
from ctnet.data import load_videos
from ctnet.engine import checkpoint, load_model, load_recipe, save_model
from ctnet.engine.checkpoint import read_tensors, write_tensors
from ctnet.micro import MicroSomething, make
from ctnet.models import registry
from ctnet.models.official import read_official_checkpoint


def network(**options):
    torch.manual_seed(0)
    return ctnet.create_model("ctnet_r26_twin", num_classes=3, num_frames=4, **options).eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"sizes": 3, "connection": "serial", "excitation": "none", "pointwise": False}, {"blocks": {"layer4": [1]}}],
    ids=["paper", "ablation", "blocks"],
)
def test_a_loaded_network_gives_the_same_scores_and_knows_its_classes(options, tmp_path):
    model, path = network(**options), tmp_path / "model.safetensors"
    model.input_mean, model.input_std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    save_model(path, model, classes=["b", "a", "c"])
    loaded, clip = load_model(path), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(clip), model(clip))
    assert loaded.classes == ["b", "a", "c"]
    assert (loaded.num_frames, loaded.config) == (4, model.config)
    assert (loaded.input_mean, loaded.input_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert not loaded.training


def test_the_order_of_classes_travels_from_the_dataset_to_the_checkpoint(tmp_path):
    root = make("MicroSomething", tmp_path / "v1", "somethingv1", counts={"train": 24, "val": 24, "test": 1}, size=32)
    videos = load_videos(root, "train")
    model = ctnet.create_model("tsn_r26_twin", num_classes=len(videos.classes))
    save_model(tmp_path / "model.safetensors", model, videos.classes)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.classes == videos.classes == sorted(item.name for item in MicroSomething.classes)


def test_a_checkpoint_is_as_readable_as_any_new_file(tmp_path):
    save_model(tmp_path / "model.safetensors", network())
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_network_saved_twice_keeps_its_classes(tmp_path):
    save_model(tmp_path / "a", network(), classes=["x", "y", "z"])
    save_model(tmp_path / "b", load_model(tmp_path / "a"))
    assert load_model(tmp_path / "b").classes == ["x", "y", "z"]
    assert load_model(tmp_path / "b").head.weight.equal(network().head.weight)


def test_what_cannot_be_saved_is_refused_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, network())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="2 class names were given for 3 scores"):
        save_model(path, network(), classes=["a", "b"])
    with pytest.raises(ValueError, match=r"only a network that ctnet\.create_model has built"):
        save_model(path, ctnet.tensorize(ctnet.models.resnet_twin()))
    with pytest.raises(ValueError, match=r"no longer the ctnet_r26_twin that ctnet\.create_model built: .* differ"):
        save_model(path, ctnet.optimize(network()))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_whose_builder_reads_values_is_saved_unchecked(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "NETWORKS", registry.NETWORKS.copy())

    @ctnet.models.register("drawn")
    def build(num_classes, num_frames, dropout):
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]  # nothing to read on the meta device
        return ctnet.models.TSN(ctnet.models.resnet_twin(), num_classes, num_frames, dropout + 0 * rates[0])

    save_model(tmp_path / "drawn.safetensors", ctnet.create_model("drawn", num_classes=3))
    assert load_model(tmp_path / "drawn.safetensors").config["name"] == "drawn"


def test_a_network_is_saved_from_what_compiles_it_and_with_another_head(tmp_path):
    model = network()
    model.head = torch.nn.Linear(model.head.in_features, 5)
    model.classes = list("abcde")
    save_model(tmp_path / "model.safetensors", torch.compile(model))
    loaded = load_model(tmp_path / "model.safetensors")
    assert (loaded.classes, loaded.config["num_classes"]) == (list("abcde"), 5)
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_a_network_is_saved_from_what_trains_it_in_parallel(tmp_path):
    model, store = network(), torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        save_model(tmp_path / "model.safetensors", parallel)
    finally:
        torch.distributed.destroy_process_group()
    loaded = load_model(tmp_path / "model.safetensors").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def damage(path, kind):
    if kind == "junk":
        path.write_bytes(b"junk")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "foreign":
        save_file(load_file(path), path)
    elif kind == "other network":
        about = {"config": network().config | {"num_classes": 7}, "classes": None, "normalisation": {}}
        save_file(load_file(path), path, {"format": "ctnet-1", "about": json.dumps(about)})
    elif kind == "no description":
        save_file(load_file(path), path, {"format": "ctnet-1"})


@pytest.mark.parametrize("kind", ["junk", "empty", "truncated", "foreign", "other network", "no description"])
def test_damaged_and_foreign_files_are_refused_in_one_line(kind, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, network())
    damage(path, kind)
    with pytest.raises(ValueError, match=r"model\.safetensors") as refused:
        load_model(path)
    assert "\n" not in str(refused.value)


def test_tensors_that_share_memory_are_all_written(tmp_path):
    """As the weights of layers that are tied."""
    one = torch.arange(6.0)
    write_tensors(tmp_path / "tied.safetensors", {"a": one, "b": one, "c": one[2:4]}, {})
    found, _ = read_tensors(tmp_path / "tied.safetensors")
    assert {name: each.tolist() for name, each in found.items()} == {
        "a": one.tolist(),
        "b": one.tolist(),
        "c": [2.0, 3.0],
    }


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_model(tmp_path / "nothing")


def test_a_converted_network_says_that_it_was_not_trained_here(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "read_official_checkpoint", lambda path: {"new_fc.weight": torch.zeros(9, 1)})
    monkeypatch.setattr(checkpoint, "load_official_checkpoint", lambda model, state_dict: None)
    checkpoint.convert_official("theirs/net.pth.tar", tmp_path / "a.safetensors", ctnet.engine.get_recipe("kinetics"))
    assert load_recipe(tmp_path / "a.safetensors").init == "net.pth.tar"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of this package, a file of torch, and a place for damaged copies of them."""
    folder = tmp_path_factory.mktemp("written")
    save_model(folder / "ours", network(), ["a", "b", "c"], ctnet.engine.get_recipe("kinetics"))
    torch.save({"state_dict": {"a": torch.arange(5.0)}, "epoch": 3}, folder / "theirs")
    return (folder / "ours").read_bytes(), (folder / "theirs").read_bytes(), folder / "damaged"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_rightly_or_refused_in_one_line(written, data):
    ours, theirs, path = written
    content = bytearray(data.draw(st.sampled_from([ours, theirs, b""])))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, min(len(content), 3000)))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for read in (load_model, load_recipe, read_official_checkpoint):
        message = "one line"
        try:
            read(path)
        except ValueError as error:
            message = str(error)
        assert len(message.splitlines()) == 1
