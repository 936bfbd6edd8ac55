"""All figures of the book have one look."""

import matplotlib
from matplotlib.colors import to_hex

from study.chapters.style import PALETTE, set_style, tint


def test_set_style_sets_size_and_palette():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        plain = matplotlib.rcParams["figure.dpi"]
        set_style()
        assert matplotlib.rcParams["figure.dpi"] > plain
        colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        assert [to_hex(color) for color in colors] == [color.lower() for color in PALETTE]


def test_a_tint_lies_between_white_and_the_colour():
    assert tint("#0072B2", 1) == "#0072b2"
    assert tint("#0072B2", 0) == "#ffffff"
