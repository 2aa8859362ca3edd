"""``pflbench data`` as a user types it, on generated releases in the real layouts, up to a first trial."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pflbench import cli
from pflbench.results import find_trials, scores

TINY = ["--set", "recipe.rounds=1", "--set", "recipe.epochs=1", "--set", "recipe.base_width=1", "--jobs", "1"]
TINY += ["--set", "recipe.image_height=16", "--set", "recipe.image_width=16", "--device", "cpu", "--seeds", "1"]


def made_by(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", Path(__file__).parents[1] / f"data/{name}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Generated releases of all three federations, with all their patients."""
    base = tmp_path_factory.mktemp("releases")
    vessel = made_by("vessel")
    vessel.icpr(base / "ICPRVessels")
    vessel.les_av(base / "LES-AV")
    made_by("prostate").make(base / "prostate")
    made_by("gland").write(base / "MGD1k", patients=24)
    return base


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line with folders of the test's own and returns code, out, err."""
    monkeypatch.setenv("PFLBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        code = cli.call([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def rows(text):
    """Return site -> what stands in its row."""
    return {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line.split()}


def test_the_vessel_federation_is_imported_with_the_papers_counts(call, releases):
    code, out, _ = call("data", "import", "vessel", "--from", releases / "ICPRVessels", "--from", releases / "LES-AV")
    assert code == 0
    counts = {
        "CHASEDB1": "20/8",
        "DR-HAGIS": "34/6",
        "DRIVE": "20/20",
        "HRF": "15/30",
        "LES-AV": "17/5",
        "ORVS": "41/8",
    }
    for site, count in counts.items():
        assert rows(out)[site].split()[1:4] == [count, count, "same"]
    assert "missing of the paper's sites" not in out
    for licence in ("CC BY 4.0", "research and education only", "scientific use only"):
        assert licence in out
    assert "Staal et al." in out
    assert "union of both observers" in out


def test_what_is_missing_is_said_with_what_to_do(call, releases):
    code, out, _ = call("data", "import", "vessel", "--from", releases / "LES-AV")
    assert code == 0
    assert "missing of the paper's sites: CHASEDB1, DR-HAGIS, DRIVE, HRF, ORVS" in out
    assert "To get DRIVE: " in out
    code, out, _ = call("data", "import", "vessel", "--from", releases / "ICPRVessels")
    assert "Here before and kept: LES-AV" in out
    assert "missing of the paper's sites" not in out


def test_an_archive_is_imported_like_its_folder(call, releases, tmp_path):
    archive = tmp_path / "LES-AV.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted((releases / "LES-AV").rglob("*")):
            packed.write(file, Path("LES-AV") / file.relative_to(releases / "LES-AV"))
    code, out, _ = call("data", "import", "vessel", "--from", archive)
    assert code == 0
    assert rows(out)["LES-AV"].split()[1:4] == ["17/5", "17/5", "same"]


def test_status_and_verify_speak_of_what_was_imported(call, releases, tmp_path):
    assert "not here; vessel-simulated is used instead" in call("data", "status")[1]
    assert call("data", "verify", "vessel")[0] == 2
    call("data", "import", "vessel", "--from", releases / "LES-AV")
    code, out, _ = call("data", "status")
    assert code == 0
    assert "decoded" in out
    assert rows(out)["LES-AV"].split()[1] == "17/5"
    code, out, _ = call("data", "verify", "vessel")
    assert code == 0
    assert "0 wrong" in out
    file = next((tmp_path / "data" / "vessel").rglob("*.png"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, out, _ = call("data", "verify", "vessel")
    assert code == 1
    assert str(file) in out


@pytest.mark.parametrize("source", ["nothing", "other"])
def test_a_source_that_is_not_there_or_something_else_is_one_sentence_and_code_2(call, tmp_path, source):
    (tmp_path / "other").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "other" / "cat.png")
    code, _, err = call("data", "import", "vessel", "--from", tmp_path / source)
    assert code == 2
    assert str(tmp_path / source) in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["vessel", "prostate", "gland"])
def test_data_that_cannot_be_fetched_comes_with_exact_instructions(call, name):
    sites = {"vessel": "DRIVE,ORVS", "prostate": "HK", "gland": "MGD-1K,LFSC"}[name]
    code, out, _ = call("data", "download", name, "--sites", sites)
    assert code == 0
    for site in sites.split(","):
        assert f"To get {site}: " in out
    assert f"pflbench data import {name} --from" in out


def test_own_data_is_neither_fetched_nor_imported(call, tmp_path):
    for command in (["download", "folder"], ["import", "folder", "--from", tmp_path]):
        code, _, err = call("data", *command)
        assert code == 2
        assert "pflbench run --dataset folder --data-root FOLDER" in err


def test_one_broken_dataset_does_not_hide_the_others(call, tmp_path):
    (tmp_path / "data" / "vessel").mkdir(parents=True)
    (tmp_path / "data" / "vessel" / "index.json").write_text("{")
    code, out, _ = call("data", "status")
    assert code == 0
    assert "index.json" in out
    assert "prostate" in out
    assert "gland" in out


def test_a_misspelt_site_or_dataset_is_named(call):
    assert "did you mean 'DRIVE'?" in call("data", "download", "vessel", "--sites", "DRIV")[2]
    assert "did you mean 'vessel'?" in call("data", "import", "vesel", "--from", ".")[2]


def test_the_list_names_every_dataset_with_licences(call):
    code, out, _ = call("data", "list")
    assert code == 0
    for words in ("vessel", "CC BY 4.0", "prostate", "gland", "MGD-1K", "338 subjects", "own folders or CSV"):
        assert words in out


def first_trial(call, tmp_path, *arguments):
    code, out, err = call("run", "--out", tmp_path / "runs", *TINY, *arguments)
    assert code == 0, out + err
    trials, broken = find_trials([tmp_path / "runs"])
    assert broken == []
    return trials


@pytest.mark.parametrize("name", ["prostate", "gland"])
def test_a_generated_release_runs_from_import_to_scores(call, releases, tmp_path, name):
    folder = {"prostate": "prostate", "gland": "MGD1k"}[name]
    assert call("data", "import", name, "--from", releases / folder)[0] == 0
    partition = ["--partitioner", "trait", "--set", "trait.by=lid"] if name == "gland" else []
    trials = first_trial(
        call, tmp_path, "--dataset", name, "--methods", "fedavg,resfim", "--preset", "quick", *partition
    )
    frame = scores(trials)
    clients = {"prostate": {"BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL"}, "gland": {"lower", "upper"}}[name]
    assert set(frame.client) == clients
    assert set(frame.metric) == ({"dice", "dice_volume"} if name == "prostate" else {"dice"})
    assert set(frame.method) == {"fedavg", "resfim"}


@pytest.mark.parametrize("name", ["prostate-simulated", "gland-simulated"])
def test_a_simulated_federation_runs_and_says_that_it_is_simulated(call, tmp_path, name):
    few = ["--partitioner", "few", "--set", "few.subjects=2", "--set", "few.test=0.1"]
    size = ["--set", "prostate-simulated.slices=2"] if name.startswith("prostate") else []
    (trial,) = first_trial(call, tmp_path, "--dataset", name, "--methods", "fedavg", "--preset", "quick", *few, *size)
    assert trial.spec["dataset"]["simulated"]


def test_a_client_alone_is_told_so(call, releases, tmp_path):
    call("data", "import", "gland", "--from", releases / "MGD1k")
    alone = call("run", "--out", tmp_path / "runs", *TINY, "--dataset", "gland", "--methods", "fedavg", "--plan")[1]
    assert "One client alone" in alone
    several = ["--partitioner", "trait", "--set", "trait.by=eye"]
    both = call(
        "run", "--out", tmp_path / "runs", *TINY, "--dataset", "gland", "--methods", "fedavg", "--plan", *several
    )
    assert "One client alone" not in both[1]


def test_fields_of_view_give_a_second_score(call, releases, tmp_path):
    call("data", "import", "vessel", "--from", releases / "LES-AV")
    partition = ["--sites", "LES-AV", "--partitioner", "iid", "--set", "iid.clients=2"]
    frame = scores(first_trial(call, tmp_path, "--dataset", "vessel", "--methods", "fedavg", *partition))
    assert set(frame.metric) == {"dice", "dice_fov"}


def test_a_split_that_was_shown_is_a_split_that_can_be_run(call, releases, tmp_path):
    call("data", "import", "vessel", "--from", releases / "ICPRVessels")
    sites = ["--sites", "CHASEDB1,HRF"]
    mixed = ["--partitioner", "dirichlet", "--set", "dirichlet.clients=2", "--set", "dirichlet.alpha=5"]
    shown = tmp_path / "shown"
    code, out, _ = call("data", "show", "vessel", *sites, *mixed, "--preset", "quick", "--out", shown)
    assert code == 0
    assert {path.suffix for path in shown.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert "client-1" in out
    split = json.loads((shown / "split.json").read_text())
    drawn = first_trial(call, tmp_path, "--dataset", "vessel", "--methods", "fedavg", *sites, *mixed)[0]
    trials = first_trial(call, tmp_path, "--dataset", "vessel", "--methods", "fedavg", "--split", shown / "split.json")
    read = next(trial for trial in trials if trial.spec["partitioner"]["name"] == "file")
    assert read.spec["split"] == drawn.spec["split"] == split["about"]["split"]
    assert read.table("cases").equals(drawn.table("cases"))
    assert read.spec["dataset"]["sites"] == ["CHASEDB1", "HRF"]


@pytest.mark.parametrize("change", ["case", "hash", "format", "text"])
def test_a_split_file_that_does_not_fit_is_named(call, releases, tmp_path, change):
    call("data", "import", "vessel", "--from", releases / "LES-AV")
    mixed = ["--partitioner", "iid", "--set", "iid.clients=2"]
    shown = tmp_path / "shown"
    assert call("data", "show", "vessel", "--sites", "LES-AV", *mixed, "--out", shown)[0] == 0
    split = json.loads((shown / "split.json").read_text())
    train = split["clients"]["client-1"]["train"]
    first = next(iter(train))
    if change == "case":
        train["LES-AV/999"] = train.pop(first)
    elif change == "hash":
        train[first] = "0" * 64
    elif change == "format":
        split["pflbench split"] = 99
    file = tmp_path / "split.json"
    file.write_text("hello" if change == "text" else json.dumps(split))
    code, _, err = call("run", "--dataset", "vessel", "--split", file, "--out", tmp_path / "runs", *TINY)
    assert code == 2
    assert str(file) in err
    assert {"case": "LES-AV/999", "hash": first, "format": "99", "text": "no split file"}[change] in err


def test_a_site_left_out_is_tested_by_the_methods_that_can(call, releases, tmp_path):
    call("data", "import", "vessel", "--from", releases / "ICPRVessels")
    partition = ["--partitioner", "leave-one-site-out", "--set", "leave-one-site-out.site=HRF"]
    sites = ["--sites", "CHASEDB1,DRIVE,HRF"]
    code, out, _ = call("run", "--out", tmp_path / "runs", *TINY, "--dataset", "vessel", *sites, *partition)
    assert code == 0
    assert "FedBN is skipped: it has no model for a hospital that never trains (HRF)." in " ".join(out.split())
    assert "FedDF is skipped: " in " ".join(out.split())  # it would serve HRF, but has no public images
    trials = {trial.spec["method"]["name"]: trial for trial in find_trials([tmp_path / "runs"])[0]}
    assert set(trials) == {"pooled", "fedavg", "fedprox", "scaffold", "fednova", "moon", "feddg", "harmofl"}
    for name, trial in trials.items():
        assert trial.state == "finished", trial.error
        assert set(scores([trial]).client) == {"CHASEDB1", "DRIVE", "HRF"}
        if name != "pooled":
            assert set(trial.table("rounds").query("split == 'train'").client) == {"CHASEDB1", "DRIVE"}
