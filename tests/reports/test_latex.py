"""LaTeX: every text comes out as text, numbers keep their marks, files compile where LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pflbench_reports import write_report
from pflbench_reports.display import Cell, Table
from pflbench_reports.latex import latex, tabular

HOSTILE = "& % $1$ # a_b {x} ~ ^ \\ <b> | `x` \" -- ''' ,, [a] *b* δ ≥ ± – ‘é’ → Ω 日本 \u202eabc"
TABLE = Table(
    f"Dice {HOSTILE}",
    ("Method", f"[{HOSTILE}", "Average ± between clients"),
    (
        (Cell(f"[{HOSTILE}", note=1), Cell("65.25", "0.50", "best"), Cell("–")),
        (Cell("*b"), Cell("63.00", mark="second"), Cell("1.00", "2.00")),
        (Cell("[c]"), Cell("60.10", mark="quoted"), Cell("1.00")),
    ),
    (f"A note on {HOSTILE}",),
)
COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textbraceleft{}": "{",
    r"\textbraceright{}": "}",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    r"\symbol{34}": '"',
    r"{[}": "[",
    r"{*}": "*",
    r"\&": "&",
    r"\%": "%",
    r"\$": "$",
    r"\#": "#",
    r"\_": "_",
}


def read_back(text: str) -> str:
    """Read LaTeX as LaTeX does, longest command first."""
    pattern = "|".join(re.escape(command) for command in sorted(COMMANDS, key=len, reverse=True))
    return re.sub(pattern, lambda match: COMMANDS[match[0]], text).replace("{}", "")


def body(text: str) -> list[str]:
    return text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()


@pytest.mark.parametrize("text", ["50 % & $5", "a_b#c", "\\input{x}", "x^2 ~ y", '<"a"|b>', "[1]*", "é ß – “q”", "a`b"])
def test_escaped_text_reads_back_as_itself(text):
    assert read_back(latex(text)) == text
    assert latex(text).count("{") == latex(text).count("}")


def test_what_would_become_another_character_does_not():
    assert latex("--") == "-{}-"
    assert latex("''") == "'{}'"
    assert latex("a\n\nb") == "a b"  # an empty line ends a paragraph, and a table row with it
    assert latex("δ ≥ Ω") == r"\ensuremath{\delta} \ensuremath{\ge} \ensuremath{\Omega}"
    assert latex("x\u202ey") == "x{[}U+202E]y"


def test_best_is_bold_second_underlined_and_quoted_slanted():
    rows = body(tabular(TABLE, "t", simulated=False))
    assert r"\textbf{65.25} $\pm$ 0.50" in rows[0]
    assert r"\underline{63.00}" in rows[1]
    assert r"1.00 $\pm$ 2.00" in rows[1]
    assert r"\textit{60.10}" in rows[2]


def test_every_row_has_as_many_cells_as_the_header_and_braces_balance():
    text = tabular(TABLE, "t", simulated=True)
    assert "\\begin{tabular}{p{0.3\\linewidth}rr}" in text  # a sentence breaks into lines, numbers stand at the right
    assert text.count("{") == text.count("}")
    for line in [*body(text), text.split("\\toprule\n")[1].splitlines()[0]]:
        assert len(re.findall(r"(?<!\\)&", line)) == 2
        assert line.endswith(r" \\")
        assert not re.search(r"(?<!\\)[%#]", line)
        assert not re.search(r"\\\\\s*[\[*]", line)  # an argument of the line break


def test_words_stand_at_the_left():
    table = Table("t", ("Site", "Licence", "n"), ((Cell("A"), Cell("CC BY"), Cell("1,000")),))
    assert "\\begin{tabular}{llr}" in tabular(table, "t", simulated=False)


def test_the_protocol_is_a_comment_that_cannot_end_early():
    text = tabular(TABLE, "t", simulated=False, protocol="Split: a\nb")
    assert text.splitlines()[1] == "% Split: a b"


def test_caption_and_label_are_there_and_simulated_data_is_said():
    real, simulated = (tabular(TABLE, "vessel-dice", simulated=flag) for flag in (False, True))
    assert "\\label{tab:vessel-dice}" in real
    assert "\\caption" in real
    assert "SIMULATED" not in real
    assert "\\pflbenchsimulated{SIMULATED DATA" in simulated
    assert "\\textcolor{red}" in simulated


def engines():
    return [
        pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed"))
        for name in ("pdflatex", "lualatex", "tectonic")
    ]


def compile_all(engine, tables, folder):
    inputs = "\n".join(f"\\input{{{path.as_posix()}}}\\clearpage" for path in tables)
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\listoftables\n%s\n\\end{document}"
    )
    (folder / "main.tex").write_text(document % inputs)
    options = [] if engine == "tectonic" else ["-halt-on-error", "-interaction=nonstopmode"]
    for _ in range(2):  # the second time with the list of tables
        done = subprocess.run([engine, *options, "main.tex"], cwd=folder, capture_output=True, errors="replace")
        assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("engine", engines())
def test_every_table_of_a_report_compiles(engine, trial, tmp_path):
    says = {"licences": {HOSTILE: HOSTILE}, "citations": {HOSTILE: HOSTILE}}
    for name, dice in (("local", 0.6), ("fedavg", 0.65)):
        method = {"name": name, "title": f"{name} {HOSTILE}", "label": HOSTILE}
        for seed in (0, 1):
            trial({HOSTILE: dice, "B": dice - 0.1}, method=method, seed=seed, says=says, dataset={"simulated": True})
    write_report([tmp_path / "runs"], tmp_path / "out")
    tables = sorted((tmp_path / "out/tables").glob("*.tex"))
    assert len(tables) >= 5
    compile_all(engine, tables, tmp_path)
