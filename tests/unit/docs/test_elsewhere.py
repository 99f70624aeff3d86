"""What pages of the site fetch: nothing of another server, and whatever would is found."""

from __future__ import annotations

import pytest
from elsewhere import problems_of_page, problems_of_styles


@pytest.mark.parametrize(
    "markup",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<script async src="//cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img src="HTTPS://pictures.example/a.png">',
        '<img srcset="a.png 1x, https://pictures.example/b.png 2x">',
        '<video poster="http://pictures.example/a.png"></video>',
        '<iframe src="https://frames.example"></iframe>',
        '<form action="https://forms.example"></form>',
        '<svg><use href="https://icons.example/i.svg#a"/></svg>',
        "<p style=\"background: url('https://pictures.example/a.png')\">",
        "<style>@import 'https://fonts.example/css';</style>",
        '<pre class="highlight mermaid">graph TD</pre>',
        '<div data-md-component="source"></div>',
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(markup: str) -> None:
    assert len(problems_of_page(f"<html><body>{markup}</body></html>")) == 1


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="https://example.com">a link</a>',
        '<link rel="canonical" href="https://docs.example/page.html">',
        '<script src="../assets/bundle.js"></script>',
        '<img src="data:image/svg+xml;base64,PHN2Zy8+">',
        '<link rel="stylesheet" href="assets/main.css">',
        '<pre class="diagram">graph TD</pre>',
        "<p>url(https://example.com) is only words</p>",
        "<style>a { background: url(data:image/svg+xml;charset=utf-8,<svg xmlns='http://www.w3.org/2000/svg'/>) }</style>",
    ],
)
def test_links_and_what_lies_beside_the_page_are_not(markup: str) -> None:
    assert problems_of_page(f"<html><body>{markup}</body></html>") == []


def test_styles_are_looked_through() -> None:
    css = '@font-face { src: url("https://fonts.example/a.woff2") } @import "//fonts.example/b.css"; a { background: url(../a.png) }'
    assert problems_of_styles(css) == ["style fetches https://fonts.example/a.woff2", "style fetches //fonts.example/b.css"]
