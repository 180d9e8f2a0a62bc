# SPDX-License-Identifier: GPL-2.0
"""The charts of make bench, as SVG: a bar per operation and driver, on a logarithmic scale; and bars made of pieces."""

import math
from html import escape

COLOURS = {"uxive": "#b5461b", "ocxl": "#3b6ea5", "vfio": "#6b8e4e", "eventfd": "#8d7aa8", "pipe": "#a8a29a",
           "futex": "#c9a227"}
PIECES = {"send": "#b5461b", "interrupt": "#c9a227", "receive": "#3b6ea5"}
BAR, GAP, LEFT, WIDTH, RIGHT, TOP, BOTTOM = 13, 9, 190, 620, 80, 74, 24


def groups(results):
    """Operation → its drivers with their medians, in the order of measurement, uxive first."""
    found = {}
    for (operation, driver), result in results.items():
        if result.unit == "instructions":
            found.setdefault(operation, []).append((driver, result.median))
    order = list(COLOURS)
    return {operation: sorted(bars, key=lambda bar: order.index(bar[0])) for operation, bars in found.items()}


def text(x, y, words, size=11, anchor="start", colour="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
            f'{escape(words)}</text>')


def draw(results):
    found = groups(results)
    values = [median for bars in found.values() for _, median in bars] or [1]
    low = 10 ** math.floor(math.log10(max(min(values), 1)))
    high = 10 ** math.ceil(math.log10(max(max(values), low * 10)))

    def across(value):
        return LEFT + WIDTH * math.log10(max(value, low) / low) / math.log10(high / low)

    height = TOP + sum(len(bars) * BAR + GAP for bars in found.values()) + BOTTOM
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
             'font-family="sans-serif">', '<rect width="100%" height="100%" fill="#fff"/>',
             text(LEFT, 22, "Instructions per operation (median, logarithmic scale, shorter is better)", 14)]
    x = LEFT
    for driver in dict.fromkeys(driver for driver in COLOURS for bars in found.values() if driver in dict(bars)):
        lines += [f'<rect x="{x}" y="34" width="11" height="11" fill="{COLOURS[driver]}"/>', text(x + 16, 44, driver)]
        x += 90
    decade = low
    while decade <= high:
        lines += [f'<line x1="{across(decade):.1f}" x2="{across(decade):.1f}" y1="{TOP - 6}" y2="{height - BOTTOM}" '
                  'stroke="#ddd"/>', text(across(decade), TOP - 12, f"{decade:,}", 10, "middle", "#777")]
        decade *= 10
    y = TOP
    for operation, bars in found.items():
        lines.append(text(LEFT - 8, y + len(bars) * BAR / 2 + 4, operation, 11, "end"))
        for driver, median in bars:
            lines += [f'<rect x="{LEFT}" y="{y}" width="{across(median) - LEFT:.1f}" height="{BAR - 2}" '
                      f'fill="{COLOURS[driver]}"/>', text(across(median) + 4, y + BAR - 4, f"{median:,}", 10)]
            y += BAR
        y += GAP
    return "\n".join([*lines, "</svg>"]) + "\n"


def draw_pieces(pieces, bars):
    """A bar for each of `bars` (name → instructions of each of `pieces`, or None), on a linear scale."""
    most = max([sum(filter(None, values)) for values in bars.values()] or [1])
    bar, left = 2 * BAR, LEFT + 60
    height = TOP + len(bars) * (bar + GAP) + BOTTOM
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + WIDTH + RIGHT}" height="{height}" '
             'font-family="sans-serif">', '<rect width="100%" height="100%" fill="#fff"/>',
             text(left, 22, "Instructions per message between two processes (median, shorter is better)", 14)]
    for number, piece in enumerate(pieces):
        lines += [f'<rect x="{left + 90 * number}" y="34" width="11" height="11" fill="{PIECES[piece]}"/>',
                  text(left + 90 * number + 16, 44, piece)]
    y = TOP - 12
    for name, values in bars.items():
        x = left
        lines.append(text(left - 8, y + bar / 2 + 4, name, 11, "end"))
        for piece, value in zip(pieces, values):
            width = WIDTH * (value or 0) / most
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{bar - 2}" fill="{PIECES[piece]}"/>')
            if width > 40:
                lines.append(text(x + width / 2, y + bar / 2 + 3, f"{value:,}", 10, "middle", "#fff"))
            x += width
        lines.append(text(x + 4, y + bar / 2 + 3, f"{sum(filter(None, values)):,}", 10))
        y += bar + GAP
    return "\n".join([*lines, "</svg>"]) + "\n"
