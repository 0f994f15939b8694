"""The plot of results.json: a bar a row, its ratio to the peer on a logarithmic axis."""
import math
from xml.sax.saxutils import escape

LEFT, RIGHT, WIDTH = 390, 130, 900
LINE, TOP, GAP = 17, 58, 12
LOWEST, HIGHEST = 0.002, 10.0
STYLE = """
text { font: 11px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 } .group { font-weight: 600 } .axis { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 } .one { stroke: #59636e; stroke-width: 1.5 }
.yes { fill: #2da44e } .no { fill: #d1622b } .none { fill: #8c959f }
.target { stroke: #1f2328; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .axis { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #9198a1 }
 .yes { fill: #3fb950 } .no { fill: #f0883e } .none { fill: #6e7681 } .target { stroke: #f0f6fc }
}"""


def x_of(share):
    """Where a ratio is, in pixels."""
    share = min(max(share, LOWEST), HIGHEST)
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(share / LOWEST) / math.log(HIGHEST / LOWEST)


def text(x, y, what, style="", anchor="start"):
    """A line of text."""
    style = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(what)}</text>'


def line(x, y1, y2, style):
    """An upright one."""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" class="{style}"/>'


def bar(row, y):
    """A row: its name and peer, a bar from 1 to its ratio, the target, the figures."""
    share, one = row["share"], x_of(1)
    x = x_of(share)
    style = {True: "yes", False: "no", None: "none"}[row["met"]]
    name = row["work"] + (f" / {row['peer'].split(':')[0]}" if row["peer"] else "")
    if len(name) > 66:
        name = name[:65] + "\u2026"
    figure = f"{share:.{2 if share >= 0.1 else 3 if share >= 0.01 else 5}f} x"
    if row["target"] and row["target"]["kind"] == "value":
        figure = f"{row['varve']:.3g} of {row['target']['limit']:g} {row['unit']}"
    parts = [text(LEFT - 8, y + 11, name, anchor="end"),
             f'<rect x="{min(x, one):.1f}" y="{y + 3:.1f}" width="{max(abs(x - one), 1):.1f}" '
             f'height="{LINE - 6}" rx="1" class="{style}"/>',
             text(WIDTH - RIGHT + 10, y + 11, figure)]
    if row["limit"]:
        parts.append(line(x_of(row["limit"]), y + 1, y + LINE - 1, "target"))
    return parts


def draw(result):
    """The whole SVG, of what report.save() gives."""
    groups = [(name, [r for r in g["rows"] if r["share"]]) for name, g in result["groups"].items()]
    groups = [(name, rows) for name, rows in groups if rows]
    height = TOP + sum(len(rows) * LINE + LINE + GAP for _, rows in groups) + 14
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" role="img">', f"<style>{STYLE}</style>",
           text(12, 20, "Varve's time, memory or size, divided by the peer's (or by its limit)",
                "title"),
           text(12, 36, "Left of 1 is better. The upright mark is the target: green meets it, "
                "orange does not, grey has none. " + result["machine"], "axis")]
    for tick in (0.01, 0.1, 1, 10):
        out.append(line(x_of(tick), TOP - 2, height - 14, "one" if tick == 1 else "grid"))
        out.append(text(x_of(tick), TOP - 6, f"{tick:g} x", "axis", "middle"))
    y = TOP + 2
    for name, rows in groups:
        out.append(text(12, y + 12, name, "group"))
        y += LINE
        for row in rows:
            out += bar(row, y)
            y += LINE
        y += GAP
    return "\n".join([*out, "</svg>", ""])
