"""The jobs of a pipeline as a graph: each a link with its state, arrows from what it needs. The table beside it says the same."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.jobs import Job, JobStatus
from quantry_dashboard import words
from quantry_dashboard.graphs import BOX_HEIGHT_PX, BOX_WIDTH_PX, drawn, step_graph
from quantry_dashboard.nodes import Node, link


class JobGraph:
    """A graph that is told again and again how its jobs are. Drawn anew only where other jobs are in it."""

    def __init__(self, *, here: str | None = None) -> None:
        """``here``: the id of the job whose page this is."""
        self._here = here
        self._shown: tuple[tuple[str, ...], ...] = ()
        self._boxes: dict[str, _Box] = {}
        self._root = Node("div", classes="wide", role="group", tabindex="0", aria_label="Steps and what they need")

    def show(self, jobs: Sequence[Job]) -> None:
        """Shows jobs."""
        graph = step_graph(jobs)
        shape = tuple((name, *needs) for name, needs in graph.items())
        if shape != self._shown:
            self._shown = shape
            self._draw(jobs, graph)
        for job in jobs:
            self._boxes[job.id].show(job)

    def _draw(self, jobs: Sequence[Job], graph: dict[str, tuple[str, ...]]) -> None:
        picture = drawn(graph)
        by_id = {job.id: job for job in jobs}
        self._root.clear()
        with self._root, Node("div", classes="graph") as whole:
            whole.shape(f"width: {picture.width_px}px; height: {picture.height_px}px")
            with Node("svg", width=str(picture.width_px), height=str(picture.height_px), aria_hidden="true"):
                for line in picture.lines:
                    Node("path", d=line)
            self._boxes = {}
            for box in sorted(picture.boxes, key=lambda box: (box.x_px, box.y_px)):
                self._boxes[box.name] = _Box(by_id[box.name], is_here=box.name == self._here)
                self._boxes[box.name].root.shape(
                    f"left: {box.x_px}px; top: {box.y_px}px; width: {BOX_WIDTH_PX}px; height: {BOX_HEIGHT_PX}px"
                )


class _Box:
    """One job."""

    def __init__(self, job: Job, *, is_here: bool) -> None:
        self.root = link("", f"/jobs/{job.id}", classes="box", aria_current="true" if is_here else None, title=words.about(job))
        with self.root:
            with Node("span", classes="box-head"):
                Node("span", job.step or words.short_id(job.id), classes="box-name")
                self._status = Node("span", classes="status")
            Node("span", f"{job.type} {words.about(job)}", classes="cut dim")
            with Node("span", classes="track") as self._track:
                self._fill = Node("span", classes="fill")

    def show(self, job: Job) -> None:
        """Shows how the job is."""
        self._status.say(job.status)
        self._status.mark_as(f"status {job.status}")
        progress = job.progress if job.status is JobStatus.RUNNING else None
        self._track.show_if(progress is not None)
        if progress is not None:
            self._fill.shape(f"width: {100 * progress.fraction:.1f}%")
