"""The pictures themselves: text stays text, bytes repeat, width is print width, and odd inputs are drawn too."""

from __future__ import annotations

import functools
import io
import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pflbench.results import Picture as Case
from pflbench_reports import boxes, canvas, costs_drawn, figures, labels, masks_drawn, overlaps, overlays, sweeps
from pflbench_reports.overlays_drawn import overlay_figure
from pflbench_reports.sweeps_drawn import sweep_figure

HOSTILE = (
    "<script>alert(1)</script>",
    "a/b|c",
    "$\\alpha_1$ 5% &#",
    "\u202eשלום\u0007",
    "_hidden",
    ' id="x" 日本',
)
NAN = float("nan")


def curve_frame(methods, clients, rounds, seeds):
    rows = itertools.product(methods, clients, range(1, rounds + 1))
    std = 0.5 if seeds > 1 else NAN
    return pd.DataFrame(
        [{"variant": m, "client": c, "round": r, "mean": 50.0 + r, "std": std, "seeds": seeds} for m, c, r in rows]
    )


def rate_frame(clients, layers, rounds, seeds=1, value=0.5):
    rows = itertools.product(clients, layers, range(1, rounds + 1))
    return pd.DataFrame(
        [{"client": c, "layer": n, "round": r, "mean": value, "std": NAN, "seeds": seeds} for c, n, r in rows]
    )


def seed_frame(methods, clients):
    rows = itertools.product(methods, clients)
    return pd.DataFrame([{"variant": m, "client": c, "seed": 0, "dice": 60.0} for m, c in rows])


def case_frame(methods, clients, cases, value=60.0):
    rows = itertools.product(methods, clients, range(cases))
    return pd.DataFrame(
        [{"variant": m, "client": c, "case": str(i), "volume": "", "dice": value, "seeds": 1} for m, c, i in rows]
    )


def price_frame(methods, moved=1e6):
    rows = [
        {"variant": m, "seeds": 2, "dice": 60.0 + i, "dice_std": 1.0, "bytes": moved * bool(i), "bytes_std": 0.0}
        | {"seconds": 10.0, "seconds_std": 2.0}
        for i, m in enumerate(methods)
    ]
    return pd.DataFrame(rows)


def sweep_of(clients, title, values=(0.1, 0.2), seeds=1):
    kinds = [("client", client) for client in clients] + [("average", sweeps.AVERAGE)]
    rows = [
        {"kind": kind, "line": line, "value": v, "mean": 60.0, "std": 0.5 if seeds > 1 else NAN, "seeds": seeds}
        for kind, line in kinds
        for v in values
    ]
    rows.append({"kind": "reference", "line": title, "value": NAN, "mean": 61.0, "std": NAN, "seeds": 1})
    return sweeps.Sweep(title, f"{title}.delta", pd.DataFrame(rows), simulated=True)


def sheet_of(methods, client, extent=None, channels=3):
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 32), bool)
    mask[8:16, 10:20] = True
    case = Case(rng.integers(0, 255, (channels, 24, 32), dtype=np.uint8), mask, extent)
    found = {m: np.roll(mask, i, axis=1) for i, m in enumerate(methods)}
    row = overlays.Row("only", f"{client}/1", case, found, dict.fromkeys(methods, 50.0))
    return overlays.Sheet(client, 0, (row,), tuple(methods), (), simulated=True)


@functools.cache
def every_figure(methods, clients, rounds=3, seeds=2):
    """Draw one of each kind, marked as simulated."""
    methods, clients, looks = list(methods), list(clients), figures.looks_of(methods)
    frame, layers = curve_frame(methods, clients, rounds, seeds), ["enc1.0", "enc4.0", "final"]
    pairs = [
        {"one": a, "other": b, "round": 1, "mean": 0.4, "std": NAN, "seeds": 1}
        for a, b in itertools.combinations(clients, 2)
    ]
    pairs = pairs or [{"one": clients[0], "other": "other", "round": 1, "mean": NAN, "std": NAN, "seeds": 0}]
    drawn = {
        "curves": figures.curves("x", frame, looks, True),
        "client_curves": figures.client_curves("x", frame, looks, True),
        "clients": figures.clients("x", seed_frame(methods, clients), methods, looks, True),
        "mask_lines": masks_drawn.mask_lines("x", methods[0], rate_frame(clients, layers, rounds), True),
        "mask_map": masks_drawn.mask_map("x", methods[0], rate_frame(clients, layers, rounds), True),
        "overlap": overlaps.overlap_map("x", methods[0], pd.DataFrame(pairs), True),
        "boxes": boxes.case_boxes("x", case_frame(methods, clients, 5), methods, looks, True),
        "cost": costs_drawn.cost_figure("x", price_frame(methods), looks, True, ["a machine"]),
        "sweep": sweep_figure("x", sweep_of(clients, methods[0], seeds=seeds), looks),
        "overlay": overlay_figure("x", sheet_of(methods[:8], clients[0])),
    }
    return {kind: picture for kind, picture in drawn.items() if picture is not None}


def words(svg):
    return [
        " ".join("".join(e.itertext()).split()) for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_hostile_names_come_out_as_text_in_every_figure():
    drawn = every_figure(HOSTILE, HOSTILE)
    for kind, shown in drawn.items():
        inline = ET.fromstring(shown.inline.replace("xlink:", ""))
        assert not [e for e in inline.iter() if "script" in e.tag], kind
        assert "SIMULATED DATA" in "\n".join(words(shown.svg)), kind
        assert "\u202e" not in shown.svg.decode() + shown.caption + shown.alt, kind
    plain = {canvas.shortened(name, 24) for name in HOSTILE}
    for kind in ("curves", "clients", "boxes", "cost", "overlap", "mask_map"):
        found = {line.removesuffix(" (n = 5)") for line in words(drawn[kind].svg)}
        assert plain - found <= {canvas.shortened(HOSTILE[0], 24)}, kind  # the longest may be cut further
        assert any(line.startswith("<script>a") for line in found), kind


def test_a_name_that_looks_like_markup_is_unchanged_in_the_page():
    name = ' id="x" url(#y) href="#z'
    drawn = figures.curves("x", curve_frame([name], ["A"], 2, 1), {name: 0}, True)
    shown = [
        "".join(e.itertext())
        for e in ET.fromstring(drawn.inline.replace("xlink:", "")).iter()
        if e.tag.endswith("text")
    ]
    assert name.strip() in shown


@pytest.mark.parametrize(
    ("methods", "clients", "rounds", "seeds"),
    [(1, 1, 1, 1), (2, 1, 1, 2), (10, 12, 2, 3), (2, 20, 2, 1)],
)
def test_few_and_many_are_drawn_no_wider_than_a_page(methods, clients, rounds, seeds):
    names = tuple(f"A method with a long name and settings, number {i}" for i in range(methods))
    sites = tuple(f"Hospital of the holy so-and-so {i}" for i in range(clients))
    for kind, drawn in every_figure(names, sites, rounds, seeds).items():
        wide, high = Image.open(io.BytesIO(drawn.png)).size
        assert wide <= 7.0 * canvas.DPI, kind
        assert high <= 9.5 * canvas.DPI, kind
        assert len(drawn.alt) > 40, kind
        assert len(drawn.caption) > 40, kind
        assert len(drawn.data), kind


def test_the_same_input_gives_the_same_bytes():
    first, second = (every_figure.__wrapped__(("a", "b"), ("A", "B", "C")) for _ in range(2))
    for kind, drawn in first.items():
        assert drawn.svg == second[kind].svg, kind
        assert drawn.png == second[kind].png, kind


def test_missing_numbers_are_drawn_as_gaps_not_refused():
    looks = figures.looks_of(["a", "b"])
    frame = curve_frame(["a", "b"], ["A", "B"], 4, 2)
    frame.loc[frame["variant"] == "a", "mean"] = NAN
    assert figures.client_curves("x", frame, looks, False).svg
    assert figures.client_curves("x", frame.assign(mean=NAN), looks, False).svg
    assert figures.curves("x", frame, looks, False).svg
    assert boxes.case_boxes("x", case_frame(["a", "b"], ["A"], 3, NAN), ["a", "b"], looks, False).svg
    rates = rate_frame(["A", "B"], ["x", "y"], 2, value=NAN)
    assert masks_drawn.mask_map("x", "m", rates, False).svg
    assert masks_drawn.mask_map("x", "m", rate_frame(["A"], ["x"], 1, value=0.0), False).svg


def test_captions_tell_seeds_clients_and_cases_apart():
    drawn = every_figure(("a", "b"), ("A", "B", "C"))
    assert "over seeds" in drawn["curves"].caption
    assert "over cases, not over seeds" in drawn["boxes"].caption
    one = every_figure(("a",), ("A",), 1, 1)
    assert "no spread over seeds" in one["curves"].caption
    assert "no band" in one["sweep"].caption
    assert "population standard deviation over seeds" in drawn["sweep"].caption


def test_without_costs_there_is_no_figure_and_machines_that_differ_are_a_warning():
    looks, frame = figures.looks_of(["a", "b"]), price_frame(["a", "b"])
    assert costs_drawn.cost_figure("x", frame.assign(bytes=NAN, seconds=NAN), looks, False, []) is None
    assert "WARNING" in costs_drawn.cost_figure("x", frame, looks, False, ["one", "two"]).caption
    assert "WARNING" not in costs_drawn.cost_figure("x", frame, looks, False, ["one"]).caption
    only_local = costs_drawn.cost_figure("x", frame.assign(bytes=0.0), looks, False, [])
    assert "Sent and received per client, whole trial" not in words(only_local.svg)


def test_names_of_points_do_not_overlap_each_other_or_a_point():
    rng = np.random.default_rng(1)
    with canvas.style("x"):
        drawn = Figure(figsize=(7, 3), layout="constrained")
        axes = drawn.subplots()
        points = [labels.Point(x, y, x, x, y, y) for x, y in rng.uniform(0.45, 0.55, (14, 2)).tolist()]
        axes.plot([p.x for p in points], [p.y for p in points], "o")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        labels.place_labels(drawn, axes, points, [f"method {i}" for i in range(14)])
        boxes_drawn = [text.get_window_extent() for text in axes.texts]
        places = [axes.transData.transform((p.x, p.y)) for p in points]
    assert not [1 for one, other in itertools.combinations(boxes_drawn, 2) if one.shrunk(0.99, 0.9).overlaps(other)]
    assert not [1 for box in boxes_drawn for place in places if box.contains(*place)]


def test_sides_in_millimetres_stretch_the_pixels():
    square, wide = (overlay_figure("x", sheet_of(["a"], "A", extent)) for extent in (None, (12.0, 32.0)))
    heights = [Image.open(io.BytesIO(drawn.png)).size[1] for drawn in (square, wide)]
    assert heights[1] < heights[0]


def test_grey_images_are_drawn_like_coloured_ones():
    assert overlay_figure("x", sheet_of(["a"], "A", channels=1)).png
