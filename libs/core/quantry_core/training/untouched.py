"""How much of each untouched text before and after are compared on: by the job, and by its estimate."""

from __future__ import annotations

CORPUS_WINDOW_TOKENS, CORPUS_WINDOWS = 256, 128
"""Of each untouched text: enough that a change of a percent is seen, and no more than a minute of a small model."""
