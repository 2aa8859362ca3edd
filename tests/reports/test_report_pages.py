"""The pages: what must be on them, what must never be, and what hostile or broken input does to them."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from pflbench.results import ResultsError, write_table, write_trial
from pflbench_reports import write_report
from pflbench_reports.text import fenced, markdown, ordinal, quantity, size

SIMULATED = "SIMULATED DATA: these numbers say nothing about patients"
HOSTILE = (
    "<script>alert(1)</script>",
    "a|b",
    "`*_x_*` [l](http://evil.example)",
    "日本 Ü \"'&$1$",
    'x" onload="y',
)


class Page(HTMLParser):
    """Every element with its attributes, the text, and the text within each table."""

    VOID = frozenset({"meta", "link", "img", "br", "use", "path", "hr"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.tables: list[str] = []
        self.depth = 0
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append("")
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= tag == "table"

    def handle_data(self, data):
        self.words.append(data)
        if self.depth:
            self.tables[-1] += f" {data}"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def report(tmp_path):
    def make():
        files = write_report([tmp_path / "runs"], tmp_path / "out")
        assert all(path.is_file() for path in files)
        html = (tmp_path / "out/report.html").read_text()
        return (tmp_path / "out/report.md").read_text(), html, Page(html)

    return make


def method(name, title=None, label=""):
    return {"name": name, "title": title or name, "label": label}


def federation(trial, seeds=1, **changes):
    scores = {"local": 0.60, "fedavg": 0.65, "resfim": 0.63}
    titles = {"local": "Local training", "fedavg": "FedAvg", "resfim": "pFL-ResFIM"}
    return [
        trial({"A": dice + 0.01 * seed, "B": dice}, method=method(name, titles[name]), seed=seed, **changes)
        for name, dice in scores.items()
        for seed in range(seeds)
    ]


def log_masks(made):
    rows = [
        [r, client, f"mask_rate/{layer}", 0.1 * r]
        for r in (1, 2)
        for client in ("A", "B")
        for layer in ("enc1.0", "enc4.0", "final")
    ]
    write_table(made.folder, "logs", rows)


def test_says_plainly_who_is_best_and_where_resfim_ranks(trial, report):
    federation(trial, seeds=2)
    for text in (report()[0], report()[2].text):
        assert "The best on average is FedAvg with 65.25 %, 2.00 points above pFL-ResFIM." in text
        assert "2 seeds are too few to decide an order." in text
        assert "pFL-ResFIM ranks 2nd of 3, 2.00 points behind." in text


def test_says_when_seeds_do_not_separate_the_first_two(trial, report):
    for seed, shift in enumerate((-0.02, -0.01, 0, 0.01, 0.02)):
        trial({"A": 0.6 + shift}, seed=seed)
        trial({"A": 0.601 + shift}, seed=seed, method=method("resfim", "pFL-ResFIM"))
    markdown_text = report()[0]
    assert "That difference is not larger than the spread over seeds (± 1.41 points), taken over 5 seeds." in (
        markdown_text
    )
    assert "ranks" not in markdown_text  # it is first


def test_bold_and_underline_in_both_formats(trial, report):
    federation(trial)
    text, html, _ = report()
    assert "| FedAvg | 1 | **65.00** |" in text
    assert "| pFL-ResFIM | 1 | <u>63.00</u> |" in text
    assert "<b>65.00</b>" in html
    assert "<u>63.00</u>" in html


def test_simulated_data_is_unmissable(trial, report, tmp_path):
    federation(trial, dataset={"simulated": True})
    text, html, page = report()
    assert f"> **⚠ {SIMULATED}.**" in text
    assert SIMULATED in page.text
    assert 'class="simulated"' in html
    figures = list((tmp_path / "out/figures").glob("*.svg"))
    assert figures
    assert all("SIMULATED DATA" in path.read_text() for path in figures)
    assert all("simulated" in path.name for path in (tmp_path / "out/tables").iterdir())


def test_a_leaderboard_of_simulated_data_says_so_beside_the_real_one(trial, report, tmp_path):
    for simulated in (False, True):
        for partition in ("one", "two"):
            for name in ("a", "b"):
                data, parts = {"simulated": simulated}, {"name": partition, "title": partition}
                trial({"A": 0.6, "B": 0.5}, method=method(name), dataset=data, partitioner=parts)
    html, page = report()[1:]
    assert sum("Mean rank" in table for table in page.tables) == 2
    first = html[: html.index("<section id=")]
    assert first.count(f'<p class="simulated">{SIMULATED}. </p>') == 1
    real, made_up = ((tmp_path / f"out/tables/report-leaderboard{n}.tex").read_text() for n in ("", "-simulated"))
    assert "SIMULATED" not in real
    assert "\\pflbenchsimulated{SIMULATED DATA" in made_up


def test_real_data_carries_no_banner(trial, report):
    federation(trial)
    text, html, _ = report()
    assert "SIMULATED" not in text + html


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"simulated": True}},
        {"recipe": {"epochs": 7}},
        {"numerics": {"precision": "bfloat16"}},
        {"partitioner": {"name": "dirichlet", "title": "Dirichlet"}},
    ],
)
def test_groups_never_share_a_table(trial, report, change):
    trial({"A": 0.1234, "B": 0.1}, method=method("one", "OnlyHere"))
    trial({"A": 0.4321, "B": 0.1}, method=method("two", "OnlyThere"), **change)
    text, html, _ = report()
    # a leaderboard stands before the first section and has both, each group in a column of its own
    tables = Page(html.split('<section id="', 1)[1]).tables
    assert not any("OnlyHere" in table and "OnlyThere" in table for table in tables)
    blocks = [block for block in text.split("<a id=", 1)[1].split("\n\n") if block.startswith("|")]
    assert not any("OnlyHere" in block and "OnlyThere" in block for block in blocks)
    assert any("12.34" in table for table in tables)
    assert any("43.21" in table for table in tables)


def test_headings_name_the_values_in_which_groups_differ(trial, report):
    trial({"A": 0.5})
    trial({"A": 0.5}, recipe={"epochs": 7})
    text = report()[0]
    assert "## Retinal vessels: By site, epochs 1\n" in text
    assert "## Retinal vessels: By site, epochs 7\n" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(trial, report, name):
    says = dict.fromkeys(("method_summary", "travels", "method_citation", "command"), name)
    says |= {"licences": {name: name}, "citations": {name: name}}
    made = trial({name: 0.6, "B": 0.7}, method=method("x", name, name), dataset={"title": name}, says=says)
    trial(
        {name: 0.6, "B": 0.7},
        method=method("y"),
        dataset={"title": name},
        state="failed",
        error={"sentence": name},
    )
    rows = [[r, c, f"mask_rate/{name}", 0.5] for r in (1, 2) for c in (name, "B")]
    write_table(made.folder, "logs", rows)
    text, _, page = report()
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{}]  # the report's own
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert name in page.text
    folds = re.findall(r"<details>\n<summary>(.*)</summary>\n\n", text)  # HTML up to the empty line
    assert len(folds) == text.count("<summary>")
    assert name in map(unescape, folds)
    assert not any("<" in fold for fold in folds)
    prose = re.sub(r"(?ms)^(`{3,})$.*?^\1$|<summary>.*?</summary>", "", text)
    assert name not in prose or not re.search(r"[<|*`&]", name)
    assert "<script" not in prose
    for block in (b for b in prose.split("\n\n") if b.startswith("|")):
        pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")}
        assert len(pipes) == 1, block


def test_unfinished_and_failed_trials_are_listed_and_give_no_numbers(trial, report):
    trial({"A": 0.6})
    sentence = "The loss became NaN in round 2."
    trial({"A": 0.6}, method=method("bad", "Bad"), state="failed", done=1, error={"sentence": sentence})
    trial({"A": 0.6}, method=method("slow", "Slow"), state="running", done=1)
    text, _, page = report()
    assert "| Bad | 0 | failed | 1 of 2 | The loss became NaN in round 2. |" in text
    assert "| Slow | 0 | running or interrupted | 1 of 2 | – |" in text
    assert sum("Bad" in table for table in page.tables) == 1


def test_a_group_without_a_finished_trial_says_so(trial, report):
    trial({"A": 0.6}, state="running", done=1)
    text, _, page = report()
    assert "No trial of this group has finished" in text
    assert "No trial of this group has finished" in page.text


def test_broken_folders_are_listed_and_stop_nobody(trial, report, tmp_path):
    trial({"A": 0.6})
    empty = trial({"A": 0.6}, method=method("empty"))
    (empty.folder / "cases.csv").unlink()
    torn = trial({"A": 0.6}, method=method("torn"))
    (torn.folder / "rounds.csv").write_text("round,client\n1,A\n")
    words = trial({"A": 0.6}, method=method("words"))
    write_table(words.folder, "cases", [["best", 1, "A", "A", "p", "", "c", "many", None, 1, 0, 0]])
    bare = trial({"A": 0.6}, method=method("bare"))
    write_trial(replace(bare, spec={key: value for key, value in bare.spec.items() if key != "dataset"}))
    (tmp_path / "runs/garbage").mkdir()
    (tmp_path / "runs/garbage/trial.json").write_text("{")
    text = report()[0]
    left_out = text.split("## Left out")[1].split("<a id=")[0]
    assert left_out.count("\n- ") == 5
    assert "lacks 'dataset' in its specification" in left_out
    assert "| FedAvg | 1 |" in text


def test_a_bare_finished_trial_still_makes_a_report(trial, report):
    made = trial({"A": 0.6}, recipe={"rounds": 1})
    for name in ("rounds.csv", "logs.csv", "ledger.csv", "timing.csv", "environment.json"):
        (made.folder / name).unlink()
    write_trial(replace(made, about={}))
    text = report()[0]
    assert "| FedAvg | – | – | – | – | – | – | – |" in text
    assert "The trials recorded no environment." in text


def test_a_trial_met_twice_counts_once(trial, report):
    made = trial({"A": 0.6})
    copy = made.folder.parent / "copy"
    copy.mkdir()
    for file in made.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    text = report()[0]
    assert "repeats the method and seed of" in text
    assert "| FedAvg | 1 |" in text


def test_nothing_found_is_one_sentence(tmp_path):
    with pytest.raises(ResultsError, match=r"^No readable trial is found below .*pflbench run") as caught:
        write_report([tmp_path], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_image_has_a_text_and_ids_are_unique(trial, report, tmp_path):
    made = federation(trial)
    log_masks(made[-1])
    text, _, page = report()
    images = [a for tag, a in page.elements if tag == "svg" or a.get("role") == "img"]
    drawn = {path.stem for path in (tmp_path / "out/figures").glob("*.svg")}
    assert len(images) == len(drawn) == len(set(re.findall(r"\]\(figures/(.*?)\.png", text)))
    assert sum("-mask-" in name for name in drawn) == 2
    assert all(len(image["aria-label"]) > 40 for image in images)
    assert not any(tag == "img" and not a.get("alt") for tag, a in page.elements)
    assert all(len(alt) > 40 for alt in re.findall(r"!\[(.*?)\]\(", text))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(trial, report):
    federation(trial)
    page = report()[2]
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed"}
        for key in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:", "tables/", "figures/")) or not value, (tag, value)


def test_only_the_reports_own_script_may_run(trial, report):
    trial({"A": 0.6})
    html, page = report()[1:]
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"


def test_without_a_script_nothing_is_a_dead_button(trial, report):
    federation(trial)
    page = report()[2]
    assert not any(tag in ("button", "dialog") for tag, _ in page.elements)


def test_only_a_watched_page_loads_itself_again(trial, report, tmp_path):
    trial({"A": 0.6})
    assert 'http-equiv="refresh"' not in report()[1]
    write_report([tmp_path / "runs"], tmp_path / "out", watched=True)
    assert 'http-equiv="refresh"' in (tmp_path / "out/report.html").read_text()


def test_the_head_of_a_section_says_what_ran(trial, report):
    federation(trial, seeds=2)
    text, _, page = report()
    for words in ("Retinal vessels", "FedAvg, Local training and pFL-ResFIM", "2: A and B", "6 finished", "abc123"):
        assert words in page.text
        assert words in text
    assert "| Split | seed 0: hash; seed 1: hash |" in text
    assert "| Machine | Some CPU, 2 cores, GPU: none |" in text
    assert "| Command | pflbench run --methods fedavg --dataset vessel |" in text


def test_the_three_spreads_are_told_apart(trial, report):
    federation(trial)
    text, _, page = report()
    for name in ("Over seeds", "Over clients", "Over cases"):
        assert f"- **{name}**: " in text
        assert f"{name} " in page.text


def test_a_client_has_its_seeds_and_its_cases(trial, report):
    for seed, dice in enumerate((0.60, 0.64)):
        trial({"A": dice, "B": 0.5}, seed=seed)
    text = report()[0]
    # mean of 60 and 64, both seeds; each case is 1 point below or above its seed's mean, so 61 and 63 over seeds
    assert "<summary>A</summary>" in text
    assert "| FedAvg | 62.00 ± 2.00 | 60.00 | 64.00 | 1.00 | 61.00 | 62.00 |" in text


def test_numbers_sort_by_what_is_shown_and_words_have_no_number(trial, report):
    federation(trial)
    html = report()[1]
    assert re.search(r'<td data-value="65(\.0+\d*)?"><b>65\.00</b>', html)
    assert not re.search(r"<th scope=row data-value", html)


def test_a_file_of_scores_makes_a_report_of_scores_alone(tmp_path):
    rows = [f"set,{m},{c},{s},dice,{v + s / 100}" for m, v in (("a", 0.5), ("b", 0.6)) for c in "XY" for s in (0, 1)]
    sheet = tmp_path / "scores.csv"
    sheet.write_text("\n".join(["dataset,method,client,seed,metric,value", *rows]))
    write_report([sheet], tmp_path / "out")
    text, page = (tmp_path / "out/report.md").read_text(), Page((tmp_path / "out/report.html").read_text())
    assert "Made from 1 file of scores in 1 comparison group." in page.text
    assert "60.50" in page.text  # of b: the mean of 60 and 61
    for title in (
        "### Cost",
        "### Methods, and",
        "### Data",
        "### Text for the paper",
        "### Machines",
        "### To repeat",
    ):
        assert title not in text
    assert not (tmp_path / "out/bibliography.bib").exists()


def test_the_text_for_the_paper_says_what_the_specification_says(trial, report):
    recipe = {"lr": 0.002, "bce_share": 0.25, "fixed_split": True, "validation": 0.2, "image_height": 64}
    trial({"A": 0.6}, recipe=recipe, seed=3, method={"settings": {"delta": 0.1}}, dataset={"simulated": True})
    trial({"A": 0.6}, recipe=recipe, seed=4, method=method("x", "Other"), dataset={"simulated": True})
    (text,) = re.findall(r"(?ms)^### Text for the paper$.*?^```$(.*?)^```$", report()[0])
    for words in (
        "simulated data (no patient's images)",
        "FedAvg was run with delta=0.1.",
        "2 rounds of 1 local epochs with batches of 4",
        "learning rate of 0.002",
        "0.25 × binary cross-entropy + 0.75 × soft Dice",
        "20 % of the training subjects are held out for validation, the same for every seed",
        "seeds 3 and 4, but FedAvg only with seed 3 and Other only with seed 4",
        "A (16 training, 4 validation and 8 test cases)",
    ):
        assert words in text
    assert "pixels" not in text  # the width is not stated
    assert "Weight decay" not in text


def test_characters_that_turn_the_direction_of_text_are_named(trial, report):
    trial({"A\u202eB": 0.6})
    text, html, _ = report()
    assert "\u202e" not in text + html
    assert "A\\[U+202E\\]B" in text
    assert "A[U+202E]B" in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1,536", 1536), ("+2.00", 2), ("1.50 KiB", 1536), ("65.25 (A)", 65.25), ("< 0.001", 0.001), ("1 of 5", 1)],
)
def test_numbers_are_read_from_their_words(text, expected):
    assert quantity(text) == expected


@pytest.mark.parametrize("text", ["–", "3D UNet", "yes", "", "1.2.3", "2 B or not 2 B"])
def test_words_are_no_numbers(text):
    assert quantity(text) is None


def test_links_lead_to_files_that_exist(trial, report, tmp_path):
    log_masks(federation(trial)[-1])
    text, _, page = report()
    targets = [a["href"] for tag, a in page.elements if tag == "a" and not a["href"].startswith("#")]
    targets += [t for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith("#")]
    assert targets
    assert all((tmp_path / "out" / target).is_file() for target in targets)
    for drawn in (tmp_path / "out/figures").glob("*.svg"):
        assert drawn.with_suffix(".png").is_file()
        assert drawn.with_suffix(".csv").stat().st_size > 20


def test_two_reports_of_the_same_trials_are_the_same_bytes(trial, report, tmp_path):
    federation(trial)
    first = report()[:2]
    svgs = {path.name: path.read_bytes() for path in (tmp_path / "out/figures").iterdir()}
    assert report()[:2] == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/figures").iterdir()} == svgs


def test_protocol_methods_and_sources_are_told(trial, report):
    federation(trial)
    text, _, page = report()
    for words in (
        "Averages all weights.",
        "all weights",
        "McMahan, 2017",
        "CC BY 4.0",
        "Someone, 2020",
        "abc123",
    ):
        assert words in page.text
        assert words in text
    assert "best validation round in the second half, per client" in page.text
    assert "```\npflbench run --methods fedavg --dataset vessel\n```" in text


def test_versions_of_a_method_are_named_apart(trial, report):
    trial({"A": 0.6})
    trial({"A": 0.7}, method={"version": "0.2.0"})
    text = report()[0]
    assert "FedAvg \\[pflbench 0.1.0" in text
    assert "FedAvg \\[pflbench 0.2.0" in text


def test_needs_no_torch(trial, tmp_path):
    federation(trial)
    code = (
        "import sys; from pathlib import Path; from pflbench_reports import write_report;"
        f"write_report([Path({str(tmp_path / 'runs')!r})], Path({str(tmp_path / 'out')!r}));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_eighteen_trials_take_seconds(trial, report):
    rng = np.random.default_rng(0)
    names = ("A", "B", "C", "D", "E", "F")
    for number in range(6):
        for seed in range(3):
            trial(
                {n: rng.uniform(0.5, 0.9) for n in names},
                seed=seed,
                method=method(f"m{number}"),
                recipe={"rounds": 10},
            )
    start = time.perf_counter()
    report()
    assert time.perf_counter() - start < 30  # 2 to 3 seconds on a quiet machine


@pytest.mark.parametrize(("text", "expected"), [("a|b", r"a\|b"), ("<b>", "&lt;b&gt;"), ("a\n# b", r"a \# b")])
def test_markdown_is_escaped(text, expected):
    assert markdown(text) == expected


def test_words_for_numbers():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "21st",
        "112th",
    ]
    assert [size(n) for n in (0, 1023, 1536, 5 * 2**20, float("nan"))] == [
        "0 B",
        "1023 B",
        "1.50 KiB",
        "5.00 MiB",
        "–",
    ]
    assert fenced("a```b").startswith("````\n")
