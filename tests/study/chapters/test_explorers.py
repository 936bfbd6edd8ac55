"""What a reader plays with shows what the package computes; a browser plays with it.

Counting a network at full size takes seconds: a hundred counts are kept beside this file. To record them anew:
`PYTHONPATH=.:tests python tests/study/chapters/test_explorers.py`.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from browsing import STATIC

from ctnet.analysis import progressive_fields
from ctnet.analysis.cost import VERSION
from ctnet.models import CTModule
from study.chapters import explorers
from study.chapters.clips import gallery
from study.costs import count, kept
from study.paper import PLAIN, TABLES, table

KEPT = Path(__file__).with_name("explorer_costs.json")


def drawn_settings(number):
    """A setting of the cost explorer for every number."""
    rng = random.Random(number)
    backbone = rng.choice(list(explorers.BACKBONES))
    return {
        "backbone": backbone,
        "blocks": rng.choice(list(explorers.BACKBONES[backbone][1])),
        "sizes": rng.choice(explorers.KS if backbone != "inceptionv3" else (1, 2)),
        "pointwise": rng.choice((True, False)),
        "excitation": rng.choice(("te", "se", "none")),
        "frames": rng.choice((8, 16, 24)),
        "size": rng.choice(explorers.PIXELS),
        "classes": rng.choice((174, 400)),
    }


def record():
    counted = []
    for number in range(100):
        cost = count(explorers.network_of(drawn_settings(number)))
        counted.append([drawn_settings(number), cost.gmacs, cost.params_m])
        print(number, counted[-1], flush=True)
    KEPT.write_text(json.dumps({"version": VERSION, "counted": counted}, indent=1) + "\n")


@pytest.fixture(scope="module")
def fields():
    return json.loads(json.dumps(explorers.measure_positions(("parallel", "coupling"), (1, 2))))


@pytest.fixture(scope="module")
def costs():
    return json.loads(json.dumps(explorers.cost_data()))


def marks(text):
    return np.array([mark == "1" for mark in text])


# -- Receptive fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", ["parallel", "coupling"])
@pytest.mark.parametrize("kernels", [(3, 3), (1, 5)])
def test_masks_of_positions_are_those_that_the_package_measures(fields, connection, kernels):
    module = CTModule(16, sizes=2, kernels=kernels, connection=connection, **PLAIN)
    for step, measured in enumerate(progressive_fields(module, 16), start=1):
        told = fields["positions"][connection]["".join(map(str, kernels[:step]))]
        assert tuple(told["extent"]) == measured.extent
        frames = [marks(fields["frames"][number]).reshape(measured.extent[1:]) for number in told["frames"]]
        assert sum(frame.sum() for frame in frames) == int(measured.positions.sum())
        t, h, w = measured.extent
        middle = measured.positions.shape[0] // 2
        box = tuple(slice(middle - n // 2, middle + n // 2 + 1) for n in (t, h, w))
        np.testing.assert_array_equal(np.stack(frames), measured.positions[box].numpy())


@pytest.mark.parametrize("k", explorers.KS)
def test_every_sub_operation_lets_the_next_sub_dimension_meet(k):
    told = explorers.measure_channels(k)
    product = 1
    for size, step in zip(told["sizes"], told["steps"], strict=True):
        product *= size
        for channel, text in enumerate(step):
            assert marks(text).sum() == product
            assert marks(text)[channel]
            assert set(np.flatnonzero(marks(text)) // product) == {channel // product}


# -- Costs -------------------------------------------------------------------------------------------------------------


def test_settings_and_networks_lead_to_one_another():
    for number in range(100):
        chosen = drawn_settings(number)
        found = explorers.settings_of(explorers.network_of(chosen))
        module = ("sizes", "pointwise", "excitation") if chosen["blocks"] == "0" else ()
        assert {name: found[name] for name in chosen if name not in module} == {
            name: value for name, value in chosen.items() if name not in module
        }


def test_networks_with_parts_that_cannot_be_chosen_have_no_settings():
    rows = {
        row: explorers.settings_of(table(name).rows[row].networks[0])
        for name, row in (("2c", "serial"), ("3", "tsm-8"))
    }
    assert set(rows.values()) == {None}


def counted(page, costs, settings):
    """Giga multiply-adds and millions of parameters that the script counts."""
    page.add_script_tag(path=STATIC / "explorers" / "costs.js")
    script = (
        "([data, all]) => all.map((each) => countCost(data, each)).map(({macs, params}) => [macs / 1e9, params / 1e6])"
    )
    return page.evaluate(script, [costs, settings])


def test_the_script_counts_a_hundred_networks_as_the_package_does(browser, costs):
    content = json.loads(KEPT.read_text())
    assert content["version"] == VERSION, "record the costs anew"
    assert [settings for settings, _, _ in content["counted"]] == [drawn_settings(number) for number in range(100)]
    page = browser.new_page()
    found = counted(page, costs, [settings for settings, _, _ in content["counted"]])
    page.close()
    expected = [figures for _, *figures in content["counted"]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len({gmacs for gmacs, _ in found}) > 90


def test_the_script_counts_what_the_tables_are_held_to(browser, costs):
    networks = [network for name in TABLES for network in table(name).networks.values()]
    known = [(settings, kept(network)) for network in networks if (settings := explorers.settings_of(network))]
    known = [(settings, cost) for settings, cost in known if settings["size"] in explorers.PIXELS]
    page = browser.new_page()
    found = counted(page, costs, [settings for settings, _ in known])
    page.close()
    assert len(known) > 30
    np.testing.assert_allclose(found, [(cost.gmacs, cost.params_m) for _, cost in known], rtol=1e-12)


def test_printed_rows_are_of_one_clip(costs):
    printed = {row["row"]: row for row in costs["printed"]}
    assert printed["Table 2g, +CT-Module+PWConv+TE"]["gflops"] == "37.3"
    assert printed["Table 4, CT-Net, 2D R101, 16x3x4"]["gflops"] == "145.5"
    assert "Table 3, CT-Net, 2D R50, 8x3x2" not in printed


def test_a_choice_changes_the_cost_and_the_printed_rows(show, costs):
    page = show(explorers.explorer("costs", "Cost", costs, "<p>plain</p>").data)
    assert "plain" not in page.inner_text("body")
    assert page.inner_text(".costs-sum") == "37.32 GFLOPs a clip, 20.96 M parameters"
    assert "Table 2g, +CT-Module+PWConv+TE: 37.3 GFLOPs" in page.inner_text(".costs-shown")
    page.get_by_role("radio", name="none").check(force=True)
    page.get_by_role("radio", name="no", exact=True).check(force=True)
    assert page.inner_text(".costs-sum").startswith("36.28")
    assert (
        page.get_by_role("link", name="Table 2a, CT-Module").get_attribute("href") == "ledger.html#2a-ct-module-gflops"
    )
    page.get_by_label("Pixels").select_option("320 × 320")
    assert "prints no such network" in page.inner_text(".costs-shown")
    page.get_by_role("radio", name="InceptionV3").check(force=True)
    assert page.get_by_role("radio", name="3", exact=True).count() == 0, "its convolutions cannot be split in three"


def test_without_scripts_the_picture_stays(show, costs):
    page = show(explorers.explorer("costs", "Cost", costs, "<p>plain</p>").data, scripts=False)
    assert page.inner_text("body").strip() == "plain"


def test_where_a_script_fails_the_picture_comes_back(show, costs):
    page = show(explorers.explorer("costs", "Cost", {"frames": costs["frames"]}, "<p>plain</p>").data, failing=True)
    assert page.inner_text("body").strip().endswith("plain")


# -- Playing with the receptive field ----------------------------------------------------------------------------------


@pytest.fixture
def played(show, fields):
    channels = {k: explorers.measure_channels(k) for k in (1, 2)}
    data = fields | {"channels": channels, "extents": explorers.EXTENTS}
    return lambda compact=False, **options: show(
        explorers.explorer("fields", "Field", data | {"compact": compact}, "<p>plain</p>").data, **options
    )


def test_the_field_grows_with_every_sub_operation_and_by_the_connection(played):
    page = played()
    told = page.locator(".explorer-told")
    assert told.inner_text() == "16 of 16 channels; 45 of 125 positions in a box of 5 × 5 × 5"
    page.get_by_role("group", name="After sub-operation").get_by_role("radio", name="1").check(force=True)
    assert told.inner_text() == "4 of 16 channels; 11 of 27 positions in a box of 3 × 3 × 3"
    assert page.locator(".channel-grid .now").count() == 4
    page.get_by_role("radio", name="coupling").check(force=True)
    assert told.inner_text().startswith("4 of 16 channels; 27 of 27")
    page.get_by_label("Kernel 1").select_option("1 × 1 × 1")
    assert told.inner_text().endswith("1 of 1 positions in a box of 1 × 1 × 1")


def test_a_channel_is_chosen_with_the_keyboard(played):
    page = played()
    page.get_by_role("radio", name="1").last.check(force=True)
    page.locator("[data-channel='15']").focus()
    page.keyboard.press("Enter")
    reached = page.locator(".channel-grid .now")
    assert {cell.get_attribute("data-channel") for cell in reached.all()} == {"12", "13", "14", "15"}
    assert page.locator("[data-channel='15']").get_attribute("aria-pressed") == "true"


def test_it_plays_by_itself_unless_motion_is_unwanted(played):
    assert played(compact=True).get_by_role("button", name="Pause").is_visible()
    still = played(compact=True, reduced_motion="reduce")
    assert still.get_by_role("button", name="Play").is_visible()
    before = still.inner_text(".explorer-told")
    still.get_by_role("button", name="Play").click()
    still.wait_for_function("(before) => document.querySelector('.explorer-told').textContent !== before", arg=before)


# -- The gallery -------------------------------------------------------------------------------------------------------


def test_clips_move_forwards_and_backwards(show):
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[:, :, :, 0] = np.array([0, 80, 160, 240])[:, None, None]
    page = show(gallery({"right": frames, "left": frames[::-1]}, "Clips").data, reduced_motion="reduce")
    script = (
        "() => [...document.querySelectorAll('canvas')].map((c) => c.getContext('2d').getImageData(4, 4, 1, 1).data[0])"
    )
    page.wait_for_function("() => document.querySelectorAll('canvas').length == 2")
    page.get_by_role("slider").fill("1")
    np.testing.assert_allclose(page.evaluate(script), (80, 160), atol=12)
    page.get_by_role("radio", name="backwards").check(force=True)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('input[type=range]').value === '0'")
    page.wait_for_function("() => document.querySelector('input[type=range]').value === '3'")
    assert page.locator("figcaption").all_inner_texts() == ["right", "left"]


if __name__ == "__main__":
    record()
