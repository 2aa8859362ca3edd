"""The paper's own rows beside one's own: as printed, marked, never ranked."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from importlib.resources import files

import pandas as pd
import pytest

from pflbench.results import ResultsError, write_trial
from pflbench_reports.display import dice_table
from pflbench_reports.groups import load
from pflbench_reports.quoted import quoted_rows

GLAND = ("LFSC", "MGD-1K")
VESSEL = ("CHASEDB1", "DR-HAGIS", "DRIVE", "HRF", "LES-AV", "ORVS")


def table_of(tmp_path, trial, clients, reference="paper", **dataset):
    trial(dict.fromkeys(clients, 0.99), dataset={"name": "vessel", **dataset})
    trial(dict.fromkeys(clients, 0.5), dataset={"name": "vessel", **dataset}, method={"name": "b", "title": "B"})
    groups, _ = load([tmp_path / "runs"])
    return dice_table(groups[0], "best", ["FedAvg", "B"], compared=True, reference=reference)


def test_what_ships_is_the_reference(paper):
    with files("pflbench_reports").joinpath("paper_tables.csv").open("rb") as shipped:
        pd.testing.assert_frame_equal(pd.read_csv(shipped), paper)


def test_clients_are_found_under_either_spelling():
    rows = quoted_rows("vessel", VESSEL)
    assert [row.method for row in rows] == ["FedAvg", "FedBN", "SioBN", "FedPer", "pFL-ResFIM"]
    assert rows[0].cells["CHASEDB1"] == (68.24, 0.74)  # "ChaseDB" in Table 2
    assert rows[0].cells["DR-HAGIS"] == (69.80, 0.10)  # "DR-Hagis"
    assert (rows[0].average, rows[0].computed) == ((71.91, 2.49), False)


def test_an_average_over_fewer_clients_is_computed_and_said_to_be():
    (row, *_) = quoted_rows("vessel", ("ChaseDB", "DRIVE"))
    mean = (68.24 + 76.06) / 2
    assert row.average == (pytest.approx(mean), pytest.approx(statistics.pstdev([68.24, 76.06])))
    assert row.computed


def test_a_client_that_the_paper_lacks_leaves_no_average():
    (row, *_) = quoted_rows("vessel", ("DRIVE", "STARE"))
    assert set(row.cells) == {"DRIVE"}
    assert row.average is None


def test_the_misprint_is_quoted_and_told():
    row = next(row for row in quoted_rows("gland", GLAND) if row.method == "FedBN")
    assert row.average == (78.02, 3.99)
    assert row.remark == "FedBN: the paper prints ± 3.99, but its own client means give ± 3.84."
    others = [row for name, clients in (("gland", GLAND), ("vessel", VESSEL)) for row in quoted_rows(name, clients)]
    assert [row.method for row in others if row.remark] == ["FedBN"]


def test_nothing_is_quoted_for_other_data():
    assert quoted_rows("lungs", VESSEL) == ()
    assert quoted_rows("vessel", ("A", "B")) == ()


def test_quoted_rows_stand_below_and_are_not_ranked(trial, tmp_path):
    table = table_of(tmp_path, trial, VESSEL)
    own, quoted = table.rows[:2], table.rows[2:]
    assert [row[0].text for row in quoted][-1] == "pFL-ResFIM (quoted: arXiv:2603.14848)"
    assert all(cell.mark == "quoted" for row in quoted for cell in row)
    assert [cell.mark for cell in own[1]][2:9] == ["second"] * 7  # 50 % is second to 99 % whatever the paper has
    cells = dict(zip(table.header, quoted[-1], strict=True))
    assert (cells["DRIVE"].text, cells["DRIVE"].spread) == ("76.20", "0.13")
    assert (cells["Worst client"].text, cells["Largest − smallest client"].text) == ("71.50 (ORVS)", "4.70")
    assert cells["Clients harmed"].text == "–"
    assert re.search("Protocol, split and implementation differ", table.notes[quoted[0][0].note - 1])
    assert len(table.csv["dice-best-quoted"]) == 30


def test_every_row_has_as_many_cells_as_the_header(trial, tmp_path):
    table = table_of(tmp_path, trial, ("DRIVE", "STARE"))
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert dict(zip(table.header, table.rows[-1], strict=True))["STARE"].text == "–"


def test_real_numbers_are_never_put_beside_simulated_ones(trial, tmp_path):
    assert len(table_of(tmp_path, trial, VESSEL, simulated=True).rows) == 2


def test_a_client_that_never_trained_is_not_given_the_papers_number(trial, tmp_path):
    made = trial({"DRIVE": 0.6, "HRF": 0.7})
    write_trial(replace(made, about={"clients": [{"name": "DRIVE", "train": 0}, {"name": "HRF", "train": 9}]}))
    groups, _ = load([tmp_path / "runs"])
    table = dice_table(groups[0], "best", ["FedAvg"], compared=False, reference="paper")
    cells = dict(zip(table.header, table.rows[-1], strict=True))
    assert (cells["DRIVE (never trained)"].text, cells["HRF"].text) == ("–", "73.31")
    assert cells["Average ± between clients"].text == "73.31"  # over HRF alone, as one's own average


def test_without_reference_nothing_is_quoted(trial, tmp_path):
    assert len(table_of(tmp_path, trial, VESSEL, reference=None).rows) == 2


def test_an_unknown_reference_is_refused(trial, tmp_path):
    with pytest.raises(ResultsError, match="no reference 'papers'; choose paper"):
        table_of(tmp_path, trial, VESSEL, reference="papers")
