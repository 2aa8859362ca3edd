"""More metrics of trials that have finished: computed from what they kept, once, and without training."""

import shutil

import numpy as np
import pytest

import pflbench
from pflbench import cli
from pflbench.measuring import lacks, measure
from pflbench.results import find_trials, scores

SETTINGS = {"recipe.rounds": 1, "recipe.epochs": 1, "recipe.base_width": 2}
SETTINGS |= {"recipe.image_height": 32, "recipe.image_width": 32, "recipe.precision": "float32"}
SITES = ("sim-CHASEDB1", "sim-LES-AV")
RUN = ["run", "--dataset", "vessel-simulated", "--methods", "fedavg", "--seeds", "1", "--sites", ",".join(SITES)]
RUN += [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")] + ["--jobs", "1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "runs"
    assert cli.call([*RUN, "--out", str(out)]) == 0
    return out


@pytest.fixture
def out(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "runs")
    return tmp_path / "runs"


def only(out):
    [trial] = find_trials([out])[0]
    return trial


def test_asking_later_trains_nothing_and_computes_each_metric_once(out):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert cli.call([*RUN, "--out", str(out), "--metrics", "iou,hd95"]) == 0
    written = {path.name for path in out.rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns}
    assert written <= {"metrics.csv", ".lock"}
    assert lacks(only(out), ["iou", "hd95", "cldice"]) == ["cldice"]
    stamp = (only(out).folder / "metrics.csv").stat().st_mtime_ns
    assert measure([only(out)], ["iou", "hd95"]) == []
    assert (only(out).folder / "metrics.csv").stat().st_mtime_ns == stamp
    assert measure([only(out)], ["iou", "cldice"]) == []
    assert set(only(out).table("metrics")["metric"]) == {"iou", "hd95", "cldice"}


def test_the_scores_are_means_over_the_clients_cases(out):
    measure([only(out)], ["iou"])
    frame = scores([only(out)]).query("metric == 'iou'").set_index("client")
    cases = only(out).table("cases").query("chosen == 'best'")
    for client, rows in cases.groupby("client"):
        expected = np.mean([tp / max(1, tp + fp + fn) for tp, fp, fn in rows[["tp", "fp", "fn"]].to_numpy()])
        assert frame.value[client] == pytest.approx(expected, abs=1e-12)
        assert frame.cases[client] == len(rows)
        assert frame["round"][client] == rows["round"].iloc[0]


def test_every_metric_can_be_had(out):
    assert measure([only(out)], ["iou", "sensitivity", "precision", "hd95", "assd", "cldice"]) == []
    table = only(out).table("metrics")
    assert set(table.groupby("metric")["case"].nunique()) == {13}  # 8 + 5 test cases
    assert np.isfinite(table["value"]).all()


def test_a_trial_without_pictures_is_named(out):
    shutil.rmtree(out / "pictures")
    [sentence] = measure([only(out)], ["hd95"])
    assert only(out).id in sentence
    assert "hd95" in sentence


def test_an_unknown_metric_is_refused_before_anything_runs(tmp_path, capsys):
    assert cli.call([*RUN, "--out", str(tmp_path / "runs"), "--metrics", "hd96"]) == 2
    assert "did you mean 'hd95'?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_from_python_too(tmp_path):
    with pytest.warns(UserWarning, match="SIMULATED"):
        frame = pflbench.run(
            "fedavg", "vessel-simulated", 1, settings=SETTINGS, sites=SITES, jobs=1, out=tmp_path, metrics="precision"
        )
    assert set(frame["metric"]) == {"dice", "precision"}
