"""The ledger, its map and its bars show every claim; a browser searches, sorts and follows links."""

import re
from dataclasses import replace
from html import escape, unescape
from urllib.parse import parse_qs

import pytest
from browsing import STATIC

from study.chapters import verdicts
from study.chapters.front import bars, numbers
from study.chapters.markup import anchor
from study.chapters.protocol import rules_table
from study.claims import VERDICTS
from study.costs import cost_file
from study.directions import directions
from study.ledger import claims
from study.paper import TABLES, table


@pytest.fixture(scope="module")
def decided():
    return claims()


def test_the_ledger_shows_every_claim_with_its_rule():
    decided = claims(["2g"])
    html = verdicts.ledger_table(decided).data
    assert html.count('<th scope="row">') == len(decided)
    for claim in decided:
        assert escape(claim.statement) in html
        assert escape(claim.rule) in html
    assert "<td>+30.4</td><td>twins +" in html  # of two networks on other clips


def test_the_ledger_says_what_rests_on_old_results(own_results, edited):
    fresh = verdicts.ledger_table(claims(["2e"])).data
    (network,) = table("2e").rows["blocks-4"].networks
    with edited(cost_file(network)) as content:
        content["provenance"]["behaviour"]["cost"] = 0
    stale = verdicts.ledger_table(claims(["2e"])).data
    assert stale.count("reproduced (stale)") == 1 + fresh.count("reproduced (stale)")


def test_a_bar_counts_every_claim_once(decided):
    for kind in {claim.kind for claim in decided}:
        about = [claim for claim in decided if claim.kind == kind]
        html = verdicts.verdict_bar(about).data
        key = re.findall(r'href="ledger.html#kind=([\w+]+)[^"]*">(\d+) ', html)
        assert {found for found, _ in key} == {kind.replace(" ", "+")}
        assert sum(int(count) for _, count in key) == len(about)
        assert re.findall(r"flex-grow:(\d+)", html) == [count for _, count in key]


def test_costs_that_no_network_stands_for_do_not_count_as_wrong(decided):
    bar = bars(decided)["costs"].data
    (missing,) = re.findall(r'verdict=not\+reproduced">(\d+) not measured', bar)
    assert int(missing) == sum(claim.kind == "cost" and claim.verdict == "not reproduced" for claim in decided) > 0
    (wrong,) = re.findall(r'verdict=differs">(\d+) do not hold', bar)
    assert int(wrong) == sum(claim.kind == "cost" and claim.verdict == "differs" for claim in decided) > 0


def test_the_first_page_tells_of_accuracies_that_were_measured(decided):
    told = numbers(decided)
    assert (told["accuracies_answer"], told["accuracies_measured"]) == ("Not measured.", "no accuracy")
    first = next(claim for claim in decided if claim.kind == "full size")
    told = numbers([replace(claim, verdict="differs") if claim == first else claim for claim in decided])
    assert (told["accuracies_answer"], told["accuracies_measured"]) == (
        f"1 of {told['accuracies']} were measured.",
        "1 accuracy",
    )


def test_every_verdict_is_an_answer():
    assert sorted(verdict for each in verdicts.ANSWERS.values() for verdict in each) == sorted(VERDICTS)


def test_bars_read_what_a_claim_is_and_not_how_it_is_worded(decided):
    reworded = [
        replace(claim, subject=str(n), statement=f"gflops {n}", note="of another method", rule="differs")
        for n, claim in enumerate(decided)
    ]
    assert {name: bar.data for name, bar in bars(reworded).items()} == {
        name: bar.data for name, bar in bars(decided).items()
    }


def test_the_key_of_a_bar_leads_to_the_entries_that_it_counts(decided):
    links = re.findall(r'href="ledger.html#([^"]+)">(\d+) ', bars(decided)["orders"].data + bars(decided)["costs"].data)
    assert len(links) > 4
    for link, count in links:
        asked = {name: value.split(",") for name, (value,) in parse_qs(unescape(link)).items()}
        assert asked.keys() == {"kind", "verdict"}
        assert int(count) == sum(claim.kind in asked["kind"] and claim.verdict in asked["verdict"] for claim in decided)


def test_the_map_has_a_cell_for_every_claim_that_leads_to_its_entry(decided):
    cells = re.findall(
        r'<a class="verdict verdict-([\w-]+)" href="ledger.html#([^"]+)"', verdicts.verdict_map(decided).data
    )
    assert {name: verdict for verdict, name in cells} == {
        anchor(claim.id): claim.verdict.replace(" ", "-") for claim in decided
    }


def test_every_table_has_a_row_that_counts_its_claims(decided):
    frame = verdicts.tables_overview(decided, {"1": "design-principles.html"}).data.set_index("Table")
    assert len(frame) == len(TABLES) + 1
    assert frame.index[0].href == "design-principles.html"
    of_2e = [claim.verdict for claim in decided if claim.table == "2e" and claim.kind in ("cost", "exact")]
    assert frame.loc[next(name for name in frame.index if name.startswith("Table 2e")), "Costs and fields"] == (
        f"{of_2e.count('reproduced')} reproduced"
    )


def test_links_to_the_ledger_choose_what_they_count(decided):
    """Each sign in an address is written for HTML once."""
    overview = verdicts.tables_overview(decided, {}).to_html()
    assert 'href="ledger.html#table=2a&amp;kind=direction"' in overview
    bar = verdicts.verdict_bar([claim for claim in decided if claim.kind == "direction"]).data
    assert 'href="ledger.html#kind=direction&amp;verdict=supported"' in bar
    assert "&amp;amp;" not in overview + bar


def test_numbers_of_the_first_page_account_for_every_claim(decided):
    told = numbers(decided)
    assert told["directions"] == sum(told[name] for name in ("supported", "contradicted", "equivalent", "undecided"))
    kinds = [claim.kind for claim in decided]
    assert told["accuracies"] == kinds.count("full size")
    assert told["derived"] == kinds.count("derived")
    assert told["derived_products"] == table("4").printed["views"].count()
    assert 0 < told["directions_told"] < told["directions"]
    assert 0 < told["own_held"] <= told["own"]
    assert 0 < told["theirs_held"] <= told["theirs"]
    assert told["accuracies_run"] == 0


def test_the_first_page_tells_what_stays_decided_when_all_directions_are_corrected_at_once(decided):
    told, other = numbers(decided), rules_table(directions()).data.set_index("Rule")
    strict = other.loc["corrected over all directions at once"]
    assert {verdict: int(strict[verdict]) for verdict in ("supported", "contradicted")} == {
        verdict: told[f"strictly_{verdict}"] for verdict in ("supported", "contradicted")
    }
    assert told["second_looks"] == len({claim.id for claim in decided if "more, p of the" in claim.rule}) > 0
    assert told["strictly_supported"] < told["supported"]


def test_every_verdict_has_a_colour():
    css = (STATIC / "ctnet.css").read_text()
    assert all(f".verdict-{verdict.replace(' ', '-')}" in css for verdict in VERDICTS if verdict != "inconclusive")


# -- In a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(show):
    few = claims(["2e", "2g"])
    return show(verdicts.verdict_map(few).data + verdicts.ledger_table(few).data), few


def rows(page):
    return page.locator("table.ledger tbody tr:visible")


def test_entries_are_found_by_words_table_kind_and_verdict(ledger):
    page, few = ledger
    assert rows(page).count() == len(few)
    page.get_by_label("table", exact=True).select_option("2g")
    page.get_by_label("kind").select_option("direction")
    assert rows(page).count() == sum(claim.table == "2g" and claim.kind == "direction" for claim in few)
    page.get_by_role("searchbox").fill("pwconv te")
    assert 0 < rows(page).count() < 4
    assert page.url.endswith("#words=pwconv+te&table=2g&kind=direction")
    assert page.inner_text(".ledger-bar output").endswith(f"of {len(few)}")


def test_an_address_chooses_entries_or_opens_one(ledger):
    page, few = ledger
    page.evaluate("location.hash = 'table=2e&verdict=supported'")
    page.wait_for_function("document.querySelectorAll('table.ledger tbody tr:not([hidden])').length < 20")
    assert rows(page).count() == sum((claim.table, claim.verdict) == ("2e", "supported") for claim in few)
    claim = next(claim for claim in few if claim.table == "2g" and claim.kind == "direction")
    page.get_by_label(f"{claim.statement}: {claim.verdict}", exact=True).click()
    opened = page.locator("details[open]")
    opened.wait_for()
    assert opened.locator("summary").inner_text() == claim.statement
    assert rows(page).count() == len(few)


def test_several_verdicts_that_an_address_asks_for_can_be_chosen_again(ledger):
    page, few = ledger
    page.evaluate("location.hash = 'verdict=supported,contradicted'")
    chosen, both = (
        page.get_by_label("verdict", exact=True),
        sum(c.verdict in ("supported", "contradicted") for c in few),
    )
    page.wait_for_function("document.querySelector('[aria-label=verdict]').value.includes(',')")
    assert rows(page).count() == both
    chosen.select_option("supported")
    assert rows(page).count() == sum(claim.verdict == "supported" for claim in few)
    chosen.select_option("supported or contradicted")
    assert rows(page).count() == both


def test_a_heading_sorts_numbers_by_their_size_and_back(ledger):
    page, _few = ledger
    heading = page.get_by_role("button", name="Here")
    heading.click()
    first = page.locator("table.ledger tbody tr td:nth-child(6)")

    def numbers():
        found = [re.search(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text.replace("−", "-")) for text in first.all_inner_texts()]
        return [float(number[0]) for number in found if number]

    assert len(numbers()) > 10
    assert min(numbers()) < 0 < max(numbers())
    assert numbers() == sorted(numbers())
    assert page.get_by_role("columnheader", name="Here").get_attribute("aria-sort") == "ascending"
    heading.click()
    assert numbers() == sorted(numbers(), reverse=True)


def test_arrows_move_over_the_map_and_tell_what_a_cell_is(ledger):
    page, _few = ledger
    cells = page.locator(".verdict-map a.verdict")
    cells.first.focus()
    page.keyboard.press("ArrowRight")
    told = page.inner_text(".verdict-map output")
    assert told == cells.nth(1).get_attribute("title")
    assert cells.first.get_attribute("tabindex") == "-1"
    groups = page.locator(".verdict-map > div > span").all()
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".verdict-map output") == groups[1].locator("a").first.get_attribute("title")
    page.keyboard.press("ArrowUp")
    assert page.inner_text(".verdict-map output") == cells.first.get_attribute("title")
    page.keyboard.press("End")
    assert page.inner_text(".verdict-map output") == cells.last.get_attribute("title")
    page.keyboard.press("Home")
    assert page.inner_text(".verdict-map output") == cells.first.get_attribute("title")
    page.keyboard.press("Control+ArrowRight")
    assert page.inner_text(".verdict-map output") == cells.first.get_attribute("title"), "a key of the browser's"


def test_an_address_that_is_no_code_hinders_nothing(ledger):
    page, few = ledger
    page.evaluate("location.hash = '50%'")
    page.evaluate("location.hash = 'table=2e'")
    page.wait_for_function("document.querySelectorAll('table.ledger tbody tr:not([hidden])').length < 40")
    assert rows(page).count() == sum(claim.table == "2e" for claim in few)
