"""The overview: the files it writes, that they show the portrait, and what odd clients do to them."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pflbench.portrait import Holding, portray
from pflbench_reports.overview import write_overview
from pflbench_reports.portraits import OUTLINE

NAMES = ["overview.svg", "overview.png", "heterogeneity.csv", "histograms.csv", "spectra.csv", "foreground.csv"]
HOSTILE = ["<script>x()</script>", "$x^2$ \\frac", "a,b\"c'&amp;", "Ü日本 – ñ", 'x" onload="y']


def holding(seed, count=6, channels=3, height=32, width=32, mask="some"):
    rng = np.random.default_rng(seed)
    images = rng.integers(10 * seed, 10 * seed + 100, (count, channels, height, width), dtype=np.uint8)
    masks = np.full((count, 1, height, width), mask == "full", np.uint8)
    if mask == "some":
        for case in range(count):
            masks[case, 0, 4 : 10 + case, 6:20] = 1
    cases = [f"{seed}/{i}" for i in range(count)]
    return Holding(images, masks, cases, cases)


def written(folder, holdings, title="Eyes", simulated=False):
    """Write an overview, any warning being an error; return the portrait and the folder."""
    portrait = portray(holdings, title, simulated).plain()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = write_overview(portrait, folder)
    assert [path.name for path in files] == NAMES
    assert all(path.is_file() for path in files)
    return portrait, folder


def three():
    return {"North": holding(0), "South": holding(4), "West": holding(9)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return portrait and folder of three ordinary clients: drawing takes its time, so once."""
    return written(tmp_path_factory.mktemp("overview") / "new" / "folder", three())


@pytest.fixture
def overview(tmp_path):
    return lambda holdings, **more: written(tmp_path / "out", holdings, **more)


def texts(folder):
    """Return every text of the picture; parsing fails where the SVG is not well-formed."""
    root = ElementTree.parse(folder / "overview.svg").getroot()
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_tables_hold_the_portrait(plain):
    portrait, folder = plain
    far = pd.read_csv(folder / "heterogeneity.csv")
    for measure, facts in portrait["heterogeneity"].items():
        rows = far[far["measure"] == measure]
        assert list(rows["unit"].unique()) == [facts["unit"]]
        for column, field in (("distance", "distances"), ("halves", "halves"), ("reference", "reference")):
            table = rows.pivot(index="client", columns="other", values=column)
            assert table.to_numpy() == pytest.approx(facts[field])
        pairs = rows[rows["client"] < rows["other"]]
        assert pairs["halves"].mean() / pairs["reference"].mean() == pytest.approx(facts["ratio"])


def test_the_tables_hold_what_the_panels_draw(plain):
    portrait, folder = plain
    histograms, spectra = (pd.read_csv(folder / f"{name}.csv") for name in ("histograms", "spectra"))
    foreground = pd.read_csv(folder / "foreground.csv")
    for client in portrait["clients"]:
        mine = histograms[histograms["client"] == client["name"]]
        assert list(mine["channel"].unique()) == ["mean", "0", "1", "2"]
        assert ((mine["below"] - mine["from"]) * mine["density"]).groupby(mine["channel"]).sum().to_numpy() == (
            pytest.approx(1)
        )
        assert mine.loc[mine["channel"] == "mean", "density"].to_numpy() == pytest.approx(client["histogram"])
        rings = spectra[spectra["client"] == client["name"]]
        assert rings["log10_amplitude"].to_numpy() == pytest.approx(client["radial"])
        shares = foreground[foreground["client"] == client["name"]]
        assert shares["foreground_percent"].to_numpy() == pytest.approx(100 * client["foreground"])
        shown = shares.dropna(subset="sample").sort_values("sample")
        assert list(shown["case"]) == [sample["case"] for sample in client["samples"]]
    assert spectra.groupby("cycles_per_side")["above_mean"].mean().to_numpy() == pytest.approx(0, abs=1e-12)


def test_the_picture_says_the_verdict_the_ratios_and_the_matrices(plain):
    portrait, folder = plain
    said = texts(folder)
    whole = " ".join(" ".join(said).split())
    assert portrait["verdict"] in whole
    for facts in portrait["heterogeneity"].values():
        assert f"between / within clients: {facts['ratio']:.1f}" in said
    matrix = portrait["heterogeneity"]["spectra"]["halves"]
    assert matrix.max() < 9  # shown with two decimals
    assert all(f"{value:.2f}" in said for value in matrix.flat)
    assert all(said.count(f"{i} {name}") == 2 for i, name in enumerate(("North", "South", "West"), start=1))


def test_the_svg_stands_alone(plain):
    _, folder = plain
    svg = (folder / "overview.svg").read_text()
    links = [value for node in ElementTree.fromstring(svg).iter() for key, value in node.items() if "href" in key]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not re.search(r"url\((?!#)|@import|<script", svg)


def test_samples_are_pictures_fit_for_print_and_words_stay_words(plain):
    root = ElementTree.parse(plain[1] / "overview.svg").getroot()
    links = [value for node in root.iter() for key, value in node.items() if "href" in key and value[0] != "#"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))).size for link in links]
    assert len(sizes) == 9
    assert min(min(size) for size in sizes) > 200  # nearly an inch
    assert "Cases, mask outlined" in texts(plain[1])


def test_the_png_has_the_width_of_a_page_and_shows_outlines(plain):
    _, folder = plain
    assert Image.open(folder / "overview.png").width == 1720
    assert outlined(folder) > 100


def outlined(folder):
    """Return how many pixels have nearly the hue of outlines."""
    pixels = np.asarray(Image.open(io.BytesIO((folder / "overview.png").read_bytes())).convert("RGB")).astype(int)
    colour = [int(OUTLINE[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - colour).max(axis=2) < 40).sum())


def test_a_mask_without_an_edge_has_no_outline(overview):
    _, folder = overview({"A": holding(1, mask="none"), "B": holding(2, mask="full")})
    assert outlined(folder) == 0


def test_simulated_data_is_marked_in_the_picture(overview, plain):
    assert any("SIMULATED DATA" in text for text in texts(overview(three(), simulated=True)[1]))
    assert not any("SIMULATED" in text for text in texts(plain[1]))


def test_hostile_names_come_out_as_text(overview):
    _, folder = overview({name: holding(i) for i, name in enumerate(HOSTILE)}, title=HOSTILE[0])
    said = texts(folder)
    assert HOSTILE[0] in said  # the title
    assert all(f"{number} {name}" in said for number, name in enumerate(HOSTILE, start=1))  # rows of the matrix
    assert set(pd.read_csv(folder / "heterogeneity.csv")["client"]) == set(HOSTILE)
    elements = {node.tag for node in ElementTree.parse(folder / "overview.svg").iter()}
    assert not any("script" in element for element in elements)


def test_a_name_of_many_lines_or_controls_stays_on_its_line(overview):
    name = "one\ntwo\x00\x1b[31m" + "long " * 40
    _, folder = overview({name: holding(1), "B": holding(2)})
    assert "1 one two [31mlong long…" in texts(folder)


@pytest.mark.parametrize(
    ("clients", "shape"),
    [
        (1, {}),
        (2, {"channels": 1, "height": 32, "width": 64}),
        (2, {"channels": 4, "height": 48, "width": 24, "count": 1}),
        (8, {"channels": 1, "height": 8, "width": 8, "count": 2, "mask": "none"}),
    ],
)
def test_any_federation_can_be_drawn(overview, clients, shape):
    _, folder = overview({f"client {i}": holding(i, **shape) for i in range(clients)})
    assert f"{clients} client {clients - 1}" in texts(folder)
    assert len(pd.read_csv(folder / "heterogeneity.csv")) == 3 * clients**2


def test_clients_that_cannot_be_halved_have_a_dash(overview):
    _, folder = overview({"A": holding(1, count=1), "B": holding(2, count=1)})
    assert texts(folder).count("–") == 6  # the diagonals
    assert "between / within clients: –" in texts(folder)
    assert pd.read_csv(folder / "heterogeneity.csv")["halves"].isna().sum() == 6


def test_the_same_portrait_gives_the_same_bytes(overview, plain):
    again = overview(three())[1]
    assert all((again / name).read_bytes() == (plain[1] / name).read_bytes() for name in NAMES)


def test_needs_no_torch():
    code = "import sys, pflbench_reports.overview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
