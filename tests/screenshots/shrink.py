"""``python shrink.py FILE...``: writes each PNG again with a palette. Run by the environment that has Pillow."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

COLOURS = 256


def shrink(path: Path) -> None:
    """Replaces a picture. Its most frequent colours stay as they are, so that nothing flat changes; what lies between takes the nearest."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    counted = picture.getcolors(picture.width * picture.height) or []
    frequent = [colour for _, colour in sorted(counted, reverse=True)[:COLOURS]]
    palette = Image.new("P", (1, 1))
    # A palette that is not full repeats its first colour.
    palette.putpalette([part for colour in frequent + frequent[:1] * (COLOURS - len(frequent)) for part in colour])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        shrink(Path(name))
