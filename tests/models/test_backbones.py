import pytest
import torch
import torchvision

import ctnet
from ctnet.models import registry


def test_imagenet_weights_come_from_torchvisions_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = torchvision.models.resnet50()
    for value in source.state_dict().values():  # also statistics, which no pass over a picture may touch
        if value.is_floating_point() and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(source.state_dict(), folder / torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    model = ctnet.create_model("ctnet_r50", weights="imagenet")
    ours, theirs = model.backbone.state_dict(), source.state_dict()
    shared = [name for name in ours if ".module." not in name]
    assert len(shared) > 0.8 * len(theirs)
    for name in shared:
        torch.testing.assert_close(ours[name], theirs[name], msg=name, rtol=0, atol=0)


def test_without_a_network_imagenet_weights_fail_with_one_line(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("name resolution failed")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(RuntimeError, match=r"cannot download the ImageNet weights.*weights=None"):
        ctnet.create_model("ctnet_r50", weights="imagenet")


@pytest.mark.parametrize("told", ["XDG_CACHE_HOME", "set_dir"])
def test_the_error_names_the_folder_that_torch_looks_into(tmp_path, monkeypatch, told):
    def unreachable(*args, **kwargs):
        raise OSError("name resolution failed")

    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setattr("torch.hub._hub_dir", None)
    if told == "set_dir":
        torch.hub.set_dir(tmp_path)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path if told == "set_dir" else tmp_path / "torch" / "hub"
    with pytest.raises(RuntimeError, match=f"put torchvision's file into {folder}/checkpoints, or"):
        ctnet.create_model("tsn_r50", weights="imagenet")


OFFERED = [name for name, entry in registry.NETWORKS.items() if entry.pretrained and not name.endswith("twin")]


@pytest.mark.parametrize("name", OFFERED)
def test_imagenet_weights_reach_every_network_that_offers_them(name, monkeypatch):
    """Nothing is downloaded: torchvision's builders tell which weights they are asked for, and build without."""
    asked, find = [], torchvision.models.get_model_builder

    def find_builder(cnn):
        def build(weights=None, **options):
            asked.append(weights)
            fresh = {} if cnn.startswith("resnet") else {"init_weights": False, "aux_logits": cnn != "googlenet"}
            return find(cnn)(weights=None, **options | fresh)

        return build

    monkeypatch.setattr(torchvision.models, "get_model_builder", find_builder)
    with torch.device("meta"):
        ctnet.create_model(name, num_classes=5, weights="imagenet")
    assert asked == ["IMAGENET1K_V1"]


@pytest.mark.parametrize("name", ["tsn_r26_twin", "ctnet_r26_twin", "c3d_r26_twin", "r2plus1d_r50_twin", "tsn_r50"])
def test_without_its_last_stride_a_resnet_has_maps_twice_as_fine_and_the_same_weights(name):
    usual, fine = (ctnet.create_model(name, 5, last_stride=stride).eval() for stride in (2, 1))
    fine.load_state_dict(usual.state_dict())
    clips = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        stages, finer = usual.forward_stages(clips), fine.forward_stages(clips)
    for stage in ("layer1", "layer2", "layer3"):
        assert torch.equal(stages[stage], finer[stage])
    side = stages["layer4"].shape[-1]
    assert finer["layer4"].shape[-2:] == (2 * side, 2 * side)
    if name == "tsn_r26_twin":  # every second position of its shortcut is what was there with the stride
        first = fine.backbone.layer4[0].downsample(finer["layer3"][:, :, 0])
        torch.testing.assert_close(first[..., ::2, ::2], usual.backbone.layer4[0].downsample(stages["layer3"][:, :, 0]))
    assert {**fine.config, "last_stride": 2} == usual.config
