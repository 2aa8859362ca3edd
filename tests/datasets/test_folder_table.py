"""The CSV of one's own data: how it may be written, and errors that name the row."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.api import DataError
from pflbench_datasets.folder import Folder
from pflbench_datasets.table import read_table

HEADER = "site,subject,split,image,mask"
ROW = "A,p1,train,images/1.png,masks/1.png"
MASK = np.zeros((9, 7), np.uint8)
MASK[2:5, 1:4] = 255


@pytest.fixture(autouse=True)
def files(tmp_path) -> None:
    for name in ("1", "2", "3"):
        for part, values in (("images", MASK // 2), ("masks", MASK)):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / part / f"{name}.png")


def table(folder: Path, *lines: str, name: str = "own.csv", encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes("\n".join(lines).encode(encoding))
    return file


def cases(root: Path, site: str = "A"):
    found = Folder.find(root)
    assert found is not None
    return [(case.id, case.subject, case.split, dict(case.traits)) for case in found.cases(site)]


def refused(root: Path, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        cases(root)


PLAIN = [("A/p1/1", "p1", "train", {})]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_of_any_country_are_read(tmp_path, separator, encoding):
    file = table(tmp_path, *(line.replace(",", separator) for line in (HEADER, ROW)), encoding=encoding)
    assert cases(file) == PLAIN


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n"])
def test_line_ends_and_empty_rows_do_not_count(tmp_path, end):
    file = tmp_path / "own.csv"
    file.write_bytes(f"{HEADER}{end}{ROW}{end}{end},,,,{end}".encode())
    assert cases(file) == PLAIN


def test_columns_may_come_in_any_order_case_and_with_blanks(tmp_path):
    file = table(tmp_path, "Mask, IMAGE ,Split,Site,subject", "masks/1.png, images/1.png ,Train,A,p1")
    assert cases(file) == PLAIN


def test_backslashes_and_absolute_paths_and_paths_that_climb_are_one_s_own_business(tmp_path):
    inner = tmp_path / "lists"
    inner.mkdir()
    file = table(
        inner,
        HEADER,
        r"A,p1,train,..\images\1.png,..\masks\1.png",
        f"A,p2,train,{tmp_path / 'images' / '2.png'},../masks/2.png",
    )
    assert [case[0] for case in cases(file)] == ["A/p1/1", "A/p2/2"]


def test_an_empty_split_is_none_and_a_column_id_names_the_case(tmp_path):
    file = table(tmp_path, HEADER + ",id", ROW.replace("train", "") + ",first")
    assert cases(file) == [("A/first", "p1", None, {})]


def test_other_columns_are_traits_where_they_are_filled(tmp_path):
    file = table(tmp_path, HEADER + ",lid,scanner,", ROW + ",upper,,", "A,p2,train,images/2.png,masks/2.png,,3T")
    assert [case[3] for case in cases(file)] == [{"lid": "upper"}, {"scanner": "3T"}]


def test_the_field_of_view_is_read_where_a_row_has_one(tmp_path):
    view = np.zeros((9, 7), np.uint8)
    view[1:8] = 1
    Image.fromarray(view).save(tmp_path / "view.png")
    file = table(tmp_path, HEADER + ",field", ROW + ",view.png", "A,p2,train,images/2.png,masks/2.png,")
    found = Folder.find(file)
    assert found is not None
    first, second = found.cases("A")
    np.testing.assert_array_equal(found.field_of_view(first), view)
    assert found.field_of_view(second) is None
    before = found.digest(first)
    Image.fromarray(view[::-1] * 255).save(tmp_path / "view.png")
    assert found.digest(first) != before


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("site,subject,split,image", "lacks the column mask;"),
        ("site,image", "lacks the columns subject and split and mask;"),
        ("image,label", "lacks the columns site and subject and split and mask;"),
    ],
)
def test_missing_columns_are_named(tmp_path, header, sentence):
    refused(table(tmp_path, header, "x,y"), sentence)
    refused(tmp_path, sentence)


def test_a_column_named_twice_is_refused(tmp_path):
    refused(table(tmp_path, HEADER + ",Mask", ROW + ",masks/2.png"), "has the column mask twice")


def test_a_table_without_rows_is_refused(tmp_path):
    refused(table(tmp_path, HEADER), "has no row below its first")


def test_two_tables_in_one_folder_are_refused(tmp_path):
    table(tmp_path, HEADER, ROW)
    table(tmp_path, HEADER, ROW, name="new.csv")
    with pytest.raises(DataError, match=r"new\.csv and .*own\.csv both list a dataset; give one"):
        Folder.find(tmp_path)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("A,p2,training,images/2.png,masks/2.png", r"row 3 of .*own\.csv has the split 'training'; allowed are train"),
        ("A,p2,train,images/9.png,masks/2.png", r"row 3 of .* has the image images/9\.png, but there is no file"),
        ("A,p2,train,images/2.png,masks/9.png", r"row 3 of .* has the mask masks/9\.png, but there is no file"),
        (
            "A,p2,train,own.csv,masks/2.png",
            r"row 3 of .* has the image own\.csv, of an unknown kind; allowed are",
        ),
        ("A,p2,train,images/2.png,images/2.png", "row 3 of .* has one file as image and mask"),
        ("A,p2,train,images/2.png,", "row 3 of .* has no mask"),
        ("A,,train,images/2.png,masks/2.png", "row 3 of .* has no subject"),
        ("A,p2,train", "row 3 of .* has no image"),
        ("A,p2,train,images/2.png,masks/2.png,x", "row 3 of .* has 6 values for 5 columns"),
        ("A,p2,train,images/1.png,masks/2.png", r"row 2 of .* and row 3 of .* have one image"),
        ("A,p1,test,images/2.png,masks/2.png", r"subject 'p1' of A is in train \(row 2 .*\) and in test \(row 3"),
        ("A,p1,val,images/2.png,masks/2.png", r"subject 'p1' of A is in train \(row 2 .*\) and in val \(row 3"),
        ("A,p2,,images/2.png,masks/2.png", r"row 2 of .* has a split and row 3 of .* has none"),
        ("a,p2,train,images/2.png,masks/2.png", "row 3 of .* is of site 'a', but there is a 'A'"),
        ("A/B,p2,train,images/2.png,masks/2.png", "row 3 of .* is of site 'A/B'; name a site without"),
        ('"A,B",p2,train,images/2.png,masks/2.png', "row 3 of .* is of site 'A,B'; name a site without"),
    ],
)
def test_a_wrong_row_is_named_with_its_number(tmp_path, row, sentence):
    refused(table(tmp_path, HEADER, ROW, row), sentence)


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path):
    refused(table(tmp_path, HEADER, "", ROW, "", "A,p2,train,images/2.png,"), "row 5 of .* has no mask")


def test_two_rows_of_one_id_are_refused(tmp_path):
    rows = [ROW + ",x", "A,p2,train,images/2.png,masks/2.png,x"]
    refused(table(tmp_path, HEADER + ",id", *rows), r"row 2 of .* and row 3 of .* are both 'x' of A; .*column id")


def test_the_same_subject_and_id_at_two_sites_are_two(tmp_path):
    file = table(tmp_path, HEADER, ROW, "B,p1,test,images/2.png,masks/2.png")
    assert cases(file) == PLAIN
    assert cases(file, "B") == [("B/p1/2", "p1", "test", {})]


def test_a_mask_may_serve_two_images(tmp_path):
    file = table(tmp_path, HEADER, ROW, "A,p1,train,images/2.png,masks/1.png")
    assert [case[0] for case in cases(file)] == ["A/p1/1", "A/p1/2"]


def test_a_table_of_another_encoding_is_refused_in_a_sentence(tmp_path):
    refused(table(tmp_path, HEADER, ROW.replace("A", "Köln"), encoding="latin-1"), "no readable table.*UTF-8")


def test_open_quotes_are_refused_in_a_sentence(tmp_path):
    refused(table(tmp_path, HEADER, '"A,p1,train,images/1.png,masks/1.png'), "no readable table")


def test_a_table_wins_over_the_folders_beside_it_and_folders_over_a_table_of_something_else(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "B" / part).mkdir(parents=True)
        Image.fromarray(MASK).save(tmp_path / "B" / part / "7.png")
    file = table(tmp_path, "image,mask,dose", "images/1.png,masks/1.png,3")
    assert cases(tmp_path, "B") == [("B/7", "7", None, {})]
    file.unlink()
    table(tmp_path, HEADER, ROW)
    assert cases(tmp_path) == PLAIN


def test_the_example_of_the_page_is_read(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs/own-data.md").read_text()
    example = page.split("```csv\n")[1].split("```")[0]
    for name in re.findall(r"[a-z]+/[\w./]+", example):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    entries = read_table(table(tmp_path, example))
    assert [(entry.site, entry.subject, entry.split) for entry in entries] == [
        ("Lisbon", "p1", "train"),
        ("Lisbon", "p2", "test"),
        ("Oslo", "p1", None),
    ]
