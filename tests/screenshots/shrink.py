"""``python shrink.py FILE...``: writes each PNG again with a palette. Run by the environment that has Pillow."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

COLOURS = 256


def shrink(path: Path) -> None:
    """Replaces a picture; text on flat colours loses nothing that can be seen."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        shrink(Path(name))
