"""The figure of differences shows what verdicts rest on, and the seeds when a row is pointed at."""

import re

import numpy as np
import pytest

from study.chapters.differences import direction_figure
from study.directions import directions
from study.runs import trained_tables


def of(name):
    return [direction for direction in directions() if direction.table == name]


@pytest.mark.parametrize("name", trained_tables())
def test_every_direction_has_a_row_with_its_seeds(name):
    html = direction_figure(name).data
    asked = of(name)
    assert html.count('class="difference"') == len(asked)
    assert html.count('class="seed"') == sum(len(d.found.by_seed) for d in asked if d.found)
    assert html.count('class="published"') == sum(d.published is not None for d in asked)
    places = [float(place) for place in re.findall(r"left:(-?[\d.]+)%", html)]
    assert places
    assert min(places) >= 0
    assert max(places) <= 100


def test_seeds_average_to_the_difference():
    paired = [d.found for d in directions() if d.found and d.found.by_seed]
    assert len(paired) > 40
    for found in paired:
        assert len(found.by_seed) == found.seeds
        assert sum(found.by_seed) / found.seeds == pytest.approx(found.mean)


def test_places_are_in_the_order_of_the_values():
    html = direction_figure("2g").data
    means = [float(place) for place in re.findall(r'class="mean" style="left:([\d.]+)%', html)]
    values = [d.found.mean for d in of("2g")]
    assert sorted(range(4), key=means.__getitem__) == sorted(range(4), key=values.__getitem__)


def test_intervals_are_drawn_from_their_lower_to_their_upper_end():
    html = direction_figure("2g").data
    found = [d.found for d in of("2g")]
    means = [float(place) for place in re.findall(r'class="mean" style="left:([\d.]+)%', html)]
    slope, start = np.polyfit([each.mean for each in found], means, 1)
    drawn = re.findall(r'class="interval" style="left:([\d.]+)%;width:([\d.]+)%', html)
    ends = [(float(left), float(left) + float(width)) for left, width in drawn]
    expected = [(start + slope * each.low, start + slope * each.high) for each in found]
    np.testing.assert_allclose(ends, expected, atol=0.05)


def test_seeds_appear_when_a_row_is_reached(show):
    page = show(direction_figure("2g").data)
    row = page.locator(".difference").first
    seed, told = row.locator(".seed").first, row.locator(".difference-told")
    assert float(seed.evaluate("(dot) => getComputedStyle(dot).opacity")) < 0.5
    assert told.bounding_box()["width"] <= 1  # seen by nobody, and still there for who is read to
    row.focus()
    page.wait_for_function("(dot) => getComputedStyle(dot).opacity === '1'", arg=seed.element_handle())
    assert told.bounding_box()["width"] > 100
    assert "printed +30.4; twins +" in told.inner_text()
