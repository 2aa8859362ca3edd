"""Tables as LaTeX: booktabs, every character of a user's text set as text, in pdfLaTeX and LuaLaTeX alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from pflbench_reports.display import Cell, Table
from pflbench_reports.text import quantity, visible

# Braces as commands, not as "\{": BibTeX counts braces without looking at the backslash before them.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\symbol{34}",  # a shorthand under babel's German, a closing quotation mark otherwise
    "[": "{[}",  # it and the star would be arguments of a line break before them
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_"},
}
# Characters that pdfLaTeX's utf8 does not know, though LaTeX has a command for them.
_MATHEMATICS = {
    "±": r"\pm",
    "×": r"\times",
    "−": "-",
    "≤": r"\le",
    "≥": r"\ge",
    "≠": r"\ne",
    "≈": r"\approx",
    "∞": r"\infty",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "↑": r"\uparrow",
    "↓": r"\downarrow",
    "√": r"\surd",
    "∈": r"\in",
}
# the Greek letters that have a command of their own; omicron and the like look Latin and have none
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
_T1 = "«»ÐÞðþĄąĐđĘęĮįŊŋŲų"  # set up, but only in the font encoding T1
_ABSENT = "ĦħĸĿŀŉŦŧſ"
_KNOWN = {chr(c) for c in range(0x20, 0x180)} - set(_ABSENT) | set("–—‘’“”„…•†‡€™")  # as tried with pdfLaTeX
_SENTENCE = 45  # letters; a longer text is broken into lines
_WIDTH = 12  # a longer heading is broken at its spaces
_MARKS = {"best": "textbf", "second": "underline", "quoted": "textit"}
WARNING = "SIMULATED DATA: these numbers say nothing about patients."


def latex(text: str) -> str:
    """Return user text as LaTeX that shows it literally, on one line; two hyphens stay two hyphens."""
    line = " ".join(visible(text).split())
    return "".join(_character(c, line[i - 1] if i else "") for i, c in enumerate(line))


def _character(character: str, before: str) -> str:
    if character in "-'," and before == character:
        return "{}" + character  # no ligature
    if character in _SPECIAL:
        return _SPECIAL[character]
    if command := _command(character):
        return f"\\ensuremath{{{command}}}"
    return character


def _command(character: str) -> str:
    """Return the mathematical command of a character, or nothing."""
    if character in _MATHEMATICS:
        return _MATHEMATICS[character]
    words = unicodedata.name(character, "").split()
    if character == "µ" or words[:1] != ["GREEK"] or len(words) != 4 or words[2] != "LETTER":
        return ""
    name = words[3].lower().replace("lamda", "lambda")
    name = name.capitalize() if words[1] == "CAPITAL" else name
    return f"\\{name}" if name in _GREEK.split() else ""


def tabular(table: Table, label: str, simulated: bool, protocol: str = "") -> str:
    """Return a table environment for LaTeX to read in; needs the package booktabs and nothing else.

    ``protocol`` stands above it as a comment: in what a table must agree that this one is compared with.
    """
    notes = [f"\\par\\smallskip\\footnotesize\\textsuperscript{{{i}}} {latex(n)}" for i, n in enumerate(table.notes, 1)]
    sides = [_side([row[place].text for row in table.rows], first=place == 0) for place in range(len(table.header))]
    headings = [_heading(text, side) for text, side in zip(table.header, sides, strict=True)]
    lines = [
        "% needs \\usepackage{booktabs}; written by pflbench report",
        *([f"% {' '.join(visible(protocol).split())}"] if protocol else []),
        *_declarations([table.title, *table.header, *_texts(table), *table.notes], simulated),
        "\\begin{table}",
        "\\centering\\small\\setlength{\\tabcolsep}{4pt}",
        _caption(table.title, simulated),
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{{''.join(sides)}}}",
        "\\toprule",
        " & ".join(headings) + r" \\",
        "\\midrule",
        *(" & ".join(_cell(cell) for cell in row) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        *notes,
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(title: str, simulated: bool) -> str:
    """Return the caption; in the list of tables, which is set first, letters that need a stand-in are named."""
    listed = latex("".join(c if _sets(c) else f"[U+{ord(c):04X}]" for c in visible(title)))
    warning = f"\\pflbenchsimulated{{{latex(WARNING)}}} " if simulated else ""
    return f"\\caption[{{{listed}}}]{{{warning}{latex(title)}.}}"


def _side(texts: Sequence[str], first: bool) -> str:
    """Return a column's alignment: numbers to the right, words to the left, sentences in a paragraph."""
    if max((len(text) for text in texts), default=0) > _SENTENCE:
        return "p{0.3\\linewidth}"
    return "l" if first or all(quantity(text) is None for text in texts) else "r"


def _texts(table: Table) -> list[str]:
    return [text for row in table.rows for cell in row for text in (cell.text, cell.spread)]


def _declarations(texts: Iterable[str], simulated: bool) -> list[str]:
    """Return what must stand before the table: fonts it needs, stand-ins for letters pdfLaTeX lacks, the warning."""
    used = {c for text in texts for c in " ".join(visible(text).split())}
    lines = ["% and \\usepackage[T1]{fontenc} for its letters in pdfLaTeX"] if used & set(_T1) else []
    lines += [_stand_in(c) for c in sorted(used) if not _sets(c)]
    if simulated:
        red = "\\ifdefined\\textcolor\\textcolor{red}{\\textbf{#1}}\\else\\textbf{#1}\\fi"
        lines.append(f"\\providecommand{{\\pflbenchsimulated}}[1]{{{red}}}")
    return lines


def _sets(character: str) -> bool:
    """Say whether pdfLaTeX can set a character with its default fonts."""
    return character in _KNOWN or bool(_command(character))


def _stand_in(character: str) -> str:
    """Return the code of a character as its look in pdfLaTeX, unless the document has set it up; idle in LuaLaTeX."""
    name = f"\\csname u8:\\detokenize{{{character}}}\\endcsname"
    return f"\\expandafter\\ifx{name}\\relax\\expandafter\\def{name}{{[U+{ord(character):04X}]}}\\fi"


def _heading(text: str, side: str) -> str:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    body = r"\\".join(latex(line) for line in lines)
    side = side if side in ("l", "r") else "l"
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{body}\\end{{tabular}}" if len(lines) > 1 else body


def _cell(cell: Cell) -> str:
    text = latex(cell.text)
    if cell.mark:
        text = f"\\{_MARKS[cell.mark]}{{{text}}}"
    spread = f" $\\pm$ {latex(cell.spread)}" if cell.spread else ""
    note = f"\\textsuperscript{{{cell.note}}}" if cell.note else ""
    return f"{text}{spread}{note}"
