"""A progress bar that screen readers know as one."""

from __future__ import annotations

from quantry_core.jobs import Progress
from quantry_dashboard.nodes import Node


class ProgressBar:
    """A bar and the share beside it. Built where it stands, then told what changed."""

    def __init__(self, label: str) -> None:
        """``label`` says to a screen reader what is progressing."""
        self._root = Node("div", classes="progress")
        with self._root:
            self._bar = Node(
                "div", classes="track", role="progressbar", aria_label=label, aria_valuemin="0", aria_valuemax="100", aria_valuenow="0"
            )
            with self._bar:
                self._fill = Node("div", classes="fill")
            self._share = Node("span", classes="share")

    def show(self, progress: Progress | None) -> None:
        """Shows where a job is; hides the bar for a job that is nowhere yet."""
        self._root.show_if(progress is not None)
        if progress is None:
            return
        percent = f"{progress.fraction:.0%}"
        self._share.say(percent)
        self._fill.shape(f"width: {100 * progress.fraction:.1f}%")
        self._bar.attribute("aria-valuenow", percent.removesuffix("%"))
