"""``quantry versions lineage``: what a version was made from and what was made from it, as a tree or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, say, stdout
from quantry.cli.references import RefArgument
from quantry_core.lineage_pictures import MORE, lineage_mermaid, lineage_svg
from quantry_core.versions import Lineage, LineageLink, LineageNode


def show_lineage(
    context: typer.Context,
    ref: RefArgument,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write it there as a picture.", dir_okay=False)] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as Mermaid text, for documents.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where a version comes from and what came from it."""
    with connect(context) as client:
        lineage = client.versions.lineage(ref)
    if svg is not None:
        svg.write_text(lineage_svg(lineage), encoding="utf-8")
        say(f"{svg}: {len(lineage.nodes)} versions and datasets" + (f"; {MORE}" if lineage.has_more else ""))
        return
    if mermaid:
        typer.echo(lineage_mermaid(lineage), nl=False)
        return
    if as_json:
        emit_json(lineage)
        return
    for tree in lineage_trees(lineage):
        stdout().print(tree)
    if lineage.has_more:
        say(MORE)


def lineage_trees(lineage: Lineage) -> list[Tree]:
    """Returns one tree per version that no other version is a parent of: normally one, the master's.

    A version with two parents (base and adapter) stands below both. Datasets hang as leaves on what they helped to make.
    """
    nodes = {node.id: node for node in lineage.nodes}
    version_links = [link for link in lineage.links if _noun(nodes, link.parent_id) == "version"]
    children = {link.child_id for link in version_links}
    roots = [node for node in lineage.nodes if node.noun == "version" and node.id not in children]
    trees = []
    for root in roots:
        tree = Tree(_label(root, lineage))
        _grow(tree, root, lineage, nodes, (root.id,))
        trees.append(tree)
    return trees


def _grow(tree: Tree, node: LineageNode, lineage: Lineage, nodes: dict[str, LineageNode], above: tuple[str, ...]) -> None:
    for link in lineage.links:
        if link.child_id == node.id and _noun(nodes, link.parent_id) == "dataset":
            tree.add(Text(f"{link.role}: {nodes[link.parent_id].label}", style="dim"))
    for link in lineage.links:
        if link.parent_id == node.id and link.child_id in nodes and link.child_id not in above:
            child = nodes[link.child_id]
            branch = tree.add(_label(child, lineage, link))
            _grow(branch, child, lineage, nodes, (*above, child.id))


def _noun(nodes: dict[str, LineageNode], node_id: str) -> str:
    return nodes[node_id].noun if node_id in nodes else ""


def _label(node: LineageNode, lineage: Lineage, link: LineageLink | None = None) -> Text:
    label = Text(node.label, style="bold" if node.id == lineage.version_id else "")
    label.append(f"  {node.kind}  {node.state}", style="dim")
    if link is not None:
        label.append(f"  ({link.role})", style="dim")
    if node.id == lineage.version_id:
        label.append("  <- this one")
    return label
