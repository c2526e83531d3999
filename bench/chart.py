"""The chart of a run: requests per second on a logarithmic scale, as SVG that suits light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape

from bench.load import Load, format_rate
from bench.scenarios import Scenario

_COLOURS = {
    "elasticpypi": "#2f7fe0",
    "nginx": "#4fa05a",
    "floor": "#8b949e",
    "proxpi": "#d98324",
    "pypiserver": "#a06fc4",
}
_LEFT, _WIDTH, _RIGHT = 250, 520, 70
_BAR, _GAP, _TOP = 9, 10, 46
_LETTERS = 'font-family="system-ui, sans-serif" font-size="11"'
# An image on a page knows what the reader prefers, though not what colour the page has.
_STYLE = """\
<style>
text { fill: #1f2328 } .grid { stroke: #d0d7de }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid { stroke: #3d444d } }
</style>"""


def draw(loads: Mapping[Scenario, Mapping[str, Load]]) -> str:
    """Return the chart as the text of an SVG file."""
    rates = [load.rate for by_server in loads.values() for load in by_server.values()] or [1.0, 10.0]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    height = _TOP + sum(len(by_server) * _BAR + _GAP for by_server in loads.values()) + 10
    total = _LEFT + _WIDTH + _RIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}"'
    body = [*_legend(), *_grid(low, max(high, low + 1), height), *_bars(loads, low, max(high, low + 1))]
    return "\n".join(
        [f'{head} role="img" {_LETTERS}>', "<title>Requests per second</title>", _STYLE, *body, "</svg>\n"]
    )


def _legend() -> Iterator[str]:
    yield '<text x="8" y="17" font-weight="bold">Requests per second</text>'
    for number, (name, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + number * 100
        yield f'<rect x="{x}" y="8" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 15}" y="17">{escape(name)}</text>'


def _grid(low: int, high: int, height: int) -> Iterator[str]:
    for power in range(low, high + 1):
        x = _LEFT + _WIDTH * (power - low) / (high - low)
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height}"/>'
        yield f'<text x="{x:.1f}" y="{_TOP - 12}" text-anchor="middle">{10.0**power:,g}</text>'


def _bars(loads: Mapping[Scenario, Mapping[str, Load]], low: int, high: int) -> Iterator[str]:
    y = _TOP
    for scenario, by_server in loads.items():
        middle = y + len(by_server) * _BAR / 2 + 4
        yield f'<text x="{_LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(scenario.label)}</text>'
        for name, load in by_server.items():
            width = max(1, _WIDTH * (math.log10(load.rate) - low) / (high - low))
            yield f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{_COLOURS[name]}"/>'
            yield f'<text x="{_LEFT + width + 4:.1f}" y="{y + 8}" font-size="9">{format_rate(load.rate)}</text>'
            y += _BAR
        y += _GAP
