"""Citations become BibTeX that says what they say, and nothing that they do not say."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pflbench_reports import write_report
from pflbench_reports.bibliography import Entry, Reference, bibtex, parse

MCMAHAN = (
    "McMahan et al.: Communication-Efficient Learning of Deep Networks from Decentralized Data. AISTATS 2017. "
    "https://arxiv.org/abs/1602.05629"
)


def test_a_conference_paper_with_an_address():
    assert parse(MCMAHAN) == [
        Entry(
            "inproceedings",
            "mcmahan2017communication",
            {
                "author": "McMahan and others",
                "title": "Communication-Efficient Learning of Deep Networks from Decentralized Data",
                "booktitle": "AISTATS",
                "year": "2017",
                "url": "https://arxiv.org/abs/1602.05629",
            },
        )
    ]


def test_a_paper_without_a_venue_gets_none():
    (entry,) = parse("Arivazhagan et al.: Federated Learning with Personalization Layers. 2019. https://arxiv.org/a")
    assert entry.kind == "misc"
    assert set(entry.fields) == {"author", "title", "year", "url"}


def test_a_journal_with_volume_and_number_and_a_title_with_commas_and_colon():
    (entry,) = parse("Holm et al., DR HAGIS: images, labels and more, J. Med. Imaging 4(1), 2017")
    assert entry.kind == "article"
    assert entry.fields == {
        "author": "Holm and others",
        "title": "DR HAGIS: images, labels and more",
        "journal": "J. Med. Imaging",
        "volume": "4",
        "number": "1",
        "year": "2017",
    }


def test_a_colon_in_the_title_is_not_the_end_of_the_names():
    (entry,) = parse("Li, Jiang and Dou: FedBN: Federated Learning via Local Batch Normalization. ICLR 2021.")
    assert entry.fields["author"] == "Li and Jiang and Dou"
    assert entry.fields["title"] == "FedBN: Federated Learning via Local Batch Normalization"


def test_names_with_initials_stay_together():
    (entry,) = parse("McMahan, H. B., Moore, E.: A title. ICML 2017.")
    assert entry.fields["author"] == "McMahan, H. B. and Moore, E."


def test_several_works_in_one_citation_are_several_entries():
    text = "Liu et al., FedDG, CVPR 2021, and Liu et al., Shape, MICCAI 2020; images from Bloch et al., A, TCIA 2015"
    assert [(e.kind, e.fields.get("title")) for e in parse(text)] == [
        ("inproceedings", "FedDG"),
        ("inproceedings", "Shape"),
        ("misc", None),  # TCIA is no venue that is known for one
    ]


@pytest.mark.parametrize(
    "text",
    [
        "FedFoo: A method. ICML 2024.",  # a name before the colon need not be an author's
        "Smith et al.: One sentence. Another sentence. ICML 2024.",  # where the title ends is not said
        "Smith et al., A title, Unknown Proceedings, 2020",
        "in-house pictures, as used in arXiv:2603.14848",
        "Someone, 2020",
        "日本 <script> 2020 https://x.example/{}%",
    ],
)
def test_another_form_is_kept_whole_as_a_note(text):
    assert [(e.kind, dict(e.fields)) for e in parse(text)] == [("misc", {"note": text})]


@pytest.mark.parametrize("text", ["Control without federation.", "simulated by pflbench, after MGD-1K", "", "–"])
def test_what_names_no_publication_gives_no_entry(text):
    assert parse(text) == []


def test_one_work_stands_once_and_two_that_share_a_key_are_told_apart():
    other = MCMAHAN.replace("Efficient", "Hungry")
    text = bibtex([Reference(MCMAHAN, ("FedAvg",)), Reference(MCMAHAN, ("Again",)), Reference(other, ("x",))])
    keys = re.findall(r"@\w+{([^,]+),", text)
    assert keys[0] == "mcmahan2017communication"
    assert len(keys) == len(set(keys)) == 2
    assert text.startswith(f"% FedAvg: {MCMAHAN}\n@inproceedings")


def test_every_method_and_site_of_a_report_is_in_the_file(trial, tmp_path):
    citations = {"A": "Fraz et al., An ensemble, IEEE TBME 59(9), 2012", "B": "simulated by pflbench"}
    trial({"A": 0.6, "B": 0.5}, says={"method_citation": MCMAHAN, "citations": citations})
    write_report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out/bibliography.bib").read_text()
    assert "@inproceedings{mcmahan2017communication," in text
    assert "@article{fraz2012ensemble," in text
    assert "% B: simulated by pflbench (no publication)" in text
    assert text.rstrip() in (tmp_path / "out/report.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bibtex") or not shutil.which("pdflatex"), reason="no BibTeX is installed")
def test_bibtex_and_latex_take_hostile_citations(tmp_path):
    hostile = 'A & B et al.: {x}_#1 $ \\input % ~^<|> @misc{a, "q". ICML 2020. https://x.example/%7B{}#a_b'
    entries = [Reference(hostile, ("a@b{",)), Reference(f"{hostile} 日", ("x\ny",)), Reference(MCMAHAN, ("z",))]
    (tmp_path / "refs.bib").write_text(bibtex(entries))
    lines = ["\\documentclass{article}", "\\begin{document}", "\\nocite{*}", "\\bibliographystyle{plain}"]
    (tmp_path / "main.tex").write_text("\n".join([*lines, "\\bibliography{refs}", "\\end{document}"]))
    for command in (["pdflatex", "main"], ["bibtex", "main"], ["pdflatex", "-interaction=nonstopmode", "main"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, errors="replace")
        complaints = [line for line in done.stdout.splitlines() if line.startswith("!") and "Unicode" not in line]
        assert not complaints, done.stdout[-2000:]
    assert (tmp_path / "main.bbl").read_text().count("\\bibitem") == 3
