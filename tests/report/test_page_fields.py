"""The page about layers between fields: numbers of the package, graphs of the mixing sets, errors, code that runs."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from test_page import Reader

from basisgen.commands.report.graphs import bipartite_graph, mixing_graph
from basisgen.commands.report.page import report
from basisgen.commands.report.read import read_package
from basisgen.spheres.activation_error import FUNCTIONS, RingAnalysis, activation_error, rotation_activation_error
from basisgen.spheres.mixing import Mixing, mixing_set
from basisgen.spheres.product_spec import ProductSpec
from basisgen.spheres.sphere_grid import Sampling
from basisgen.text import percent


@pytest.fixture(scope="module")
def page(fields: Path) -> str:
    return report(fields)


def _article(page: str, name: str) -> str:
    found = re.search(rf'<article id="layer-{name}">(.*?)</article>', page, re.DOTALL)
    assert found
    return found[1]


def _graphs(article: str) -> list[str]:
    return re.findall(r'<svg class="graph".*?</svg>', article)


def test_the_page_is_well_formed_and_asks_nothing_of_a_network(page: str, fields: Path) -> None:
    reader = Reader(page)
    assert not [tag for tag, attributes in reader.tags if tag in ("script", "link", "iframe") or "src" in attributes]
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    links = [str(attributes["href"]) for tag, attributes in reader.tags if tag == "a"]
    assert len(ids) == len(set(ids)) and all(link[1:] in ids for link in links)
    assert report(fields) == page and "voxel" not in page


def test_every_product_is_an_arc(page: str, fields: Path) -> None:
    specs = {layer.spec.name: layer.spec for layer in read_package(fields).fields}
    for name, mixing, loops, degrees in (
        ("Tree", Mixing.TREE, None, range(6)),
        ("Reduced", Mixing.REDUCED, True, range(5)),
    ):
        graphs = _graphs(_article(page, name))
        assert len(graphs) == len(degrees)
        for l, graph in zip(degrees, graphs, strict=True):
            wanted = [pair for pair in mixing_set(mixing, degrees, l, loops) if pair[0] != pair[1] or l % 2 == 0]
            assert graph.count('class="edge"') == len(wanted) and f"l = {l}: " in graph
    two = specs["Two"]
    assert isinstance(two, ProductSpec)
    edges = sum(graph.count('class="edge"') for graph in _graphs(_article(page, "Two")))
    assert edges == len({two.degrees_of(path) for path in two.paths})


def test_costs_stand_beside_the_full_set(page: str, fields: Path) -> None:
    layers = {layer.spec.name: layer for layer in read_package(fields).fields}
    cost: Any = layers["Tree"].facts["cost"]
    costs = _article(page, "Tree").split("By degree")[0]
    assert costs.count("<tr>") == 5 and not re.search(r"<td[^>]*></td>(?!<td)", costs)  # all say how many times fewer
    for number in (
        "complex_coefficients_per_channel",
        "complex_coefficients_of_all_products",
        "coefficients_per_channel",
    ):
        assert f">{cost[number]:,}</td>" in _article(page, "Tree")
    mix: Any = layers["Mix"].facts
    for number in (mix["weights"], mix["dimension"], *mix["cost"].values()):
        assert f">{number:,}</td>" in _article(page, "Mix")
    assert "all: they have dimension" in _article(page, "Dense")
    assert "24 weights; all have dimension 36" in _article(page, "Filter")


def test_errors_of_functions_are_the_predicted_ones(page: str) -> None:
    article = _article(page, "Grid")
    assert "leaky_relu on signals of power (1+l)^-2: predicted equivariance error" in article
    rings = RingAnalysis.of(Sampling.MW, 8).cut(4)
    for name, power in (("leaky_relu", 2.0), ("tanh", 0.0)):
        error, _ = activation_error(FUNCTIONS[name], [(1 + l) ** -power for l in range(4)], rings)
        assert f'data-label="2x">{percent(float(f"{error:.3g}"))}</td>' in article


def test_correlations_say_their_filters_and_the_dimension_of_all_maps(page: str, fields: Path) -> None:
    layers = {layer.spec.name: layer for layer in read_package(fields).fields}
    for name, words in (("OnSphere", "24 points near identity"), ("OnRotations", "8 points equatorial")):
        facts: Any = layers[name].facts
        article = _article(page, name)
        assert words in article and f"all equivariant maps have dimension {facts['dimension']}" in article
        assert f"{facts['cost']['multiply_adds_of_filters']:,}, once per call" in article
    assert layers["OnSphere"].facts["dimension"] == 6 * (1 + 3 + 5 + 7)


def test_transforms_on_rotations_say_their_grid_and_the_predicted_errors(page: str) -> None:
    article = _article(page, "Rotations")
    assert "8 angles beta, 8 alpha, 8 gamma" in article and "512 for 84 coefficients" in article
    error, _ = rotation_activation_error(FUNCTIONS["relu"], [1.0] * 4, 8)
    assert f'data-label="2x">{percent(error)}</td>' in article
    assert "data-label" not in _article(page, "FewOrders") and "|n| &lt; 2" in _article(page, "FewOrders")


def test_code_on_the_page_runs(page: str, fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fields.parent.parent)
    snippets = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    assert len(snippets) == 11
    for snippet in snippets:
        exec(html.unescape(snippet), {})


def test_graphs_of_many_degrees_stay_small() -> None:
    degrees = range(64)
    possible = [(a, b) for a in degrees for b in degrees[a + 1 :] if b - a <= 8 <= a + b]
    picture = mixing_graph(degrees, possible[:63], possible, "<title>")
    assert picture.count('class="other"') == 0 and len(picture) < 20_000 and "&lt;title&gt;" in picture
    assert bipartite_graph(range(3), range(2), [(2, 1)], "t").count('class="edge"') == 1
