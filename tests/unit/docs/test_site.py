"""The site: its links, its navigation, and a page of it as the theme renders it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import hooks
import pytest
from elsewhere import problems_of_site
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "mkdocs.yml"
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def config() -> MkDocsConfig:
    return load_config(str(CONFIG))


@pytest.fixture
def page(config: MkDocsConfig) -> Page:
    return Page(None, File("adr/0001-supervisord-for-the-embedded-stack.md", str(DOCS), config.site_dir, False), config)


@pytest.fixture
def files(config: MkDocsConfig) -> Files:
    targets = ["jobs.md", "project/readme.md", "bench/jobs.md", "examples/README.md", "adr/0002-two-buckets.md", "pictures/overview.svg"]
    return Files([File(target, str(DOCS), config.site_dir, False) for target in targets])


@pytest.mark.parametrize(
    ("written", "led"),
    [
        ("[jobs](../jobs.md)", "[jobs](../jobs.md)"),
        ("[jobs](../jobs.md#limits)", "[jobs](../jobs.md#limits)"),
        ("[start](../../README.md)", "[start](../project/readme.md)"),
        ("[figures](../../bench/results/jobs.md)", "[figures](../bench/jobs.md)"),
        ("[code](../../libs/core/quantry_core/ids.py)", "`libs/core/quantry_core/ids.py`"),
        ("[folder](../../examples/strategies/)", "`examples/strategies`"),
        ("[gone](../nowhere.md)", "[gone](../nowhere.md)"),
        ("[web](https://example.com/a.md)", "[web](https://example.com/a.md)"),
        ("![picture](../pictures/overview.svg)", "![picture](../pictures/overview.svg)"),
    ],
)
def test_links_lead_to_where_things_are_in_the_site(written: str, led: str, page: Page, files: Files, config: MkDocsConfig) -> None:
    assert hooks.on_page_markdown(written, page, config, files) == led


def test_every_page_is_in_the_navigation_once(config: MkDocsConfig) -> None:
    named = list(_pages(config.nav))
    assert sorted(named) == sorted(set(named))
    own = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert own - set(named) == {path for path in own if path.startswith("adr/")}


def test_the_list_of_pages_names_them_all() -> None:
    listed = set(re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \|", (DOCS / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    own = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    assert {path for path in own if not path.startswith("adr/")} | {"adr/"} == listed


def test_every_decision_has_its_own_number() -> None:
    numbers = [path.name[:4] for path in sorted((DOCS / "adr").glob("*.md"))]
    assert len(numbers) == len(set(numbers))


def test_a_page_of_the_theme_asks_nothing_of_another_server(tmp_path: Path) -> None:
    text = "# A page\n\n[a link](https://example.com)\n\n```mermaid\ngraph TD\n```\n\n```\na command\n```\n"
    site = _built(tmp_path, text)
    assert 'class="diagram"' in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "assets" / "mermaid" / "index.js").is_file()
    assert problems_of_site(site) == []


def test_a_build_with_a_picture_of_another_server_fails(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"index\.html: <img> fetches https://pictures\.example/a\.png"):
        _built(tmp_path, "![](https://pictures.example/a.png)")


def _built(folder: Path, text: str) -> Path:
    docs = folder / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(text, encoding="utf-8")
    config = load_config(str(CONFIG), docs_dir=str(docs), site_dir=str(folder / "site"), hooks=[], nav=None, strict=False)
    build(config)
    # What the hook adds to every build, without the pages that are drawn from the code.
    hooks.on_post_build(config)
    return folder / "site"


def _pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for one in nav.values():
            yield from _pages(one)
    elif isinstance(nav, list):
        for one in nav:
            yield from _pages(one)
