"""The numbers behind the figures: sweeps, prices, cases, overlaps, and which cases are shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from pflbench.results import Picture as Case
from pflbench.results import pictures_file, write_pictures, write_predictions, write_table
from pflbench_reports import boxes, costs_drawn, overlaps, overlays, sweeps
from pflbench_reports.groups import load
from pflbench_reports.overlays_drawn import COLOURS, painted
from pflbench_reports.sweeps_drawn import scale_of
from pflbench_reports.traces import client_validation, mask_overlaps

HOSTILE = ("<script>alert(1)</script>", "a/b|c", "$\\alpha$ 100 % & #1_x", "\u202eשלום\u0007", "_hidden")


def method(name, label="", **settings):
    return {"name": name, "title": name, "label": label, "settings": settings}


def only_group(trials):
    groups, problems = load([trials[0].folder.parent])
    assert not problems
    assert len(groups) == 1
    return groups[0]


def resfim(trial, delta, dice, seed=0, beta=0.01):
    return trial(dice, method=method("resfim", f"delta={delta}, beta={beta}", delta=delta, beta=beta), seed=seed)


# sweeps


def test_a_sweep_is_what_differs_in_one_number_only():
    choices = {
        "a": {"delta": 0.1, "beta": 1, "mode": "max"},
        "b": {"delta": 0.2, "beta": 1, "mode": "max"},
        "c": {"delta": 0.3, "beta": 1, "mode": "raw"},
        "d": {"delta": 0.3, "beta": 2, "mode": "max"},
    }
    assert sweeps.families(choices, ["delta", "beta", "mode"]) == [("delta", {0.1: "a", 0.2: "b"})]


def test_switches_words_and_nothing_are_no_numbers():
    choices = {"a": {"x": True, "y": "1", "z": None}, "b": {"x": False, "y": "2", "z": 3}}
    assert sweeps.families(choices, ["x", "y", "z"]) == []


def test_a_grid_of_settings_has_a_sweep_per_line():
    choices = {f"{i}{j}": {"delta": i, "beta": j} for i in (1, 2) for j in (3, 4)}
    found = sweeps.families(choices, ["delta", "beta"])
    assert sorted(name for name, _ in found) == ["beta", "beta", "delta", "delta"]
    assert ("delta", {1.0: "13", 2.0: "23"}) in found


def test_a_sweep_holds_clients_their_average_and_the_spread_over_seeds(trial):
    made = [
        resfim(trial, 0.1, {"A": 0.60, "B": 0.80}),
        resfim(trial, 0.1, {"A": 0.64, "B": 0.80}, seed=1),
        resfim(trial, 0.2, {"A": 0.50, "B": 0.70}),
        trial({"A": 0.55, "B": 0.65}, method=method("fedavg")),
        trial({"A": 0.50, "B": 0.60}, method=method("local")),
        trial({"A": 0.99, "B": 0.99}, method=method("fedbn")),
    ]
    (sweep,) = sweeps.method_sweeps(only_group(made))
    frame = sweep.frame.set_index(["kind", "line", "value"]).sort_index()
    average = frame.loc[("average", sweeps.AVERAGE)]
    assert sweep.setting == "resfim.delta"
    assert average.loc[0.1, "mean"] == pytest.approx((70 + 72) / 2)
    assert average.loc[0.1, "std"] == pytest.approx(1.0)  # of 70 and 72, population
    assert np.isnan(average.loc[0.2, "std"])
    assert frame.loc[("client", "A", 0.1), "mean"].item() == pytest.approx(62)
    references = sweep.frame[sweep.frame["kind"] == "reference"].set_index("line")["mean"]
    assert references.to_dict() == pytest.approx({"fedavg": 60, "local": 55})


def test_without_fedavg_the_best_other_method_is_the_level(trial):
    made = [resfim(trial, d, {"A": 0.5}) for d in (0.1, 0.2)]
    made += [trial({"A": v}, method=method(n)) for n, v in (("local", 0.4), ("fedbn", 0.7), ("fedper", 0.6))]
    (sweep,) = sweeps.method_sweeps(only_group(made))
    assert set(sweep.frame.loc[sweep.frame["kind"] == "reference", "line"]) == {"local", "fedbn"}


def test_a_sweep_of_the_recipe_runs_through_groups(trial):
    for rounds, shift in ((2, 0.0), (4, 0.1)):
        for name, dice in (("fedavg", 0.5), ("local", 0.4)):
            made = trial({"A": dice + shift}, method=method(name), recipe={"rounds": rounds})
    groups, _ = load([made.folder.parent])
    (sweep,) = sweeps.recipe_sweeps(groups)
    found = sweep.frame.set_index(["line", "value"])["mean"].to_dict()
    assert sweep.setting == "recipe.rounds"
    expected = {("fedavg", 2.0): 50, ("fedavg", 4.0): 60, ("local", 2.0): 40, ("local", 4.0): 50}
    assert found == pytest.approx(expected)


def test_groups_that_differ_in_more_than_one_value_are_no_sweep(trial):
    trial({"A": 0.5}, recipe={"rounds": 2, "epochs": 1})
    made = trial({"A": 0.5}, recipe={"rounds": 4, "epochs": 2})
    assert sweeps.recipe_sweeps(load([made.folder.parent])[0]) == []


@pytest.mark.parametrize(
    ("values", "scale"),
    [((0, 0.05, 0.1, 0.2), "linear"), ((0.0001, 0.001, 0.01, 0.1), "log"), ((0, 0.001, 0.01, 1), "even")],
)
def test_the_axis_keeps_the_values_apart(values, scale):
    assert scale_of(values) == scale


# cost


def test_bytes_are_of_the_whole_trial_with_what_is_sent_once(trial):
    group = only_group([trial({"A": 0.6, "B": 0.7}, seed=seed) for seed in (0, 1)])
    (row,) = costs_drawn.price(group).to_dict("records")
    assert row["bytes"] == 512 + 2 * (2048 + 1024)  # of the fixture: once, and two rounds up and down
    assert row["seconds"] == 2 * (2 * 1.5 + 0.5)
    assert (row["dice"], row["dice_std"]) == pytest.approx((65.0, 0.0))


def test_an_empty_ledger_is_zero_bytes_and_a_missing_one_unknown(trial):
    empty, missing = trial({"A": 0.6}, method=method("local")), trial({"A": 0.6}, method=method("old"))
    write_table(empty.folder, "ledger", [])
    (missing.folder / "ledger.csv").unlink()
    prices = costs_drawn.price(only_group([empty, missing])).set_index("variant")["bytes"]
    assert prices["local"] == 0
    assert np.isnan(prices["old"])


@pytest.mark.parametrize("factor", [2.5, 7, 300, 1e5])
@pytest.mark.parametrize(
    ("kind", "low"),
    [
        ("bytes", 40),
        ("bytes", 3000),
        ("bytes", 3e6),
        ("bytes", 1e8),
        ("seconds", 2e-3),
        ("seconds", 0.5),
        ("seconds", 400),
    ],
)
def test_every_axis_of_costs_has_one_to_five_ticks_within_its_limits(kind, low, factor):
    ticks = [value for value, _ in costs_drawn.ticks_between(low, low * factor, kind)]
    assert 1 <= len(ticks) <= 5
    assert all(low <= tick <= low * factor for tick in ticks)
    assert ticks == sorted(set(ticks))


# cases


def test_a_case_is_averaged_over_the_seeds_that_tested_it(trial):
    group = only_group([trial({"A": 0.6}, seed=0), trial({"A": 0.7}, seed=1)])
    frame = boxes.case_scores(group).set_index("case")
    assert frame["dice"].to_dict() == pytest.approx({"A-0": (59 + 69) / 2, "A-1": (61 + 71) / 2})
    assert set(frame["seeds"]) == {2}


def test_thinning_keeps_both_ends_and_the_median():
    values = np.random.default_rng(0).permutation(1001).astype(float)
    kept = boxes.thinned(values)
    assert len(kept) == boxes.MANY
    assert (kept[0], kept[-1]) == (0, 1000)
    assert np.median(kept) == pytest.approx(500, abs=1000 / boxes.MANY)
    assert set(boxes.thinned(values[:7])) == set(values[:7])


# validation


def test_validation_per_client_is_not_mixed(trial):
    group = only_group([trial({"A": 0.6, "B": 0.8}, seed=s) for s in (0, 1)])
    frame = client_validation(group).set_index(["client", "round"])["mean"]
    expected = {("A", 1): 50, ("B", 1): 70, ("A", 2): 55, ("B", 2): 75}  # the fixture: dice - 0.1 / round
    assert frame.to_dict() == pytest.approx(expected)


# overlaps


def test_overlaps_become_a_symmetric_matrix_of_the_last_round(trial):
    names = ["b/1", *HOSTILE, "a"]
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    made = []
    for seed in (0, 1):
        made.append(trial({"A": 0.5}, seed=seed))
        rows = [
            [r, "", f"mask_iou/{quote(one, safe='')}/{quote(other, safe='')}", r / 10 + seed / 10 + k / 1000]
            for r in (1, 2)
            for k, (one, other) in enumerate(pairs)
        ]
        write_table(made[-1].folder, "logs", rows)
    (frame,) = mask_overlaps(only_group(made)).values()
    square = overlaps.overlap_matrix(frame)
    assert list(square.index) == list(square.columns) == names
    for k, (one, other) in enumerate(pairs):
        assert square.loc[one, other] == square.loc[other, one] == pytest.approx(0.25 + k / 1000)
    assert np.diag(square).tolist() == [1.0] * len(names)


def test_a_pair_without_a_value_is_missing_not_zero():
    frame = pd.DataFrame({"one": ["a", "a"], "other": ["b", "c"], "round": [1, 1], "mean": [0.0, 0.4]})
    square = overlaps.overlap_matrix(frame)
    assert square.loc["a", "b"] == 0.0
    assert np.isnan(square.loc["b", "c"])


# overlays


def keep_pictures(made, dice_by_client, shape=(12, 16)):
    """Give trials of one seed predictions and images: a mask of 4 x 4 pixels and as many hits as the case's Dice."""
    for one in made:
        cases = one.table("cases")
        best = cases[cases["chosen"] == "best"]
        found = {c: np.zeros((len(best[best["client"] == c]), *shape), dtype=bool) for c in dice_by_client}
        write_predictions(one.folder, found)
    image, mask = np.full((3, *shape), 200, np.uint8), np.zeros(shape, bool)
    mask[4:8, 5:9] = True
    path = pictures_file(made[0].folder.parent, made[0].spec, best["case"])
    path.parent.mkdir(exist_ok=True)
    write_pictures(path, {case: Case(image, mask, None) for case in best["case"]})


SIZE = {"rounds": 2, "epochs": 1, "batch": 4, "image_height": 12, "image_width": 16}


def with_cases(trial, name, dice, seed=0):
    made = trial({"A": 0.5}, method=method(name), seed=seed, recipe=SIZE)
    rows = [[w, 1, "A", "A", f"p{i}", "", f"A-{i}", v, None, 1, 0, 0] for w in ("best", "last") for i, v in dice]
    write_table(made.folder, "cases", rows)
    return made


def test_cases_are_ranked_by_their_median_over_methods(trial):
    # medians: A-0 0.5, A-1 0.2, A-2 0.9, A-3 0.4, A-4 0.6
    scores = {
        "x": [(0, 0.5), (1, 0.9), (2, 0.9), (3, 0.4), (4, 0.1)],
        "y": [(0, 0.4), (1, 0.2), (2, 0.9), (3, 0.4), (4, 0.6)],
        "z": [(0, 0.6), (1, 0.1), (2, 0.1), (3, 0.4), (4, 0.7)],
    }
    made = [with_cases(trial, name, rows) for name, rows in scores.items()]
    keep_pictures(made, ["A"])
    (sheet,), reason = overlays.sheets(only_group(made), ["z", "y", "x"])
    assert reason == ""
    assert [(row.rank, row.case) for row in sheet.rows] == [("worst", "A-1"), ("median", "A-0"), ("best", "A-2")]
    assert sheet.methods == ("z", "y", "x")
    assert sheet.rows[0].dice == pytest.approx({"z": 10, "y": 20, "x": 90})


def test_the_seed_is_the_first_that_all_methods_share(trial):
    made = [with_cases(trial, "x", [(0, 0.5)], seed) for seed in (0, 2, 3)]
    made += [with_cases(trial, "y", [(0, 0.6)], seed) for seed in (1, 2, 3)]
    keep_pictures(made, ["A"])
    (sheet,), _ = overlays.sheets(only_group(made), ["x", "y"])
    assert sheet.seed == 2
    assert [row.rank for row in sheet.rows] == ["only"]


def test_results_without_images_say_why_there_is_no_overlay(trial):
    made = [with_cases(trial, "x", [(0, 0.5)])]
    assert overlays.sheets(only_group(made), ["x"]) == (
        [],
        "There are no overlays: these results came without predictions.",
    )
    keep_pictures(made, ["A"])
    for file in (Path(made[0].folder.parent) / "pictures").iterdir():
        file.unlink()
    found, reason = overlays.sheets(only_group(made), ["x"])
    assert (found, reason) == ([], "There are no overlays: these results came without the test images.")


def test_more_methods_than_fit_are_named(trial):
    names = [f"m{i}" for i in range(10)]
    made = [with_cases(trial, name, [(0, 0.5)]) for name in names]
    keep_pictures(made, ["A"])
    (sheet,), _ = overlays.sheets(only_group(made), names)
    assert (sheet.methods, sheet.left_out) == (tuple(names[:8]), ("m8", "m9"))
    assert "Not shown: m8 and m9" in overlays.story(sheet)


def test_every_pixel_has_the_colour_of_its_outcome():
    found, mask = np.array([[True, True], [False, False]]), np.array([[True, False], [True, False]])
    shown = painted(np.full((2, 2), 100, np.uint8), overlays.outcome(found, mask))
    colours = [["true positive", "false positive"], ["false negative", None]]
    for place, word in np.ndenumerate(np.array(colours)):
        expected = bytes.fromhex(COLOURS[word][1:]) if word else bytes([75, 75, 75])
        assert shown[place].tobytes() == expected


def test_the_part_shown_holds_every_marked_pixel_in_the_shape_of_the_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask, found = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
        mask[tuple(rng.integers(0, (40, 60)))] = found[tuple(rng.integers(0, (40, 60)))] = True
        row = overlays.Row("only", "c", Case(np.zeros((1, 40, 60), np.uint8), mask, None), {"m": found}, {"m": 0.0})
        top, bottom, left, right = overlays.frame_of(row)
        assert (mask | found)[top:bottom, left:right].sum() == (mask | found).sum()
        assert 0 <= top < bottom <= 40
        assert 0 <= left < right <= 60
        assert (bottom - top) / (right - left) == pytest.approx(40 / 60, rel=0.12)  # whole pixels
