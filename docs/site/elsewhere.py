"""What a page of the site would ask of another server: by its own markup, by its styles, and by the scripts of the theme.

A link to elsewhere asks for nothing until somebody follows it; pictures, scripts, styles, fonts and frames are fetched at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "link": ("href",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "form": ("action",),
}
"""Attributes that a browser follows by itself, by their elements; a form's because what is typed would leave."""

ONLY_NAMED = {"canonical", "next", "prev", "author", "license"}
"""Kinds of ``link`` that name an address and fetch nothing."""

FETCHING_CLASSES = {
    "mermaid": "the theme fetches the library of diagrams for it; write `diagram`",
}
FETCHING_COMPONENTS = {
    "source": "the theme asks for figures of a repository",
}
"""What the theme's scripts look for in a page before they ask another server (its components ``source`` and ``mermaid``)."""

_STYLE_ADDRESS = re.compile(r"""(?:@import\s*(?:url\()?|url\()\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
_ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


def problems_of_site(folder: Path) -> list[str]:
    """Returns in words, page by page, what a built site would ask of another server; empty where it is nothing."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".html":
            problems = problems_of_page(path.read_text(encoding="utf-8"))
        elif path.suffix == ".css":
            problems = problems_of_styles(path.read_text(encoding="utf-8"))
        else:
            continue
        found += [f"{path.relative_to(folder)}: {problem}" for problem in problems]
    return found


def problems_of_page(html: str) -> list[str]:
    """Returns in words what a page would ask of another server."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.found


def problems_of_styles(css: str) -> list[str]:
    """Returns in words what a style sheet would ask of another server."""
    return [f"style fetches {address}" for address in _STYLE_ADDRESS.findall(css)]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_style = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._is_style = tag == "style"
        if not (tag == "link" and set(values.get("rel", "").lower().split()) <= ONLY_NAMED):
            self.found += [
                f"<{tag}> fetches {address}"
                for name in FETCHED.get(tag, ())
                for address in _addresses(name, values.get(name, ""))
                if _ELSEWHERE.match(address)
            ]
        self.found += problems_of_styles(values.get("style", ""))
        self.found += [
            f"<{tag} class={name}>: {words}" for name, words in FETCHING_CLASSES.items() if name in values.get("class", "").split()
        ]
        component = values.get("data-md-component", "")
        if component in FETCHING_COMPONENTS:
            self.found.append(f"<{tag} data-md-component={component}>: {FETCHING_COMPONENTS[component]}")

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._is_style = False

    def handle_data(self, data: str) -> None:
        if self._is_style:
            self.found += problems_of_styles(data)


def _addresses(attribute: str, value: str) -> list[str]:
    if attribute != "srcset":
        return [value]
    return [candidate.split()[0] for candidate in value.split(",") if candidate.split()]
