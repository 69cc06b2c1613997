"""Mixing graphs and filters as SVG, on light and dark pages alike: which degrees are multiplied into which.

One graph per degree l of a product: nodes are the degrees of the factors, an arc (l1, l2) is a product. Of one field
the nodes are a line, and (l1, l1) is a ring; of two fields they are two lines, the second above.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from basisgen.spheres.mixing import Pair

WIDTH, HEIGHT, MARGIN = 240, 108, 12
MOST_LABELS = 17
MOST_OTHERS = 120  # arcs of products that are left out: more would be a grey field

Point = tuple[float, float]


def mixing_graph(degrees: Sequence[int], kept: Collection[Pair], possible: Collection[Pair], title: str) -> Markup:
    """Of one field: arcs above a line of degrees; products that the mixing set leaves out are pale."""
    place = _places(degrees, HEIGHT - 18)
    others = sorted(set(possible) - set(kept)) if len(possible) - len(kept) <= MOST_OTHERS else []
    shapes = [
        _arc(place[a], place[b], kind) for kind, pairs in (("other", others), ("edge", sorted(kept))) for a, b in pairs
    ]
    return _drawing([*shapes, *_nodes(place, 15)], title)


def bipartite_graph(first: Sequence[int], second: Sequence[int], kept: Collection[Pair], title: str) -> Markup:
    """The graph for two fields: lines between the degrees of the first, below, and of the second, above."""
    below, above = _places(first, HEIGHT - 18), _places(second, 20)
    shapes = [
        Markup('<path class="edge" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(*below[a], *above[b])
        for a, b in sorted(kept)
    ]
    return _drawing([*shapes, *_nodes(below, 15), *_nodes(above, -8)], title)


def hats(table: NDArray[np.float64], title: str) -> Markup:
    """Interpolation between anchors, (degree, anchor): one broken line per anchor."""
    degrees, anchors = table.shape
    place = _places(range(degrees), HEIGHT - 18)
    shapes = []
    for a in range(anchors):
        points = " ".join(f"{place[l][0]:.1f},{HEIGHT - 18 - 72 * table[l, a]:.1f}" for l in range(degrees))
        shapes.append(Markup('<polyline class="edge" points="{}"/>').format(points))
    return _drawing([*shapes, *_nodes(place, 15)], title)


def _places(degrees: Sequence[int], y: float) -> dict[int, Point]:
    step = (WIDTH - 2 * MARGIN) / max(len(degrees) - 1, 1)
    return {degree: (MARGIN + i * step, y) for i, degree in enumerate(degrees)}


def _nodes(place: dict[int, Point], below: float) -> list[Markup]:
    """Dots, and as many numbers as can be read."""
    step = -(-len(place) // MOST_LABELS)
    radius = min(2.4, 80 / len(place))  # of many degrees, less than half their distance
    shapes = [
        Markup('<circle class="node" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x, y, radius)
        for x, y in place.values()
    ]
    numbers = [
        Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(x, y + below, degree)
        for i, (degree, (x, y)) in enumerate(place.items())
        if i % step == 0
    ]
    return shapes + numbers


def _arc(a: Point, b: Point, kind: str) -> Markup:
    """An arc between two degrees, as high as they are apart; a ring if they are the same."""
    (x, y), (to, _) = a, b
    if x == to:
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(kind, x, y - 5)
    radius, height = (to - x) / 2, 10 + 66 * (to - x) / WIDTH
    return Markup('<path class="{}" d="M{:.1f} {:.1f}A{:.1f} {:.1f} 0 0 1 {:.1f} {:.1f}"/>').format(
        kind, x, y, radius, height, to, y
    )


def _drawing(shapes: list[Markup], title: str) -> Markup:
    return Markup('<svg class="graph" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup().join(shapes)
    )
