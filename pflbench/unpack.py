"""Open a release, whatever it came in, without trusting it: a folder, a zip, a tar or a single compressed file."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pflbench.archives import ARCHIVES, DAMAGE, FILE, FOLDER, Member, opened
from pflbench.errors import DataError
from pflbench.release import Files

LIMIT = 16 << 30  # bytes that one release may take; the largest known one takes less than 1 GiB
MEMBERS = 200_000
DEPTH = 64
LEFT_BEHIND = {"__macosx", "thumbs.db", "desktop.ini", "icon\r"}


def open_files(path: Path, into: Path, limit: int = LIMIT) -> Files:
    """Return the files of a release: those of a folder where they lie, those of an archive unpacked below ``into``.

    Paths begin with the folder's name or the archive's stem. Archives directly in a folder (``all.zip``, known by
    suffix) are opened as well, as if they were folders called by their stem; one that has such a folder beside it is
    taken to be unpacked already and passed over. Archives further down or inside archives stay closed, and so do
    compressed single files (``im0001.ppm.gz``), unless ``path`` itself is one.
    Left out: names that begin with a dot (``.git``, ``.DS_Store``), ``__MACOSX``, ``Thumbs.db``, ``desktop.ini``. Links
    in a folder are followed to files and not to folders; archives may hold none.

    Raises DataError where a file cannot be read, is broken, or would be unpacked outside ``into``, over another one, or
    to more than ``limit`` bytes in all or ``MEMBERS`` files; whatever was unpacked is removed again.
    """
    into = Path(os.path.abspath(into))
    opening = _Opening(into, limit)
    try:
        return Files(path, dict(sorted(_paths(path, opening).items())))
    except BaseException as error:
        for folder in opening.folders:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            where = error.filename or path
            raise DataError(
                f"{where} cannot be opened ({error.strerror or error}); check the path and its rights."
            ) from error
        raise


@dataclass
class _Opening:
    """What one call has unpacked and counted so far."""

    into: Path
    limit: int
    bytes: int = 0
    members: int = 0
    folders: list[Path] = field(default_factory=list)

    def fresh(self) -> Path:
        self.into.mkdir(parents=True, exist_ok=True)
        self.folders.append(Path(tempfile.mkdtemp(prefix="opened-", dir=self.into)))
        return self.folders[-1]

    def count(self, path: Path) -> None:
        self.members += 1
        if self.members > MEMBERS:
            raise DataError(
                f"{path} holds more than {MEMBERS:,} files; give only the folder or archive of the release."
            )

    def expect(self, path: Path, size: int) -> None:
        """Refuse ``size`` more bytes where they would go over the limit or do not fit on the disk."""
        if self.bytes + size > self.limit:
            raise _refusal(path, f"unpacks to more than {_gib(self.limit)}, the most that is allowed")
        free = shutil.disk_usage(self.into).free
        if size > free:
            raise DataError(f"{path} needs {_gib(size)} in {self.into}, which has {_gib(free)}; make room there.")


def _paths(path: Path, opening: _Opening) -> dict[str, Path]:
    mode = path.stat().st_mode if _reachable(path) else 0
    if stat.S_ISDIR(mode):
        return _folder(path, opening)
    if stat.S_ISREG(mode):
        return _archive(path, opening)
    raise DataError(f"{path} {'is neither a file nor a folder' if mode else 'does not exist'}; check the path.")


def _folder(path: Path, opening: _Opening) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    archives: dict[str, Path] = {}
    for key, file in _walk(path, opening):
        archive = ARCHIVES.fullmatch(key)
        if archive is None or "/" in key:
            paths[key] = file
        elif archives.setdefault(archive[1].casefold(), file) != file:
            first = archives[archive[1].casefold()].name
            raise DataError(f"{path} holds {first} and {file.name}; keep one of the two.")
    beside = {key.partition("/")[0].casefold() for key in paths if "/" in key}
    for stem, file in archives.items():
        paths |= _archive(file, opening) if stem not in beside else {}
    name = _text(Path(os.path.abspath(path)).name)
    return {f"{name}/{key}": file for key, file in paths.items()}


def _walk(folder: Path, opening: _Opening) -> Iterator[tuple[str, Path]]:
    pending = [("", folder)]
    while pending:
        above, current = pending.pop()
        for entry in sorted(os.scandir(current), key=lambda entry: entry.name):
            key = above + _text(entry.name)
            if _left_behind(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{key}/", Path(entry.path)))
            elif _reachable(Path(entry.path)) and entry.is_file():
                opening.count(folder)
                yield key, Path(entry.path)


def _text(name: str) -> str:
    """Spell out what is no text in a name of the file system, so that it can be printed."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _reachable(path: Path) -> bool:
    """Say whether something is there; raise DataError for a link that leads nowhere."""
    if path.exists():
        return True
    if not path.is_symlink():
        return False
    target = os.readlink(path)
    how = "run 'git annex get' there" if ".git/annex/objects" in target else "mend or remove the link"
    raise DataError(f"{path} is a link to {target}, which does not exist; {how}.")


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _archive(path: Path, opening: _Opening) -> dict[str, Path]:
    """Unpack an archive into a folder of its own; what goes wrong is said of the archive and the member."""
    folder, at = opening.fresh(), ""
    paths: dict[str, Path] = {}
    names = _Names(path)
    stem = _text(match[1] if (match := ARCHIVES.fullmatch(path.name)) else path.stem)
    try:
        with opened(path) as archive:
            opening.expect(path, archive.bytes or 0)
            for member in archive.members:
                at = f" near member {_shown(member.name)}"
                parts = names.take(member)
                key = "/".join(parts if archive.single else (stem, *parts))
                if written := _write(path, member, folder.joinpath(*parts) if parts else None, opening):
                    paths[key] = written
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem = f"cannot be unpacked{at} into {opening.into} ({error.strerror})"
            raise DataError(f"{path} {problem}; mend that, or unpack it yourself and give the folder.") from error
        raise _refusal(path, f"is cut short or damaged{at} ({error})") from error
    return paths


def _write(path: Path, member: Member, target: Path | None, opening: _Opening) -> Path | None:
    """Write one member; where ``target`` is None it only counts."""
    opening.count(path)
    opening.expect(path, member.size or 0)
    if target is None:
        opening.bytes += member.size or 0
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    before = opening.bytes
    with target.open("xb") as file:
        for chunk in member.chunks:
            opening.expect(path, len(chunk))
            opening.bytes += len(chunk)
            file.write(chunk)
    if member.size is not None and opening.bytes - before != member.size:
        raise ValueError(f"{opening.bytes - before} bytes instead of {member.size}")
    return target


@dataclass
class _Names:
    """The names in one archive: none hostile, and no two of them one file, on any file system."""

    archive: Path
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def take(self, member: Member) -> tuple[str, ...]:
        """Return where a member goes; () for a folder and what is left out. Raises DataError for what is refused."""
        parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
        if problem := _problem(member, parts):
            raise _refusal(self.archive, f"holds member {_shown(member.name)}, {problem}")
        if member.kind == FOLDER or any(map(_left_behind, parts)):
            return ()
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in member.name):
            raise _refusal(self.archive, f"holds member {_shown(member.name)}, whose name is not plain text")
        if not self._new(parts):
            raise _refusal(self.archive, f"holds member {_shown(member.name)} twice, letter case aside")
        return parts

    def _new(self, parts: tuple[str, ...]) -> bool:
        folded = [unicodedata.normalize("NFC", part.casefold()) for part in parts]
        above = {"/".join(folded[:depth]) for depth in range(1, len(folded))}
        file = "/".join(folded)
        if file in self.files or file in self.folders or above & self.files:
            return False
        self.files.add(file)
        self.folders |= above
        return True


def _problem(member: Member, parts: tuple[str, ...]) -> str | None:
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or any(part[1:2] == ":" for part in parts):
        return "which leads out of the archive (only relative names with forward slashes are opened)"
    if member.kind not in (FILE, FOLDER):
        return f"{member.kind} (only plain files and folders are opened)"
    if len(parts) > DEPTH or (member.kind == FILE and not parts):
        return "which is no name of a file"
    return None


def _refusal(path: Path, what: str) -> DataError:
    return DataError(f"{path} {what}; get it again from its publisher, or unpack it yourself and give the folder.")


def _shown(name: str) -> str:
    """Return a name as it can be printed: hostile ones hold control characters, or a megabyte of text."""
    return repr(name) if len(name) <= 120 else f"{name[:60]!r}...{name[-60:]!r}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"
