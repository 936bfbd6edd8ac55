"""The networks that the paper compares CT-Net with (Tables 3 and 4): one file per method, one interface."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ctnet.models.backbones import create_backbone
from ctnet.models.peers import corrnet, csn, slowfast
from ctnet.models.peers.blvnet_tam import BLVNet
from ctnet.models.peers.eco import ECOLite
from ctnet.models.peers.gsm import gsm
from ctnet.models.peers.i3d import i3d_inception, i3d_r50
from ctnet.models.peers.non_local import nl_i3d_r101
from ctnet.models.peers.r2plus1d import r2plus1d34
from ctnet.models.peers.smallbig import smallbig
from ctnet.models.peers.stm import stm
from ctnet.models.peers.tea import tea
from ctnet.models.peers.teinet import teinet
from ctnet.models.peers.tim import tim
from ctnet.models.peers.tsm import tsm
from ctnet.models.peers.x3d import x3d_xl
from ctnet.models.tsn import TSN, VideoModel

ON_RESNETS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "tsm": tsm,
    "tim": tim,
    "teinet": teinet,
    "tea": tea,
    "stm": stm,
    "smallbig": smallbig,
    "gsm": gsm,
}
"""Method -> what turns a 2D ResNet into its network."""


def _on_resnet(
    method: str, backbone: str, *, num_classes: int, num_frames: int, dropout: float, weights: str | None
) -> TSN:
    if method == "tea" and weights:
        raise ValueError("torchvision has no ImageNet weights for TEA's Res2Net: leave out weights")
    return TSN(ON_RESNETS[method](create_backbone(backbone, weights)), num_classes, num_frames, dropout)


def _from_scratch(
    name: str,
    network: Callable[..., VideoModel],
    *,
    num_classes: int,
    num_frames: int,
    dropout: float,
    weights: str | None,
) -> VideoModel:
    if weights:
        raise ValueError(f"there are no ImageNet weights for {name}: leave out weights")
    return network(num_classes, num_frames, dropout)


_FROM_SCRATCH: dict[str, Callable[..., VideoModel]] = {
    "blvnet_tam_r50": BLVNet,
    "eco_lite": ECOLite,
    "r2plus1d34": r2plus1d34,
    "x3d_xl": x3d_xl,
    **corrnet.NETWORKS,
    **csn.NETWORKS,
    **slowfast.NETWORKS,
}

PEERS: dict[str, Callable[..., VideoModel]] = {
    **{f"{method}_{cnn}": partial(_on_resnet, method, cnn) for method in ON_RESNETS for cnn in ("r50", "r50_twin")},
    "smallbig_r101": partial(_on_resnet, "smallbig", "r101"),
    "i3d_inception": i3d_inception,
    "i3d_r50": i3d_r50,
    "nl_i3d_r101": nl_i3d_r101,
    **{name: partial(_from_scratch, name, network) for name, network in _FROM_SCRATCH.items()},
}
"""Name -> builder, called with num_classes, num_frames, dropout and weights (None or "imagenet")."""
