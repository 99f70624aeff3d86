"""The panel of what a job left beside its version: files to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from quantry_core.versions import ManifestFile
from quantry_dashboard import words
from quantry_dashboard.nodes import Node, link


class ArtifactPanel:
    """Files with their sizes. Hidden while there are none."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._shown: list[ManifestFile] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Artifacts")
        with self._root:
            Node("h2", "Artifacts")
            self._list = Node("ul", classes="files")

    def show(self, files: Sequence[ManifestFile]) -> None:
        """Shows files."""
        if list(files) == self._shown:
            return
        self._shown = list(files)
        self._root.show_if(bool(files))
        self._list.clear()
        with self._list:
            for file in files:
                with Node("li"):
                    link(file.path, artifact_address(self._job_id, file.path), classes="mono", download="download")
                    Node("span", words.bytes_text(file.size_bytes), classes="dim")


def artifact_address(job_id: str, path: str) -> str:
    """Returns where the dashboard hands out a file that a job left."""
    return f"/jobs/{job_id}/artifacts/{quote(path)}"
