"""Cards taken apart."""

from __future__ import annotations

import pytest

from quantry_dashboard.card_view import Code, Heading, Items, Paragraph, Span, Table, blocks, spans

CARD = """---
license: "mit"
---

# bard@2

Made from `bard@1` by
`gptq`.

## Weights

| | |
|---|---|
| kept | `lm_head`, `a\\|b` |
| odd | \\`x\\` &lt;b>no markup\\|one cell |

- one
- two

```
quantry deploy <b>
```
"""


def test_a_card_has_its_parts() -> None:
    assert blocks(CARD) == [
        Code('license: "mit"'),
        Heading(1, (Span("bard@2"),)),
        Paragraph((Span("Made from "), Span("bard@1", is_code=True), Span(" by "), Span("gptq", is_code=True), Span("."))),
        Heading(2, (Span("Weights"),)),
        Table(
            ((), ()),
            (
                ((Span("kept"),), (Span("lm_head", is_code=True), Span(", "), Span("a|b", is_code=True))),
                ((Span("odd"),), (Span("`x` <b>no markup|one cell"),)),
            ),
        ),
        Items(((Span("one"),), (Span("two"),))),
        Code("quantry deploy <b>"),
    ]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://elsewhere/x.png)", "#no heading"])
def test_what_is_not_known_stays_text(text: str) -> None:
    assert blocks(text) == [Paragraph((Span(text),))]


@pytest.mark.parametrize("text", ["", "---", "```", "|", "|x|", "# ", "`", "#\n\n|\n---"])
def test_broken_cards_end(text: str) -> None:
    assert isinstance(blocks(text), list)


def test_a_line_without_code_is_one_piece() -> None:
    assert spans("a ` b") == (Span("a ` b"),)
