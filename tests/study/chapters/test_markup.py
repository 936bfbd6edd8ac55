"""Tables of the book are HTML that says what heads what, and verdicts lead to the ledger."""

import pandas as pd
import pytest

from study.chapters.markup import BookTable, Link, anchor, ledger_link
from study.ledger import claims


@pytest.fixture(scope="module")
def decided():
    return claims()


def test_headings_have_a_scope_and_groups_span_their_columns():
    frame = pd.DataFrame([["a & b", 1, 2, 3]])
    frame.columns = pd.MultiIndex.from_tuples([("", "Row"), ("Cost", "x"), ("Cost", "y"), ("Other", "z")])
    html = BookTable(frame, "About.").to_html()
    assert '<td colspan="1"></td><th scope="colgroup" colspan="2">Cost</th><th scope="col">Other</th>' in html
    assert '<th scope="row">a &amp; b</th><td>1</td>' in html


def test_verdicts_have_a_class_and_lead_to_their_claims():
    frame = pd.DataFrame({"Row": ["r"], "Verdict": [ledger_link("not reproduced", "2a/x > y/top1")]})
    html = BookTable(frame, "About.", notes=["See <there>."], anchors=["row-r"]).to_html()
    cell = '<td class="verdict verdict-not-reproduced"><a href="ledger.html#2a-x-over-y-top1">not reproduced</a></td>'
    assert cell in html
    assert '<tr id="row-r">' in html
    assert "<li>See &lt;there&gt;.</li>" in html


def test_a_link_is_its_text():
    assert Link("text", "page.html") == "text"


def test_every_claim_has_an_anchor_of_its_own(decided):
    anchors = [anchor(claim.id) for claim in decided]
    assert len(set(anchors)) == len(decided)
    assert not any(set(name) & set(" \"'&<>#") for name in anchors)
