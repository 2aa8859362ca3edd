"""Files of scores: the paper's tables the whole way to the report's, and files that are wrong in some way."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pflbench.results import ResultsError
from pflbench_reports import write_report
from pflbench_reports.display import dice_table, gain_table
from pflbench_reports.groups import load
from pflbench_reports.sheets import read_sheet
from pflbench_reports.tables import local_of, main_metric, seed_scores, summary

HEADER = "dataset,method,client,seed,metric,value"
HOSTILE = '<script>|%_$\\&# "日本" ‮x'


def sheet(tmp_path, *lines, name="scores.csv", header=HEADER):
    path = tmp_path / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def only(path):
    groups, problems = load([path])
    assert len(groups) == 1
    return groups[0], problems


def three_seeds(mean, deviation):
    """Return three values that have this mean and population deviation: m and m -+ s sqrt(3/2)."""
    step = deviation * math.sqrt(1.5)
    return mean - step, mean, mean + step


def as_scores(paper, factor):
    clients = paper[paper["client"] != "Average"]
    rows = [
        [row.dataset, row.method, row.client, seed, "dice", value * factor]
        for row in clients.itertuples()
        for seed, value in enumerate(three_seeds(row.mean, row.std))
    ]
    return pd.DataFrame(rows, columns=HEADER.split(","))


@pytest.mark.parametrize("factor", [0.01, 1.0], ids=["shares", "percent"])
def test_a_file_made_from_the_papers_tables_gives_the_papers_tables(paper, tmp_path, factor):
    source = tmp_path / "scores.csv"
    as_scores(paper, factor).to_csv(source, index=False)
    out = tmp_path / "out"
    write_report([source], out)
    rows = 0
    for (table, dataset), printed in paper.groupby(["table", "dataset"]):
        (clients_file,) = out.glob(f"tables/{dataset}-*dice-best-clients.csv")
        (summary_file,) = out.glob(f"tables/{dataset}-*dice-best-summary.csv")
        found = pd.read_csv(clients_file).set_index(["variant", "client"])
        totals = pd.read_csv(summary_file).set_index("variant")
        for row in printed.itertuples():
            if row.client != "Average":
                assert f"{found.loc[(row.method, row.client), 'mean']:.2f}" == f"{row.mean:.2f}"
                assert f"{found.loc[(row.method, row.client), 'std']:.2f}" == f"{row.std:.2f}"
                continue
            rows += 1
            total = totals.loc[row.method]
            assert abs(round(total["average"], 2) - row.mean) <= 0.01 + 1e-9
            wrong = (table, row.method) == (3, "FedBN")  # prints 3.99, which its own client means exclude
            printed_spread = 3.84 if wrong else row.std
            assert abs(round(total["between_clients"], 2) - printed_spread) <= (0 if wrong else 0.01) + 1e-9
    assert rows == 15


def test_the_printed_table_ranks_as_the_paper_does(paper, tmp_path):
    source = tmp_path / "scores.csv"
    as_scores(paper[paper["table"] == 3], 0.01).to_csv(source, index=False)
    group, _ = only(source)
    order = list(summary(seed_scores(group, "best"), None)["variant"])
    table = dice_table(group, "best", order, compared=False)
    marks = {row[0].text: [cell.mark for cell in row[2:5]] for row in table.rows}
    assert marks["pFL-ResFIM"] == ["best", "best", "best"]
    assert marks["FedAvg"] == ["second", "second", "second"]
    assert marks["FedBN"] == ["", "second", ""]  # 81.86 as FedAvg has, made of other seeds


def test_a_file_of_scores_has_no_trials_and_says_where_it_is_from(tmp_path):
    group, problems = only(sheet(tmp_path, "eyes,Local training,A,0,dice,0.5", "eyes,Mine,A,0,dice,0.6"))
    assert (group.trials, group.spec, problems) == ((), {}, [])
    assert group.heading == "eyes: scores from scores.csv"
    assert local_of(group) == "Local training"
    table = dice_table(group, "best", ["Mine", "Local training"], compared=True)
    assert table.title == "Test Dice (%) as given in scores.csv"
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert (cells["A"].text, cells["Gain over local"].text, cells["Clients harmed"].text) == (
        "60.00",
        "+10.00",
        "0 of 1",
    )


def test_columns_may_come_in_any_order_and_others_are_ignored(tmp_path):
    path = sheet(tmp_path, "0.5,x,dice,3,A,Mine,eyes", header="\ufeffValue,note, metric,seed,client,method,dataset")
    frame = read_sheet(path).frame
    assert frame.loc[0, ["dataset", "method", "client", "seed", "metric", "value"]].tolist() == [
        "eyes", "Mine", "A", 3, "dice", 0.5,
    ]  # fmt: skip


def test_percentages_are_told_from_shares_and_the_page_says_so(tmp_path):
    group, _ = only(sheet(tmp_path, "eyes,Mine,A,0,dice,60", "eyes,Mine,B,0,dice,0"))
    assert seed_scores(group, "best")["dice"].tolist() == [pytest.approx(60), 0]
    assert group.remarks == ("Its values are read as percentages, because all of them but 0 exceed 1.",)
    shares, _ = only(sheet(tmp_path, "eyes,Mine,A,0,dice,0.6", "eyes,Mine,B,0,dice,1"))
    assert seed_scores(shares, "best")["dice"].tolist() == [pytest.approx(60), 100]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["e,m,A,0,dice,60", "e,m,B,0,dice,0.7"], "row 2 has 60, row 3 has 0.7"),
        (["e,m,A,0,dice,60", "e,m,B,0,iou,1"], "row 2 has 60, row 3 has 1"),
        (["e,m,A,0,dice,160"], "row 2: 160 is neither a share nor a percentage"),
        (["e,m,A,0,dice"], "row 2 has 5 cells, but the header names 6 columns"),
        (["e,m,A,0,dice,many"], "holds no score that can be used"),
        ([], "holds no score that can be used"),
    ],
)
def test_a_file_that_could_mean_two_things_is_refused_with_its_row(tmp_path, lines, words):
    with pytest.raises(ResultsError) as caught:
        read_sheet(sheet(tmp_path, *lines))
    assert words in str(caught.value)
    assert "scores.csv" in str(caught.value)


def test_distances_do_not_decide_the_scale_and_are_never_scaled(tmp_path):
    group, _ = only(sheet(tmp_path, "e,m,A,0,dice,0.6", "e,m,A,0,hd95,0.5", "e,m,B,0,dice,0.7", "e,m,B,0,hd95,31.5"))
    assert seed_scores(group, "best", "hd95")["dice"].tolist() == [0.5, 31.5]
    assert seed_scores(group, "best")["dice"].tolist() == [pytest.approx(60), pytest.approx(70)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("e,m,B,0,dice,n/a", "the value 'n/a' is no number"),
        ("e,m,B,0,dice,nan", "is not finite"),
        ("e,m,B,0,dice,", "there is no value"),
        ("e,m,B,0,dice,-0.1", "is below 0"),
        ("e,m,B,first,dice,0.5", "the seed 'first' is no number"),
        ("e,m,B,0.5,dice,0.5", "is no whole number"),
        ("e,m,B,0,auc,0.5", "the metric 'auc' is unknown (known: dice,"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_its_method_is_not_ranked(tmp_path, line, words):
    group, problems = only(sheet(tmp_path, "e,m,A,0,dice,0.6", line, "e,n,A,0,dice,0.5", "e,n,B,0,dice,0.5"))
    assert len(problems) == 1
    assert "row 3" in problems[0]
    assert words in problems[0]
    table = dice_table(group, "best", ["m", "n"], compared=False)
    assert table.notes == ("m lacks scores of B; its row is not ranked.",)


def test_many_bad_rows_are_counted_rather_than_listed(tmp_path):
    bad = [f"e,m,A,{seed},dice,?" for seed in range(1, 9)]
    _, problems = only(sheet(tmp_path, "e,m,A,0,dice,0.6", *bad))
    assert len(problems) == 6
    assert problems[-1].endswith("the same goes for 3 more places.")


def test_rows_that_contradict_each_other_are_both_left_out(tmp_path):
    lines = ("e,m,A,0,dice,0.6", "e,m,A,0,dice,0.7", "e,m,B,0,dice,0.5", "e,m,B,0,dice,0.50")
    group, problems = only(sheet(tmp_path, *lines))
    assert "rows 2 and 3 give the same score, with different values: none of them is used" in problems[0]
    assert "rows 4 and 5 give the same score, one of them is used" in problems[1]
    assert seed_scores(group, "best")[["client", "dice"]].to_numpy().tolist() == [["B", 50.0]]


def test_wrong_columns_and_missing_files_stop_nobody(tmp_path):
    good = sheet(tmp_path, "e,m,A,0,dice,0.6")
    foreign = sheet(tmp_path, "1,2", name="foreign.csv", header="dataset,clients")
    image = tmp_path / "image.csv"
    image.write_bytes(b"\x89PNG\xff\x00\n")
    groups, problems = load([good, foreign, image, tmp_path / "nowhere"])
    assert len(groups) == 1
    assert [any(name in problem for problem in problems) for name in ("foreign.csv", "image.csv", "nowhere")] == [
        True
    ] * 3
    assert "lacks the columns method, client, seed, metric and value" in "".join(problems)
    with pytest.raises(ResultsError, match=r"No readable trial .*nowhere does not exist"):
        load([tmp_path / "nowhere"])


def test_the_same_file_twice_counts_once(tmp_path):
    first = sheet(tmp_path, "e,m,A,0,dice,0.6")
    copy = sheet(tmp_path, "e,m,A,0,dice,0.6", name="copy.csv")
    groups, problems = load([first, first, copy])
    assert len(groups) == 1
    assert "holds the same scores" in problems[0]


def test_trials_and_files_never_share_a_table(trial, tmp_path):
    trial({"A": 0.6})
    path = sheet(tmp_path, "vessel,Theirs,A,0,dice,0.7")
    groups, _ = load([tmp_path / "runs", path])
    assert [sorted(set(group.scores["variant"])) for group in groups] == [["FedAvg"], ["Theirs"]]
    assert groups[0].id != groups[1].id


def test_simulated_rows_are_marked_by_name_or_column_and_kept_apart(tmp_path):
    lines = ("vessel-simulated,m,A,0,dice,0.5,", "eyes,m,A,0,dice,0.5,True", "eyes,n,A,0,dice,0.5,False")
    groups, _ = load([sheet(tmp_path, *lines, header=f"{HEADER},simulated")])
    assert {(group.dataset, group.simulated) for group in groups} == {
        ("vessel-simulated", True),
        ("eyes", True),
        ("eyes", False),
    }
    assert all("SIMULATED" in group.heading for group in groups if group.simulated)


def test_a_column_chosen_tells_best_from_last(tmp_path):
    path = sheet(tmp_path, "e,m,A,0,dice,0.6,best", "e,m,A,0,dice,0.5,last", header=f"{HEADER},chosen")
    group, _ = only(path)
    assert seed_scores(group, "best")["dice"].tolist() == [pytest.approx(60)]
    assert seed_scores(group, "last")["dice"].tolist() == [pytest.approx(50)]


def test_a_file_without_dice_is_reported_by_what_it_has(tmp_path):
    lines = [
        f"e,{m},{c},0,hd95,{v}" for m, c, v in (("m", "A", 3), ("m", "B", 4), ("local", "A", 5), ("local", "B", 2))
    ]
    group, _ = only(sheet(tmp_path, *lines))
    assert main_metric(group) == "hd95"
    table = dice_table(group, "best", ["m", "local"], compared=True)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert "px, smaller is better" in table.title
    assert (cells["A"].mark, cells["B"].mark) == ("best", "second")
    assert (cells["Worst client"].text, cells["Gain over local"].text) == ("4.00 (B)", "+0.00")
    assert cells["Clients harmed"].text == "1 of 2"
    gains = gain_table(group, "best", ["m", "local"])
    assert [cell.text for cell in gains.rows[0]] == ["m", "+2.00", "-2.00", "+0.00", "1 of 2"]


def test_hostile_names_come_through_as_they_are(tmp_path):
    path = tmp_path / "scores.csv"
    names = {"dataset": HOSTILE, "method": HOSTILE, "client": HOSTILE}
    pd.DataFrame([{**names, "seed": 0, "metric": "dice", "value": 0.5}]).to_csv(path, index=False)
    group, _ = only(path)
    assert seed_scores(group, "best")[["variant", "client"]].to_numpy().tolist() == [[HOSTILE, HOSTILE]]
    assert group.slug.isascii()
    assert not set(group.slug) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
