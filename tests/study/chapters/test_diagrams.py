import re
from functools import cache

import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from ctnet.analysis import progressive_fields
from ctnet.models import CTModule, create_model, csn_module, r2plus1d_module, tensorize
from study.chapters.diagrams import (
    draw_ct_block,
    draw_network,
    draw_receptive_fields,
    draw_tensor_excitation,
    draw_tensorization,
)
from study.chapters.style import COLORS, tint
from study.chapters.zoo import METHODS, draw_block

PLAIN = {"excitation": "none", "pointwise": False}
MODULES = {
    "te": CTModule(64),
    "se": CTModule(256, connection="serial", excitation="se", kernels=(3, 5)),
    "coupling": CTModule(256, connection="coupling", sizes=(64, 4)),
    "plain": CTModule(64, **PLAIN),
    "k1": CTModule(64, sizes=1, excitation="none"),
    "k3": CTModule(64, sizes=3),
    "k4": CTModule(512, sizes=4),
    "wide": CTModule(512, connection="serial"),
    "r2plus1d": r2plus1d_module(64),
    "csn": csn_module(64),
}


COMPARED = pd.DataFrame(
    {"gflops": 52.19, "params": 24.46, "accuracy": 61.2, "low": 59.0, "high": 63.0, "seeds": 3}, index=list(METHODS)
)


@cache
def fields_of(connection="parallel", channels=16, sizes=2):
    return progressive_fields(CTModule(channels, sizes=sizes, connection=connection, **PLAIN), channels, size=9)


@cache
def network(name):
    with torch.device("meta"):  # shapes alone: random weights take seconds
        return create_model(name)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def cells_colored(figure, color):
    meshes = [artist for artist in figure.axes[0].collections if isinstance(artist, QuadMesh)]
    return sum(to_hex(fill) == color.lower() for mesh in meshes for fill in mesh.get_array().reshape(-1, 3))


def boxes_colored(figure, color):
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return sum(to_hex(patch.get_facecolor()) == color.lower() for patch in patches)


DRAWN = {
    **{f"block {name}": lambda module=module: draw_ct_block(module) for name, module in MODULES.items()},
    **{f"block of {method}": lambda method=method: draw_block(method, COMPARED) for method in METHODS},
    "tensorization": lambda: draw_tensorization((4, 4), fields_of()),
    "tensorization large": lambda: draw_tensorization((16, 4), fields_of(channels=64, sizes=(16, 4))),
    "fields": lambda: draw_receptive_fields({"parallel": fields_of(), "K = 3": fields_of(channels=8, sizes=3)}),
    "excitation": lambda: draw_tensor_excitation(MODULES["te"].sub_operations[1]),
    "excitation wide": lambda: draw_tensor_excitation(CTModule(512, connection="coupling").sub_operations[0]),
    "resnet": lambda: draw_network(network("ctnet_r101")),
    "inception": lambda: draw_network(network("ctnet_inceptionv3"), 299),
}


@pytest.mark.parametrize("name", DRAWN)
def test_text_is_apart_and_within_its_box_and_arrows_hit_something(name):
    figure = DRAWN[name]()
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    words = [(text, text.get_window_extent(renderer)) for text in axes.texts if text.get_text()]
    for i, (text, extent) in enumerate(words):
        for other, other_extent in words[i + 1 :]:
            assert not extent.overlaps(other_extent), (text.get_text(), other.get_text())
        assert figure.bbox.x0 <= extent.x0, text.get_text()
        assert extent.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= extent.y0 + 2, text.get_text()
        assert extent.y1 - 2 <= figure.bbox.y1, text.get_text()
    solid = [patch for patch in axes.patches if not isinstance(patch, FancyArrowPatch) and patch.get_linewidth() > 0]
    frames = [patch.get_window_extent(renderer) for patch in solid]
    for text, extent in words:
        middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        for patch, frame in zip(solid, frames, strict=True):
            if frame.contains(*middle) and not isinstance(patch, Circle):
                assert frame.x0 <= extent.x0, text.get_text()
                assert extent.x1 <= frame.x1, text.get_text()
    if name.startswith(("block", "excitation")):
        targets = [frame.padded(2) for frame in frames] + [extent.padded(8) for _, extent in words]
        for arrow in (patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)):
            head = axes.transData.transform(arrow.get_path().vertices)[-4:]
            assert any(target.contains(*point) for point in head for target in targets)


@pytest.mark.parametrize("name", MODULES)
def test_block_tells_each_sub_operation_as_it_is(name):
    module = MODULES[name]
    drawn = texts(draw_ct_block(module))
    told = [text for text in drawn if text.startswith("Sub-operation")]
    assert told == [
        f"Sub-operation {k + 1}: {operation.connection}, C{'₁₂₃₄'[k]} = {size}"
        for k, (operation, size) in enumerate(zip(module.sub_operations, module.sizes, strict=True))
    ]
    assert drawn.count("PWConv") == len(module.pointwise)
    convolutions = [text for text in drawn if re.fullmatch(r"\d × \d × \d", text)]
    per_operation = 1 if module.sub_operations[0].connection == "coupling" else 2
    assert len(convolutions) == per_operation * len(module.sizes)


def test_block_tells_kernels_groups_and_excitation():
    drawn = texts(draw_ct_block(MODULES["se"]))
    assert [text for text in drawn if re.fullmatch(r"\d × \d × \d", text)] == [
        "1 × 3 × 3",
        "3 × 1 × 1",
        "1 × 5 × 5",
        "5 × 1 × 1",
    ]
    assert drawn.count("16 groups of 16") == 4
    assert (drawn.count("SE"), drawn.count("channel")) == (2, 2)
    te = texts(draw_ct_block(MODULES["te"]))
    assert [te.count(text) for text in ("TE", "spatial", "temporal", "channel")] == [6, 2, 2, 2]
    assert not {"TE", "SE"} & set(texts(draw_ct_block(MODULES["plain"])))


def test_block_without_pwconv_shows_the_rotation_only_where_it_moves_channels():
    assert "rotate" in texts(draw_ct_block(MODULES["plain"]))
    assert "rotate" not in texts(draw_ct_block(MODULES["csn"]))


def test_compared_modules_show_which_dimensions_they_convolve():
    csn = texts(draw_ct_block(MODULES["csn"]))
    assert csn[csn.index("1 × 1 × 1") + 1] == "64 → 64"
    assert csn[csn.index("3 × 3 × 3") + 1] == "channel-wise"
    assert {"1 × 3 × 3", "3 × 1 × 1"} <= set(texts(draw_ct_block(MODULES["r2plus1d"])))
    tints = [boxes_colored(draw_ct_block(MODULES[name]), tint(COLORS["ct"], 0.25)) for name in ("csn", "r2plus1d")]
    assert tints == [2, 1], "the CT-Module, and what is convolved over time and space at once"


def test_excitation_shows_the_shapes_that_pooling_leaves():
    drawn = texts(draw_tensor_excitation(MODULES["te"].sub_operations[0]))
    assert drawn.count("64 × 1 × H × W") == 1
    assert drawn.count("64 × T × 1 × 1") == 2
    assert drawn.count("64 → 16, 8 groups") == drawn.count("16 → 64, 8 groups") == 3
    assert drawn.count("TSConv 1 × 3 × 3") == drawn.count("TSConv 3 × 1 × 1") == drawn.count("TSConv 1 × 1 × 1") == 2
    with pytest.raises(ValueError, match="excitation"):
        draw_tensor_excitation(MODULES["plain"].sub_operations[0])


@pytest.mark.parametrize(("connection", "reached"), [("parallel", 11 + 45), ("serial", 27 + 125)])
def test_tensorization_draws_the_positions_that_were_measured(connection, reached):
    figure = draw_tensorization((4, 4), fields_of(connection))
    in_legend = 2
    assert cells_colored(figure, COLORS["ct"]) == reached + in_legend
    assert cells_colored(figure, COLORS["channel"]) == 4 + 4 + 1
    assert {"4 of 16 channels interact", "16 of 16 channels interact"} <= set(texts(figure))


def test_tensorization_refuses_fields_of_other_sizes():
    with pytest.raises(ValueError, match="8 and 16 channels"):
        draw_tensorization((8, 2), fields_of())


def test_receptive_fields_are_counted_in_words_and_cells():
    figure = draw_receptive_fields({"parallel": fields_of(), "serial": fields_of("serial")})
    assert {"16 channels, 5×5×5", "45 of 125 (36%)", "125 of 125 (100%)", "parallel", "serial"} <= set(texts(figure))
    assert cells_colored(figure, COLORS["ct"]) == 11 + 45 + 27 + 125 + 2


@pytest.mark.parametrize(
    ("name", "blocks", "convs"), [("ctnet_r50", 7, 7), ("ctnet_r101", 11, 11), ("ctnet_inceptionv3", 2, 4)]
)
def test_network_highlights_the_blocks_that_were_replaced(name, blocks, convs):
    figure = draw_network(network(name))
    assert boxes_colored(figure, COLORS["ct"]) == blocks
    assert f"{convs} convolutions replaced, in {blocks} blocks" in texts(figure)


def test_network_tells_the_resolution_of_each_stage():
    drawn = texts(draw_network(network("ctnet_r50"), size=224))
    assert {"64 × 112 × 112", "256 × 56 × 56", "512 × 28 × 28", "1024 × 14 × 14", "2048 × 7 × 7"} <= set(drawn)
    figure = draw_network(network("tsn_r50"))
    assert boxes_colored(figure, COLORS["ct"]) == 0
    assert boxes_colored(figure, tint(COLORS["plain"], 0.3)) == 1 + 16


def test_network_of_another_backbone_is_drawn_and_left_as_it_was():
    cnn = torch.nn.Module()
    cnn.features = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 8, 3, padding=1)
    )
    model = tensorize(cnn, ["features.2"], num_classes=2)
    figure = draw_network(model, 16)
    assert boxes_colored(figure, COLORS["ct"]) == 1
    assert {"8 × 16 × 16", "8 × 8 × 8", "features"} <= set(texts(figure))
    assert model.training
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_notebook_shows_a_diagram_without_pyplot():
    assert draw_ct_block(MODULES["k1"])._repr_png_().startswith(b"\x89PNG")
