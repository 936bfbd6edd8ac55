"""What a reader plays with on a page: data that the package computes, a plain picture, and the script's name.

The scripts are in `book/_static/explorers`. Where they do not run the picture stays.
"""

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import product
from typing import Any

import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ctnet.analysis import receptive_field
from ctnet.models import CTModule
from ctnet.models.ct_module import Connection
from study.chapters.markup import anchor
from study.chapters.plots import stage_of
from study.chapters.style import small_png
from study.claims import claim_id
from study.measured import measured
from study.paper import PLAIN, TABLES, Network, table

EXTENTS = (1, 3, 5)
"""Kernels of a sub-operation that can be chosen: n x n x n."""
CHANNELS = 16
KS = (1, 2, 3, 4)
"""Numbers of sub-dimensions that can be chosen."""
_FIELD_CODE = ("ctnet/models", "ctnet/analysis/fields.py", "study/chapters/explorers.py", "study/paper.py")
_COST_CODE = ("ctnet/models", "study/chapters/explorers.py", "study/chapters/plots.py")


def explorer(kind: str, label: str, data: Any, picture: str) -> HTML:
    """A place on the page where a script builds something to play with.

    Args:
        kind: the script's name.
        label: what it is, for those who cannot see it.
        data: that the script works on, as JSON can hold it.
        picture: HTML that stays where scripts do not run.
    """
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    return HTML(
        f'<div class="explorer explorer-{kind}" data-explorer="{kind}" role="group" aria-label="{label}">'
        f'<script type="application/json">{content}</script><div class="explorer-picture">{picture}</div></div>'
    )


def drawn(figure: Figure, alt: str) -> str:
    """A figure as a picture in HTML."""
    content = base64.b64encode(small_png(figure)).decode()
    return f'<img class="drawn" src="data:image/png;base64,{content}" alt="{escape(alt)}">'


def webp(pixels: Any, quality: int | None = None) -> str:
    """Pixels, uint8 (H, W) or (H, W, 3), as the address of a WebP picture; without loss unless a quality is given."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=quality is None, quality=quality or 100, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


# -- Receptive fields --------------------------------------------------------------------------------------------------


def receptive_fields(picture: str, compact: bool = False) -> HTML:
    """Which channels and positions reach an output, for K = 1 to 4, each connection, and every choice of kernels.

    Args:
        picture: that stays where scripts do not run.
        compact: with fewer choices.
    """
    data = measured("explorer-fields", _fields, _FIELD_CODE)
    return explorer("fields", "Receptive field of a CT-Module", data | {"compact": compact}, picture)


def _fields() -> dict[str, Any]:
    channels = {k: measure_channels(k) for k in KS}
    return {"extents": EXTENTS, "channels": channels, **measure_positions(("parallel", "serial", "coupling"), KS)}


def measure_positions(connections: Iterable[Connection], ks: Iterable[int]) -> dict[str, Any]:
    """Which positions reach an output, measured from gradients, for every choice of kernels.

    Returns:
        "frames", texts that mark which positions of a frame reach the output, and "positions": connection ->
        kernels, such as "353" -> the "extent" of the box, and for each of its "frames" the number among those texts.
    """
    numbers: dict[str, int] = {}
    positions: dict[str, dict[str, Any]] = {connection: {} for connection in connections}
    for (connection, found), k in product(positions.items(), ks):
        for kernels in product(EXTENTS, repeat=k):
            module = CTModule(CHANNELS, sizes=k, kernels=kernels, connection=connection, **PLAIN)
            field = receptive_field(module, CHANNELS, size=3 + sum(extent - 1 for extent in kernels))
            spans = [(int(index.min()), int(index.max()) + 1) for index in field.positions.nonzero(as_tuple=True)]
            box = field.positions[tuple(slice(*span) for span in spans)]
            frames = [numbers.setdefault(_marks(frame), len(numbers)) for frame in box]
            found["".join(map(str, kernels))] = {"extent": field.extent, "frames": frames}
    return {"frames": list(numbers), "positions": positions}


def measure_channels(k: int) -> dict[str, Any]:
    """Which channels reach each other, measured from gradients.

    Returns:
        "sizes" of the sub-dimensions, and "steps": after 1 to K sub-operations, for each channel of the output a text
        that marks which channels of the input reach it. Both are in the order of the input.
    """
    module = CTModule(CHANNELS, sizes=k, kernels=1, **PLAIN)
    sizes, operations, steps = module.sizes, module.sub_operations, []
    for done in range(1, k + 1):
        module.sub_operations, module.sizes = operations[:done], sizes[:done]
        order = module.output_order.tolist()
        fields = (receptive_field(module, CHANNELS, size=3, channel=place) for place in range(CHANNELS))
        reached = {channel: _marks(field.reached) for channel, field in zip(order, fields, strict=True)}
        steps.append([reached[channel] for channel in range(CHANNELS)])
    return {"sizes": sizes, "steps": steps}


def _marks(chosen: Tensor) -> str:
    return "".join(str(int(mark)) for mark in chosen.flatten())


# -- Costs -------------------------------------------------------------------------------------------------------------

PIXELS = (112, 128, 160, 192, 224, 256, 288, 299, 320)
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "r50": ("ResNet-50", {"0": 0, "1": 1, "4": 4, "6": 6, "7": None, "12": 12}),
    "r101": ("ResNet-101", {"0": 0, "11": None, "15": "odd"}),
    "inceptionv3": ("InceptionV3", {"0": 0, "4": None}),
}
"""Backbones, and for each how many of its convolutions may be replaced, with the model's option "blocks"."""
_USUAL = {"sizes": 2, "pointwise": True, "excitation": "te"}
_FIXED: dict[str, tuple[Any, ...]] = {"connection": ("parallel",), "kernels": (3, [3, 3])}
"""Options that cannot be chosen, and the values that leave a network among those that can."""


def network_of(settings: Mapping[str, Any]) -> Network:
    """The network that the settings of the cost explorer mean.

    Args:
        settings: "backbone", "blocks", "sizes" (K), "pointwise", "excitation", "frames", "size", "classes".
    """
    shape = {name: settings[name] for name in ("frames", "size", "classes")}
    if settings["blocks"] == "0":
        return Network(f"tsn_{settings['backbone']}", **shape)
    blocks = BACKBONES[settings["backbone"]][1][settings["blocks"]]
    options = {name: settings[name] for name in _USUAL} | ({} if blocks is None else {"blocks": blocks})
    return Network(f"ctnet_{settings['backbone']}", options, **shape)


def settings_of(network: Network) -> dict[str, Any] | None:
    """The settings that mean a network; None when it is none that can be chosen."""
    method, _, backbone = network.model.partition("_")
    options = {name: value for name, value in network.options.items() if name != "num_frames"}
    blocks = 0 if method == "tsn" else options.pop("blocks", 7 if backbone == "r50" else None)
    chosen = _USUAL | {name: value for name, value in options.items() if name not in _FIXED}
    known = {7 if option is None and backbone == "r50" else option: name for name, option in _blocks(backbone).items()}
    fixed = all(options.get(name, values[0]) in values for name, values in _FIXED.items())
    if method not in ("tsn", "ctnet") or blocks not in known or not fixed or chosen["sizes"] not in KS:
        return None
    shape = {"frames": network.frames, "size": network.size, "classes": network.classes}
    return {"backbone": backbone, "blocks": known[blocks]} | chosen | shape


def _blocks(backbone: str) -> dict[str, Any]:
    return BACKBONES.get(backbone, ("", {}))[1]


def costs(picture: str) -> HTML:
    """The cost of CT-Net for every choice of its parts, counted in the page, beside the printed rows."""
    return explorer("costs", "Cost of a CT-Net", cost_data(), picture)


def cost_data() -> dict[str, Any]:
    """What the script counts with: the layers of each backbone, which are replaced, and what the tables print."""
    data: dict[str, Any] = measured("explorer-costs", _layers, _COST_CODE)
    printed = list(_printed())
    chosen = [row["settings"] for row in printed]
    kinds = {name: sorted({each[name] for each in chosen}) for name in ("frames", "classes")}
    return data | {"pixels": PIXELS, **kinds, "printed": printed}


def _printed() -> Iterator[dict[str, Any]]:
    """What the tables print, for one clip, of networks that can be chosen."""
    for name in TABLES:
        column = "clip_gflops" if "clip_gflops" in table(name).columns else "gflops"
        for row in table(name).rows.values():
            chosen = settings_of(row.networks[0]) if len(row.networks) == 1 else None
            told = row.printed.get(column) is not None and (column == "clip_gflops" or row.views == 1)
            if chosen and told and chosen["size"] in PIXELS:
                figures = {"gflops": str(row.printed[column]), "params": row.printed.get("params")}
                link = f"ledger.html#{anchor(claim_id(name, row.id, column))}"
                yield {"settings": chosen, "row": f"Table {name}, {row.label}", "link": link, **figures}


def _layers() -> dict[str, Any]:
    from ctnet.models.backbones import create_backbone
    from ctnet.models.ctnet import rule_of, select_convs
    from ctnet.models.tensor_conv import sub_dimension_sizes

    found: dict[str, Any] = {}
    channels: set[int] = set()
    for name, (label, numbers) in BACKBONES.items():
        with torch.device("meta"):
            cnn = create_backbone(name)
        found[name] = {"label": label, "replaced": {}, **_followed(cnn)}
        layers = {layer["name"]: layer for layer in found[name]["layers"]}
        for number, option in numbers.items():
            convs = select_convs(cnn, rule_of(name, option)) if number != "0" else []
            shapes = {(layers[conv]["inputs"], layers[conv]["outputs"]) for conv in convs}
            channels |= {outputs for _, outputs in shapes}
            found[name]["replaced"][number] = {"convs": convs, "sizes": [k for k in KS if _fits(shapes, k)]}
    sizes = {c: {k: sub_dimension_sizes(c, k) for k in KS} for c in sorted(channels)}
    return {"backbones": found, "sizes": sizes}


def _fits(shapes: Iterable[tuple[int, int]], k: int) -> bool:
    """Whether groups of the first sub-operation divide the inputs of convolutions of (inputs, outputs)."""
    from ctnet.models.tensor_conv import sub_dimension_sizes

    return all(inputs % (outputs // sub_dimension_sizes(outputs, k)[0]) == 0 for inputs, outputs in shapes)


@torch.no_grad()
def _followed(cnn: nn.Module) -> dict[str, Any]:
    """The convolutions of a backbone in the order in which they run, and how many positions each has at every size.

    A batch normalisation follows every one of them, and counts with it.
    """
    from ctnet.models.tsn import trunk

    stages = trunk(cnn).eval()
    names = {module: name for name, module in cnn.named_modules()}
    layers: dict[str, dict[str, Any]] = {}

    def note(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shape = {"inputs": module.in_channels, "outputs": module.out_channels, "kernel": module.kernel_size}
        about = {"name": names[module], "stage": stage_of(names[module]), **shape, "areas": []}
        layers.setdefault(names[module], about)["areas"].append(output.shape[2] * output.shape[3])

    for module in stages.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    last = [stages(torch.empty(1, 3, size, size, device="meta")).shape for size in PIXELS]
    features = {"channels": last[0][1], "areas": [shape[2] * shape[3] for shape in last]}
    return {"layers": list(layers.values()), "features": features}
