"""The command line: bad usage is one sentence and exit code 2, before anything is trained."""

import json
import subprocess
import sys

import pytest

import pflbench
from pflbench import cli
from pflbench.plugins import Plugin, registry

TINY = ["--set", "recipe.rounds=1", "--set", "recipe.epochs=1", "--set", "recipe.base_width=1"]
TINY += ["--set", "recipe.image_height=16", "--set", "recipe.image_width=16", "--device", "cpu"]


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that calls ``pflbench run`` on simulated vessels; nothing may be written."""

    def call(*arguments, dataset="vessel-simulated"):
        code = cli.call(["run", "--dataset", dataset, "--out", str(tmp_path / "runs"), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def one_line(text):
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "resfin"], "no method called 'resfin'; did you mean 'resfim'?"),
        (["--methods", "fedavg,fedbm"], "no method called 'fedbm'; did you mean 'fedbn'?"),
        (["--partitioner", "naturel"], "no partitioner called 'naturel'; did you mean 'natural'?"),
        (["--sites", "sim-DRIV"], "no site of vessel-simulated called 'sim-DRIV'; did you mean 'sim-DRIVE'?"),
        (["--preset", "papper"], "no preset of vessel-simulated called 'papper'; did you mean 'paper'?"),
        (["--set", "resfim.dleta=0.2"], "no setting of resfim called 'dleta'; did you mean 'delta'?"),
        (
            ["--set", "resfim.delta=2"],
            "resfim.delta = 2 is refused: Input should be less than or equal to 1.",
        ),
        (["--set", "recipe.round=2"], "no setting of recipe called 'round'; did you mean 'rounds'?"),
        (["--set", "resfin.delta=0.2"], "no part of this run called 'resfin'; did you mean 'resfim'?"),
        (["--set", "delta"], "'delta' sets nothing; write OWNER.NAME=VALUE, as in resfim.delta=0.2."),
        (["--sweep", "delta=1,2"], "'delta' names no setting; write OWNER.NAME=VALUE"),
        (["--methods", "local", "--set", "resfim.delta=0.2"], "resfim.delta is set, but no part of this run"),
        (["--seeds", "three"], "--seeds 'three' is neither a number of seeds, as 3, nor a list, as 0,4,7."),
        (["--seeds", "0"], "0 seeds are asked for; take 1 to 10000."),
        (["--seeds", "1,1"], "name one twice"),
        (["--methods", ","], "--methods names no method; known: "),
        (["--device", "tpu"], "--device 'tpu' is not one of auto, cpu, cuda."),
    ],
)
def test_bad_usage_is_one_sentence_with_the_nearest_name_and_code_2(run, tmp_path, arguments, sentence):
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith("pflbench: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [("vesel", "did you mean 'vessel'?"), ("Vessel-Simulate", "did you mean 'vessel-simulated'?")],
)
def test_an_unknown_dataset_is_refused_with_the_nearest(run, dataset, sentence):
    code, _, err = run(dataset=dataset)
    assert code == 2
    assert sentence in err


def test_a_data_root_without_data_is_refused_and_not_simulated(run, tmp_path):
    code, out, err = run("--data-root", str(tmp_path / "nowhere"), dataset="vessel")
    assert code == 2
    assert str(tmp_path / "nowhere") in err
    assert "SIMULATED" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["runn"],
        ["run", "--method", "fedavg"],
        ["run", "--jobs", "0"],
        ["run", "--jobs", "two"],
        ["report"],
        ["list"],
    ],
)
def test_what_the_parser_refuses_is_code_2_without_a_traceback(capsys, arguments):
    assert cli.call(arguments) == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert shown.err


def test_a_mistyped_option_is_answered_with_the_nearest(capsys):
    assert cli.call(["run", "--method", "fedavg"]) == 2
    assert "--methods" in one_line(capsys.readouterr().err)


def test_the_version_is_shown(capsys):
    assert cli.call(["--version"]) == 0
    assert capsys.readouterr().out == f"pflbench {pflbench.__version__}\n"


def test_main_exits_with_the_code(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    with pytest.raises(SystemExit) as exit:
        cli.main(["list", "nothing"])
    assert exit.value.code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "--help"], ["report", "--help"]])
def test_help_needs_none_of_the_heavy_libraries(arguments):
    script = (
        "import sys\nfrom pflbench.cli import call\ncode = call(sys.argv[1:])\n"
        "heavy = ('torch', 'monai', 'pandas', 'numpy', 'matplotlib', 'scipy', 'rich.progress')\n"
        "sys.exit(code or ' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    shown = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "Usage: " in shown.stdout


# ----------------------------------------------------------------------------------------------- plan


def test_a_plan_lists_the_trials_and_the_time_and_trains_nothing(run, tmp_path):
    code, out, err = run("--methods", "fedavg,local", "--seeds", "2", "--plan", *TINY)
    assert (code, err) == (0, "")
    assert "4 of 4 trials to run, about" in one_line(out)
    assert "SIMULATED DATA" in out
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True


def test_a_skipped_method_is_said(run, monkeypatch):
    monkeypatch.setattr(registry().method("local"), "unsuitable", lambda *_: "it is alone.")
    code, out, _ = run("--methods", "local", "--plan")
    assert code == 0
    assert "Local is skipped: it is alone." in one_line(out)


def test_a_plugin_that_could_not_be_loaded_is_said(run, monkeypatch):
    broken = Plugin("b", "broken", "1.0", problem="plugin 'b' of broken 1.0 could not be loaded (no luck).")
    monkeypatch.setattr(registry(), "plugins", [*registry().plugins, broken])
    code, out, err = run("--methods", "fedavg", "--seeds", "1", "--plan", *TINY)
    assert code == 0
    assert "Warning: plugin 'b' of broken 1.0 could not be loaded (no luck)." in one_line(out + err)


def test_an_interruption_is_code_130_with_the_command_to_go_on(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pflbench.plan.make_plan", interrupted)
    code, _, err = run("--methods", "fedavg", "--set", "recipe.rounds=3")
    assert code == 130
    assert "go on with:\n  pflbench run --dataset vessel-simulated --out " in err
    assert err.rstrip().endswith("--methods fedavg --set recipe.rounds=3")
    assert "Traceback" not in err


def test_an_error_in_the_code_is_not_hidden(run, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("pflbench.plan.make_plan", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run("--methods", "fedavg")


def test_the_recorded_command_gives_the_same_trials(monkeypatch, tmp_path, capsys):
    import shlex

    from pflbench import plan

    made = []
    original = plan.make_plan
    monkeypatch.setattr(plan, "make_plan", lambda *a: made.append(original(*a)) or made[-1])
    asked = ["run", "--methods", "resfim,fedavg", "--dataset", "vessel-simulated", "--seeds", "4,", "--sites"]
    asked += ["sim-HRF,sim-DRIVE", "--sweep", "resfim.delta=0.1,0.2", *TINY, "--plan", "--out", str(tmp_path)]
    assert cli.call(asked) == 0
    recorded = shlex.split(made[0].trials[0].about["command"])
    assert recorded[:2] == ["pflbench", "run"]
    assert cli.call([*recorded[1:], "--device", "cpu", "--plan", "--out", str(tmp_path)]) == 0
    assert [t.name for t in made[1].trials] == [t.name for t in made[0].trials]
    capsys.readouterr()


@pytest.mark.parametrize(
    "option",
    [
        "--set resfim.fisher_images=none --set resfim.fisher_labels=sampled",
        "--set recipe.fixed_split=true",
        "--public sim-ORVS",
        "--partitioner quantity --set quantity.ratio=4",
    ],
)
def test_the_recorded_command_repeats_every_kind_of_option(monkeypatch, tmp_path, capsys, option):
    import shlex

    from pflbench import plan

    made = []
    original = plan.make_plan
    monkeypatch.setattr(plan, "make_plan", lambda *a: made.append(original(*a)) or made[-1])
    asked = ["run", "--methods", "resfim", "--dataset", "vessel-simulated", "--seeds", "1", *TINY]
    assert cli.call([*asked, *option.split(), "--plan", "--out", str(tmp_path)]) == 0
    recorded = shlex.split(made[0].trials[0].about["command"])
    assert cli.call([*recorded[1:], "--device", "cpu", "--plan", "--out", str(tmp_path)]) == 0
    assert [t.spec for t in made[1].trials] == [t.spec for t in made[0].trials]
    assert cli.call([*asked, "--plan", "--out", str(tmp_path)]) == 0
    assert [t.spec for t in made[2].trials] != [t.spec for t in made[0].trials]  # the option says something
    capsys.readouterr()


# ----------------------------------------------------------------------------------------------- list


@pytest.mark.parametrize("what", ["methods", "datasets", "partitioners"])
def test_a_list_is_the_registry(capsys, what):
    assert cli.call(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == registry().names(what[:-1])
    assert all(row["title"] and row["from"].startswith("pflbench ") for row in rows)


def test_the_list_of_methods_says_what_each_is_and_takes(capsys):
    assert cli.call(["list", "methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["resfim"]["settings"]["delta"] == 0.1
    assert rows["local"]["leaves the hospital"] == "nothing"
    assert rows["fedavg"]["settings"] == {}
    assert all(row["summary"].endswith(".") and row["citation"] for row in rows.values())
    assert {row["family"] for row in rows.values()} == {"control", "general", "personalized"}
    assert (rows["local"]["family"], rows["fedavg"]["family"], rows["resfim"]["family"]) == (
        "control",
        "general",
        "personalized",
    )
    assert (rows["fedavg"]["year"], rows["ditto"]["year"], rows["local"]["year"]) == (2017, 2021, "")
    assert all(row["leaves the hospital"] for row in rows.values())
    assert rows["fedavg"]["cost"] == "1.00 x the gradients of FedAvg"
    assert rows["ditto"]["cost"] == "2.00 x the gradients of FedAvg"
    # steps x batch of the server's / six hospitals x twenty images x four epochs
    assert rows["feddf"]["cost"] == "1.00 x the gradients of FedAvg, and 0.42 x at the server"
    assert all("x the gradients of FedAvg" in row["cost"] for row in rows.values())


def test_the_list_of_datasets_counts_the_papers_images(capsys):
    assert cli.call(["list", "datasets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["vessel"]["train/test"] == {
        "CHASEDB1": "20/8",
        "DR-HAGIS": "34/6",
        "DRIVE": "20/20",
        "HRF": "15/30",
        "LES-AV": "17/5",
        "ORVS": "41/8",
    }
    assert rows["vessel"]["simulated"] is False
    assert rows["vessel-simulated"]["simulated"] is True


def test_the_list_of_plugins_shows_hooks_and_problems(capsys):
    assert cli.call(["list", "plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["plugin"] for row in rows][:2] == ["pflbench-datasets", "pflbench-methods"]
    assert rows[0]["hooks"] == ["pflbench_datasets", "pflbench_partitioners"]
    assert {row["problem"] for row in rows} == {""}


@pytest.mark.parametrize(
    ("what", "shown"),
    [("methods", "resfim"), ("datasets", "vessel"), ("partitioners", "dirichlet"), ("plugins", "pflbench")],
)
def test_a_plain_list_is_a_table(capsys, monkeypatch, what, shown):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.call(["list", what]) == 0
    assert shown in capsys.readouterr().out


def test_a_list_of_something_else_is_refused_with_the_nearest(capsys):
    assert cli.call(["list", "method"]) == 2
    assert capsys.readouterr().err == "pflbench: no list called 'method'; did you mean 'methods'?\n"


# --------------------------------------------------------------------------------------------- report


def test_a_report_on_a_missing_folder_is_refused_with_its_name(capsys, tmp_path):
    assert cli.call(["report", str(tmp_path / "absent"), "--out", str(tmp_path / "report")]) == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "absent") in err
    assert "does not exist" in err
    assert not (tmp_path / "report").exists()
