"""Which network stands behind each row of the paper's tables."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from study.provenance import config_hash


@dataclass(frozen=True)
class Network:
    """A network at the size that a row is about. The fields are those of `ctnet.create_model` and `count_cost`."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    frames: int = 8
    size: int = 256
    classes: int = 174

    def config(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @property
    def key(self) -> str:
        """Hash of the configuration, by which costs are found."""
        return config_hash(self.config())


@dataclass(frozen=True)
class Row:
    """A row's networks, all of them run on the same crops x clips of a video."""

    networks: tuple[Network, ...]
    view: str = "1x1"

    @property
    def views(self) -> int:
        """How many clips of T frames a network sees of a video."""
        return math.prod(map(int, self.view.split("x")))


def _row(
    model: str = "ctnet_r50", *, view: str = "1x1", frames: int = 8, size: int = 256, classes: int = 174, **options: Any
) -> Row:
    return Row((Network(model, options, frames, size, classes),), view)


def _ensemble(*frames: int, view: str = "1x1") -> Row:
    return Row(tuple(Network("ctnet_r50", frames=number) for number in frames), view)


PLAIN: dict[str, Any] = {"excitation": "none", "pointwise": False}
"""The CT-Module alone, as in Tables 2a-2f and 7: no PWConv, no TE."""

_MODULES = {
    "c3d-module": _row("c3d_r50"),
    "r-2-1-d-module": _row("r2plus1d_r50"),
    "csn-module": _row("csn_r50"),
    "ct-module": _row(**PLAIN),
}
_R50_KINETICS = Network("ctnet_r50", frames=16, classes=400)
_R101_KINETICS = Network("ctnet_r101", frames=16, classes=400)

_SOMETHING_PEERS_2D = {
    "eco-en-lite-92": Row(tuple(Network("eco_lite", frames=frames, size=224) for frames in (16, 20, 24, 32))),
    "pem-tdloss-8x3x2": _row("tim_r50", view="3x2"),
    "pem-tdloss-16x3x2": _row("tim_r50", frames=16, view="3x2"),
    "blvnet-tam-8x2": _row("blvnet_tam_r50", frames=16, size=224),
    "blvnet-tam-16x2": _row("blvnet_tam_r50", frames=32, size=224),
} | {
    f"{row}-{frames}": _row(model, frames=frames, size=224)
    for row, model in (("tsm", "tsm_r50"), ("teinet", "teinet_r50"), ("tea", "tea_r50"), ("pem-tdloss", "tim_r50"))
    for frames in (8, 16)
}
_KINETICS_PEERS_2D = {
    "tsm-16x3x10": _row("tsm_r50", frames=16, classes=400, view="3x10"),
    "teinet-16x3x10": _row("teinet_r50", frames=16, classes=400, view="3x10"),
    "tea-16x3x10": _row("tea_r50", frames=16, classes=400, view="3x10"),
    "pem-tdloss-16x3x10": _row("tim_r50", frames=16, classes=400, view="3x10"),
    "blvnet-tam-16x2-x3x3": _row("blvnet_tam_r50", frames=32, classes=400, view="3x3"),
    "smallbignet-32x3x4": _row("smallbig_r101", frames=32, classes=400, view="3x4"),
}

_SOMETHING_PEERS_3D = {
    "ir-csn-3d-r101-32x1x10": _row("ir_csn_r101", frames=32, view="1x10"),
    "ir-csn-3d-r152-32x1x10": _row("ir_csn_r152", frames=32, view="1x10"),
    "corrnet-32x1x10": _row("corrnet_r50", frames=32, size=224, view="1x10", num_frames=32),
}
_KINETICS_PEERS_3D = {
    "r-2-1-d-32x1x10": _row("r2plus1d34", frames=32, size=112, classes=400, view="1x10"),
    "i3d-64xn-axn-a": _row("i3d_inception", frames=64, size=224, classes=400),
    "corrnet-32x1x10": _row("corrnet_r50", frames=32, size=224, classes=400, view="1x10", num_frames=32),
    "x3d-xl-16x3x10": _row("x3d_xl", frames=16, size=356, classes=400, view="3x10"),
    "nl-i3d-128x3x10": _row("nl_i3d_r101", frames=128, classes=400, view="3x10"),
    "slowfast-80-16-64-x3x10": _row("slowfast_r101_16x8", frames=64, classes=400, view="3x10"),
} | {
    f"{row}-32{views}x10": _row(model, frames=32, classes=400, view="3x10")
    for row, model, views in (
        ("ip-csn-3d-r101", "ip_csn_r101", "x3"),
        ("ip-csn-3d-r152", "ip_csn_r152", "x3"),
        ("slowfast-36-4", "slowfast_r50_4x16", "-x3"),
        ("slowfast-3d-r50-r50-40-8", "slowfast_r50_8x8", "-x3"),
        ("slowfast-3d-r101-r101-40-8", "slowfast_r101_8x8", "-x3"),
    )
}

ROWS: dict[str, dict[str, Row]] = {
    "2a": _MODULES,
    "2b": {f"k{k}": _row(sizes=k, **PLAIN) for k in (1, 2, 3, 4)},
    "2c": {name: _row(connection=name, **PLAIN) for name in ("coupling", "serial", "parallel")},
    "2d": {f"c2-{c2}": _row(sizes=[-1, c2], **PLAIN) for c2 in (1, 4, 16)} | {"c2-sqrt": _row(**PLAIN)},
    "2e": {"blocks-0": _row("tsn_r50")} | {f"blocks-{b}": _row(blocks=b, **PLAIN) for b in (1, 4, 6, 7, 12)},
    "2f": {f"kernels-{a}-{b}": _row(kernels=[a, b], **PLAIN) for a, b in ((1, 3), (1, 5), (3, 3), (3, 5), (5, 5))},
    "2g": {
        "baseline-tsn": _row("tsn_r50"),
        "ct-module": _row(**PLAIN),
        "ct-module-pwconv": _row(excitation="none"),
        "ct-module-pwconv-se": _row(excitation="se"),
        "ct-module-pwconv-te": _row(),
    },
    "2h": {
        "train-224-test-224": _row(size=224),
        "train-224-test-256": _row(),
        "train-256-test-256": _row(),
    },
    "3": {
        "tsn-8": _row("tsn_r50", size=224),
        "ct-net-8": _row(),
        "ct-net-8x3x2": _row(view="3x2"),
        "tsn-16": _row("tsn_r50", frames=16, size=224),
        "ct-net-16": _row(frames=16),
        "ct-net-16x3x2": _row(frames=16, view="3x2"),
        "ct-net-en-8-12-16-24": _ensemble(8, 12, 16, 24),
    }
    | _SOMETHING_PEERS_2D
    | _SOMETHING_PEERS_3D,
    "4": {
        "ct-net-r50-16x3x4": Row((_R50_KINETICS,), "3x4"),
        "ct-net-r101-16x3x4": Row((_R101_KINETICS,), "3x4"),
        "ct-net-en-16-16-x3x4": Row((_R50_KINETICS, _R101_KINETICS), "3x4"),
    }
    | _KINETICS_PEERS_2D
    | _KINETICS_PEERS_3D,
    "6": {
        f"{frames}{suffix}": _row(frames=frames, view=view)
        for suffix, view in (("", "1x1"), ("x1x2", "1x2"), ("x3x2", "3x2"))
        for frames in (8, 12, 16, 24)
    }
    | {
        "8-16": _ensemble(8, 16),
        "8-12-16-24-x1x1": _ensemble(8, 12, 16, 24),
        "8-12-16-24-x1x2": _ensemble(8, 12, 16, 24, view="1x2"),
        "8-12-16-24-x3x2": _ensemble(8, 12, 16, 24, view="3x2"),
    },
    "7": _MODULES,
    "8": {
        "tsn-resnet-50": _row("tsn_r50"),
        "ct-net-resnet-50": _row(),
        "tsn-inceptionv3": _row("tsn_inceptionv3", size=299),
        "ct-net-inceptionv3": _row("ctnet_inceptionv3", size=299),
    },
}
"""Table -> id of a row -> its networks. A row that is missing here is not measured."""

IN_TEXT = {"3.3": {"resnet-101": _row("ctnet_r101", frames=16, classes=400, blocks="odd")}}
"""Section -> networks that its text describes and no table has. 3.3: every second block, of ResNet-101 too."""

NOT_REPRODUCED: dict[str, dict[str, str]] = {
    "3": {
        "nl-i3d-gcn-32x3x2": "its graph stands on the proposals of a detector, and no public configuration of both is "
        "known; its inflated ResNet-50 has 152 of the 303 GFLOPs of a clip, 173 with non-local blocks",
    },
    "4": {
        "corrnet-32x3x10": "no code of the authors is known; the reading of their paper that has the printed cost of "
        "CorrNet-50 has too small a cost with 101 layers",
        "tsn-25x10x1": "the backbone is only called Inception; 25 frames cost 71 GFLOPs in InceptionV3 at 224 x 224, "
        "its own 299 x 299 takes 143, and 80 is those 143 times (224 / 299)^2",
    },
}
"""Table -> id of a row -> why no network stands for it: no public configuration has the printed cost."""
