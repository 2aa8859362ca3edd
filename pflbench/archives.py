"""What a zip, a tar or a single compressed file holds, read forwards in bounded pieces; nothing is written here.

The headers of tar files are read by ``TarInfo.frombuf`` and not by ``TarFile``: that one reads headers of any declared
length into memory, and some Python versions go round for ever on a negative one (CVE-2025-8194).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pflbench.errors import DataError

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
EXTENSION = 1 << 20  # bytes of a long name or of extended attributes; more is no file's description
ARCHIVES = re.compile(r"(.+)\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))", re.IGNORECASE)

FILE, FOLDER = "a file", "a folder"
LINK, SPECIAL = "a link", "a device, a pipe or a sparse file"
ENCRYPTED, ODDLY = "an encrypted file", "a file compressed with something else than deflate"

# What reading a broken archive raises; a broken gzip or bzip2 stream is an OSError that has no ``errno``.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, NotImplementedError, OverflowError, IndexError, MemoryError),
)

TAR_KINDS = {
    **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), FILE),
    **{tarfile.DIRTYPE: FOLDER, tarfile.SYMTYPE: LINK, tarfile.LNKTYPE: LINK},
}
EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)

NO_ARCHIVES = {  # first bytes -> what that is, and what to do
    b"": "is empty; download it again.",
    b"version https://git-lfs": "is a git-lfs pointer, not the file itself; run 'git lfs pull' where it comes from.",
    b"rar!": "is a RAR archive, which is not opened here; unpack it and give the folder.",
    b"7z\xbc\xaf'\x1c": "is a 7z archive, which is not opened here; unpack it and give the folder.",
    b"<!doctype html": "is a web page, perhaps a login or an error page; download the archive again in a browser.",
    b"<html": "is a web page, perhaps a login or an error page; download the archive again in a browser.",
}


@dataclass(frozen=True)
class Member:
    """One entry of an archive; ``chunks`` must be read before the next member is asked for."""

    name: str  # as it stands in the archive: may be hostile
    kind: str
    size: int | None  # declared bytes; None: not declared
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Archive:
    """An open archive. ``bytes`` is what all its files declare, None where that is not known before reading."""

    members: Iterator[Member]
    bytes: int | None = None
    single: bool = False  # a compressed file, not an archive of files


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive, told by its content. Raises DataError where it is none; reading it raises any of ``DAMAGE``."""
    with path.open("rb") as file:
        start = file.read(BLOCK)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
                yield Archive(_zip_members(archive, infos), sum(info.file_size for info in infos))
        else:
            with _decompressed(file, start) as stream:
                yield _tar_or_single(path, stream, packed=stream is not file)


def _zip_members(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Iterator[Member]:
    for info in infos:
        # orig_filename: zipfile cuts ``filename`` at a NUL and turns backslashes on some systems.
        yield Member(info.orig_filename, _zip_kind(info), info.file_size, _zip_chunks(archive, info))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode == stat.S_IFLNK:
        return LINK
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return SPECIAL
    if info.orig_filename.endswith("/"):
        return FOLDER
    if info.flag_bits & 0x1:
        return ENCRYPTED
    # zipfile decompresses bzip2 and LZMA without a bound: 4 KiB of it can fill the memory.
    return FILE if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else ODDLY


def _zip_chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


def _decompressed(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if start.startswith(b"\xfd7zXZ\0") else file


def _tar_or_single(path: Path, stream: IO[bytes], packed: bool) -> Archive:
    start = stream.read(BLOCK)
    stream.seek(0)
    if not packed:
        _refuse_others(path, start)
    named_tar = ARCHIVES.fullmatch(path.name) is not None
    if named_tar or _is_header(start):
        return Archive(_tar_members(stream))
    if not packed:
        raise DataError(f"{path} is not a folder, a zip, a tar or a gzip; give the release as it was downloaded.")
    name = path.stem if path.suffix.lower() in (".gz", ".bz2", ".xz") else path.name
    return Archive(iter([Member(name, FILE, None, iter(lambda: stream.read(CHUNK), b""))]), single=True)


def _refuse_others(path: Path, start: bytes) -> None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower() if start else start
    for sign, what in NO_ARCHIVES.items():
        if text.startswith(sign) if sign else not start:
            raise DataError(f"{path} {what}")


def _is_header(block: bytes) -> bool:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").size >= 0
    except (tarfile.TarError, ValueError):
        return False


def _tar_members(stream: IO[bytes]) -> Iterator[Member]:
    while (described := _header(stream)) is not None:
        name, kind, size = described
        content = size if kind == FILE else 0
        chunks = _section(stream, content)
        yield Member(name, kind, content, chunks)
        for _ in chunks:
            pass
        _exactly(stream, -content % BLOCK)
    # The check sum of a compressed stream comes at its very end, behind the padding of the tar.
    if len(stream.read(2 * CHUNK)) == 2 * CHUNK:
        raise ValueError("there is more behind its end")


def _header(stream: IO[bytes]) -> tuple[str, str, int] | None:
    """Return name, kind and size of the next member; None at the end of the archive."""
    said: dict[bytes, bytes] = {}
    for _ in range(8):  # one header, and the extensions before it
        block = _exactly(stream, BLOCK)
        if block == bytes(BLOCK):
            return None
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.type in EXTENSIONS:
            said |= _extension(info, stream)
            continue
        name = said[b"path"].decode("utf-8", "surrogateescape") if b"path" in said else info.name
        size = _number(said[b"size"]) if b"size" in said else info.size
        if size < 0:
            raise ValueError("a size is negative")
        sparse = any(key.startswith(b"GNU.sparse") for key in said)
        return name, SPECIAL if sparse else TAR_KINDS.get(info.type, SPECIAL), size
    raise ValueError("a member has too many headers")


def _extension(info: tarfile.TarInfo, stream: IO[bytes]) -> dict[bytes, bytes]:
    if not 0 <= info.size <= EXTENSION:
        raise ValueError(f"a header declares {info.size} bytes")
    payload = _exactly(stream, info.size)
    _exactly(stream, -info.size % BLOCK)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {b"path": payload.partition(b"\0")[0]}
    return _records(payload) if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE) else {}


def _records(payload: bytes) -> dict[bytes, bytes]:
    """Read POSIX pax records, ``<length> <key>=<value>`` and a line feed; the length is that of the whole record."""
    records, at = {}, 0
    while at < len(payload):
        space = payload.index(b" ", at, at + 9)
        end = at + _number(payload[at:space])
        key, sign, value = payload[space + 1 : end - 1].partition(b"=")
        if not sign or payload[end - 1 : end] != b"\n":
            raise ValueError("extended attributes are broken")
        records[key], at = value, end
    return records


def _number(digits: bytes) -> int:
    if not digits.isdigit():
        raise ValueError("a length is no number")
    return int(digits)


def _section(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = _exactly(stream, min(size, CHUNK))
        size -= len(piece)
        yield piece


def _exactly(stream: IO[bytes], count: int) -> bytes:
    piece = stream.read(count)
    if len(piece) != count:
        raise EOFError("it ends too early")
    return piece
