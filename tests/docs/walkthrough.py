"""Walks through a page as a reader does: types its commands, writes its files, compares what it shows.

Fenced blocks are done in order, in one folder:

* ``sh``, or no language: commands, line by line. ``pflbench run`` gets ``TINY``, so that it takes seconds.
* ``text`` below commands: what they print; see ``shows``.
* ``python``: a program that is run; below ``<!-- test: file PATH -->``, a file that is written.
* ``toml``: a part of a file, which must be TOML.
* ``diff`` below ``<!-- test: edit PATH -->``: lines of that file that are replaced.
* any language below ``<!-- test: file PATH -->``: a file; below ``<!-- test: skip REASON -->``: nothing is done.
* ``<!-- test: fails -->``: the last command below it must fail.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TINY = {"rounds": 1, "epochs": 1, "image_height": 16, "image_width": 16, "base_width": 2}
ONCE = "--seeds 1 --jobs 1 --device cpu"
# what a reader types and a test does not, and why: the beginning of the command -> the reason
NOT_TYPED = {
    "make ": "installs and runs everything, or this suite itself: CI does",
    "python3 -m venv": "the test has an environment of its own",
    "pip install --constraint": "installs pflbench itself: CI does, from the wheel",
    "python -m pytest  ": "this suite itself",
    "pflbench data download": "takes hundreds of megabytes from servers of others",
    "git clone": "takes gigabytes from servers of others",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page with the comment above it."""

    page: str
    line: int
    language: str
    order: str  # "skip", "file", "edit", "fails" or ""
    argument: str
    text: str

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page}:{self.line}"


_COMMENT = r"^<!-- test: (?P<order>\w+)(?: (?P<argument>[^\n]*?))? -->\n+"
_FENCE = re.compile(rf"(?:{_COMMENT})?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


def blocks(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page. Raises ValueError for a comment that stands above no block."""
    found = [
        Block(
            page, text.count("\n", 0, match.start("text")), match["language"], match["order"] or "",
            match["argument"] or "", match["text"],
        )
        for match in _FENCE.finditer(text)
    ]  # fmt: skip
    comments = len(re.findall(r"^<!-- test:", text, re.M))
    if comments != sum(bool(block.order) for block in found):
        raise ValueError(f"{page}: a test comment stands above no fenced block.")
    return found


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a block: continued lines joined, comments and empty lines left out."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def unwanted(command: str) -> str | None:
    """Return why a command is not typed, or None."""
    return next((why for start, why in NOT_TYPED.items() if f"{command.split('  #')[0]}  ".startswith(start)), None)


def shortened(command: str) -> str:
    """Return ``pflbench run`` with a recipe of seconds and five methods for all; other settings stay as given.

    That every method plays is tried elsewhere.
    """
    if not command.startswith("pflbench run") or "--plan" in command:
        return command
    words = shlex.split(command.replace("--methods all", "--methods paper"), comments=True)
    given = [index for index, word in enumerate(words) if re.match(rf"recipe\.({'|'.join(TINY)})=", word)]
    dropped = {place for index in given for place in (index - 1, index)}
    kept = [word for index, word in enumerate(words) if index not in dropped]
    return f"{shlex.join(kept)} {ONCE} {' '.join(f'--set recipe.{name}={value}' for name, value in TINY.items())}"


def shows(shown: str, printed: str) -> str | None:
    """Return the first line shown that is not printed in that place, or None; ``the end`` where more is printed.

    Lines are compared without empty ones and the borders of tables, however much space lies between words. Decimal
    numbers, seconds and hashes differ from machine to machine. ``...`` stands for anything in its line, and alone for
    any lines: what is left out without it is an error, or a reader would take the shown for all that is printed.
    """
    lines, text = _lines(shown), "".join(f"{line}\n" for line in _lines(printed))
    patterns = [_pattern(line) for line in lines]
    if re.fullmatch("".join(patterns), text):
        return None
    begun = ("".join(patterns[: number + 1]) for number in range(len(lines)))
    return next((line for line, pattern in zip(lines, begun, strict=True) if not re.match(pattern, text)), "the end")


def _lines(text: str) -> list[str]:
    return [line for line in map(stable, text.splitlines()) if line]


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*"
    return ".*".join(re.escape(part) for part in line.split("...")) + r"\n"


def stable(line: str) -> str:
    """Return what of a line is the same on every machine."""
    line = re.sub(r"[\u2500-\u257f]", " ", line)
    line = re.sub(r"(?<![0-9a-f])[0-9a-f]{10}(?![0-9a-f])", "HASH", line)
    line = re.sub(r"\b\d+(\.\d+)? (s|min|h|seconds)\b", "TIME", line)
    line = re.sub(r"\b\d+\.\d+( KiB| MiB| MB)?\b", "NUMBER", line)
    return " ".join(line.split())


class Walk:
    """A reader in a folder, with an environment; what the last commands printed is remembered."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment, self.printed = folder, dict(environment), ""

    def do(self, block: Block) -> None:
        """Do what a block says. Raises AssertionError with its place."""
        if block.order == "skip":
            assert len(block.argument.split()) > 2, f"{block.place}: say why it is skipped"
        elif block.order == "file":
            path = self.folder / block.argument
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.order == "edit":
            self._edit(block)
        elif block.language in ("sh", ""):
            self._type(block)
        elif block.language == "text":
            missing = shows(block.text, self.printed)
            assert missing is None, f"{block.place}: {missing!r} is not what was printed there:\n{self.printed}"
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language == "python", f"{block.place}: nobody knows what to do with {block.language}"
            self._run(["python", "-c", block.text], block, fails=False)

    def _type(self, block: Block) -> None:
        todo = [command for command in commands(block.text) if unwanted(command) is None]
        self.printed, printed = "", []
        for number, command in enumerate(todo, 1):
            fails = block.order == "fails" and number == len(todo)
            self._run(["bash", "-c", shortened(command)], block, fails)
            printed.append(self.printed)
        self.printed = "".join(printed)

    def _run(self, words: list[str], block: Block, fails: bool) -> None:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=600, check=False,
        )  # fmt: skip
        self.printed = done.stdout
        assert bool(done.returncode) == fails, f"{block.place}: {words[-1]}\nexit {done.returncode}\n{done.stdout}"

    def _edit(self, block: Block) -> None:
        path = self.folder / block.argument
        text, lines = path.read_text(), block.text.splitlines()
        old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        assert text.count(old) == 1, f"{block.place}: these lines are not in {block.argument} once:\n{old}\n---\n{text}"
        path.write_text(text.replace(old, new))
