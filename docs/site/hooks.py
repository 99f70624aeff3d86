"""What the site is made of beside the pages in docs/: documents of the repository, and reference pages drawn from the code.

MkDocs calls the functions by their names (its documentation, "Hooks"). Everything is made at build time, so no generated page can be older
than the code it tells of.
"""

from __future__ import annotations

import re
import shutil
import sys
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

# Found by the line above: MkDocs loads this file by its path.
import reference_api  # noqa: E402
import reference_commands  # noqa: E402
import reference_settings  # noqa: E402
from elsewhere import problems_of_site  # noqa: E402

DOCUMENTS = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "README.md": "project/readme.md",
    "services/engine/README.md": "project/engine.md",
}
"""Documents that are no page of docs/, by their path in the repository; beside them every table of bench/results and examples' READMEs."""

REST_INDEX = "reference/api/index.md"

DIAGRAMS = """\
import { mermaid } from "./mermaid/index.js";

mermaid.initialize({ startOnLoad: false, theme: document.body.dataset.mdColorScheme === "slate" ? "dark" : "default" });
for (const [index, block] of document.querySelectorAll("pre.diagram").entries()) {
  const { svg } = await mermaid.render(`diagram-${index}`, block.textContent);
  const picture = document.createElement("div");
  picture.innerHTML = svg;
  block.replaceWith(picture);
}
"""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds what is drawn from code and folders to the navigation."""
    reference = sorted(target for target in _reference() if not target.startswith("reference/api/") or target == REST_INDEX)
    rest = sorted(target for target in _reference() if target.startswith("reference/api/") and target != REST_INDEX)
    commands = [target for target in reference if target.startswith("reference/commands/")]
    config.nav = [
        *(config.nav or ()),
        {
            "Reference": [
                {"REST": [REST_INDEX, *rest]},
                {"Command line": sorted(commands, key=lambda target: (not target.endswith("index.md"), target))},
                {"Settings": "reference/settings.md"},
            ]
        },
        {"Decisions": [f"adr/{path.name}" for path in sorted((ROOT / "docs/adr").glob("*.md"))]},
        {"Figures": [target for source, target in _documents().items() if source.startswith(("bench/", "examples/"))]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the repository's documents and the reference pages to the site."""
    for source, target in _documents().items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for target, content in _reference().items():
        files.append(File.generated(config, target, content=content))
    files.append(File.generated(config, "assets/diagrams.js", content=DIAGRAMS))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Returns a page with its links to files of the repository led to where those are in the site, or left as a name."""
    documents = _documents()
    origins = {target: source for source, target in documents.items()}
    source = PurePosixPath(origins.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def led(match: re.Match[str]) -> str:
        before, address, after = match.groups()
        if "://" in address or address.startswith(("mailto:", "#", "/")):
            return match[0]
        path = normpath(f"{source.parent}/{address}")
        target = documents.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if target in {None, "."} or target.endswith(("/", "adr")) or not files.get_file_from_path(target):
            # A folder or a program of the repository: its name is enough where there is only the site.
            return f"`{path}`" if (ROOT / path).exists() and not before.startswith("!") else match[0]
        return f"{before}{relpath(target, str(PurePosixPath(page.file.src_uri).parent))}{after}"

    return _LINK.sub(led, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Puts the library that draws diagrams beside the pages, from the environment's own copy.

    Raises PluginError where a page would ask another server for something.
    """
    import nicegui.elements.mermaid as bundled  # noqa: PLC0415

    shutil.copytree(Path(bundled.__file__).parent / "dist", Path(config.site_dir) / "assets" / "mermaid", dirs_exist_ok=True)
    problems = problems_of_site(Path(config.site_dir))
    if problems:
        raise PluginError("The site asks something of another server:\n" + "\n".join(problems))


@cache
def _reference() -> dict[str, str]:
    found: dict[str, str] = reference_api.pages() | reference_commands.pages() | reference_settings.pages()
    return found


def _documents() -> dict[str, str]:
    results = {f"bench/results/{path.name}": f"bench/{path.name}" for path in sorted((ROOT / "bench/results").glob("*.md"))}
    examples = {str(path.relative_to(ROOT)): f"{path.relative_to(ROOT)}" for path in sorted((ROOT / "examples").rglob("*.md"))}
    return DOCUMENTS | results | examples
