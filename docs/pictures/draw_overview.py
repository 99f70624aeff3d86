"""Draws docs/pictures/overview.svg: the way of a checkpoint through Quantry. Run it after a change of the parts.

python3 docs/pictures/draw_overview.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 960, 400
INK, LINE, FILL, ACCENT, SOFT = "#1f2933", "#52606d", "#ffffff", "#0b7285", "#e3fafc"

BOXES = [
    # x, y, width, height, title, second line, emphasised
    (20, 40, 150, 64, "16-bit master", "local path or hub", False),
    (220, 40, 150, 64, "import", "headers checked, inert", True),
    (420, 40, 150, 64, "quantize", "GPTQ W4A16, gate", True),
    (620, 40, 150, 64, "evaluate", "perplexity, KL, top-1", True),
    (790, 40, 150, 64, "deploy", "rollout to replicas", True),
    (220, 170, 350, 64, "registry", "immutable versions, lineage, evidence", False),
    (620, 170, 150, 64, "gateway", "OpenAI-compatible", False),
    (790, 170, 150, 64, "vLLM replicas", "verified bytes only", False),
    (20, 170, 150, 64, "workers", "Redis wakes, SQL claims", False),
    (220, 300, 165, 64, "Postgres", "the truth: jobs, leases", False),
    (405, 300, 165, 64, "S3 vault", "sha256/<digest>", False),
    (620, 300, 150, 64, "you", "CLI, SDK, openai", False),
]

ARROWS = [
    # from, to (points), dashed
    ((170, 72), (220, 72), False),
    ((370, 72), (420, 72), False),
    ((570, 72), (620, 72), False),
    ((770, 72), (790, 72), False),
    ((295, 104), (295, 170), False),
    ((495, 104), (495, 170), False),
    ((675, 104), (570, 185), False),
    ((865, 104), (865, 170), False),
    ((770, 202), (790, 202), False),
    ((302, 234), (302, 300), True),
    ((487, 234), (487, 300), True),
    ((95, 170), (220, 98), True),
    ((695, 300), (695, 234), False),
]


def main() -> None:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" role="img"'
        ' aria-label="A checkpoint goes from import through quantize, evaluate and deploy to vLLM replicas behind the gateway">',
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#f8f9fa"/>',
    ]
    for (x1, y1), (x2, y2), is_dashed in ARROWS:
        dash = ' stroke-dasharray="5 4"' if is_dashed else ""
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{LINE}" stroke-width="1.6"{dash} marker-end="url(#tip)"/>')
    for x, y, width, height, title, words, is_job in BOXES:
        fill, edge = (SOFT, ACCENT) if is_job else (FILL, LINE)
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{edge}" stroke-width="1.4"/>')
        middle = x + width / 2
        parts.append(f'<text x="{middle}" y="{y + 28}" text-anchor="middle" font-size="15" font-weight="600" fill="{INK}">{title}</text>')
        escaped = words.replace("<", "&lt;").replace(">", "&gt;")
        parts.append(f'<text x="{middle}" y="{y + 48}" text-anchor="middle" font-size="11.5" fill="{LINE}">{escaped}</text>')
    parts.append("</svg>")
    Path(__file__).with_name("overview.svg").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
