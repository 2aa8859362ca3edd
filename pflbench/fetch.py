"""Fetch a file that anyone may fetch: resumed where it stopped, compared with its published checksum."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pflbench.errors import DataError, UsageError
from pflbench.release import Download

ATTEMPTS = 4  # each goes on where the last one stopped
PAUSE = 2.0  # seconds before the second attempt, twice as many before the third, ...
TIMEOUT = (15, 60)  # seconds to connect, seconds of silence
CHUNK = 1 << 16
BY_HAND = "download it in a browser and give the file to 'pflbench data import'"

Report = Callable[[int, "int | None"], None]


def fetch(download: Download, folder: Path, report: Report) -> Path:
    """Return the file of a download in ``folder``, fetched unless it is there with the right checksum (or none known).

    ``report`` is called with the bytes that are there and those of the whole file, None where the server does not say.
    What a failed or interrupted download leaves is ``<name>.part``, where the next call goes on if the server can.
    Raises UsageError for an address that is not http(s), DataError where the file cannot be had or is not what it
    should be.
    """
    import pooch  # type: ignore[import-untyped]
    import requests

    if urlsplit(download.url).scheme not in ("http", "https"):
        raise UsageError(f"{download.url} is no http or https address; {BY_HAND}.")
    pooch.get_logger().setLevel("WARNING")
    transfer = _Transfer(download, folder / f"{download.name}.part", report)
    try:
        path = Path(pooch.retrieve(download.url, download.sha256, download.name, folder, downloader=transfer))
    except requests.RequestException as error:
        raise DataError(f"{download.url} cannot be fetched ({_reason(error)}); {BY_HAND}.") from error
    except OSError as error:
        raise DataError(f"{folder} cannot hold {download.name} ({error.strerror}); mend that and run again.") from error
    report(path.stat().st_size, path.stat().st_size)
    return path


class _Cut(Exception):
    """The transfer stopped or must begin anew; another attempt can help."""


@dataclass
class _Transfer:
    """A downloader for pooch that keeps what it has in ``part``.

    The time of ``part`` is the server's Last-Modified, or 1970 where it gave none: so a later run can ask for the rest
    of that very version, and nothing needs to lie beside the file.
    """

    download: Download
    part: Path
    report: Report
    version: str | None = None  # ETag or Last-Modified of what is in ``part``

    def __call__(self, url: str, output: str, pooch: Any) -> None:
        """Bring ``url`` to ``output``, an empty file that pooch made. ``pooch`` is not used."""
        Path(output).unlink()  # so that a process that is killed leaves nothing but the part
        if self._size():
            modified = int(self.part.stat().st_mtime)
            self.version = formatdate(modified, usegmt=True) if modified else None
        self._attempt()
        self._check()
        os.replace(self.part, output)

    def _attempt(self) -> None:
        import requests
        from requests import exceptions

        for attempt in range(1, ATTEMPTS + 1):
            try:
                with requests.get(self.download.url, headers=self._headers(), stream=True, timeout=TIMEOUT) as response:
                    return self._receive(response)
            except (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError, _Cut) as error:
                reason = _reason(error)
            if attempt < ATTEMPTS:
                time.sleep(PAUSE * attempt)
        kept = f" to go on after {self._size()} bytes" if self._size() else ""
        raise DataError(
            f"{self.download.url} cannot be fetched ({reason}); check the network and run the command again{kept}, "
            f"or {BY_HAND}."
        )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
        if self._size() and (self.version or self.download.sha256):
            headers["Range"] = f"bytes={self._size()}-"
            if self.version:
                headers["If-Range"] = self.version
        return headers

    def _receive(self, response: Any) -> None:
        status, have = response.status_code, self._size()
        if status == 416 and re.fullmatch(rf"bytes \*/{have}", response.headers.get("Content-Range", "")):
            return  # there was nothing more to ask for
        if status == 416 or (status == 206 and not self._goes_on(response.headers, have)):
            self.part.unlink()
            raise _Cut("the file has changed there")
        self._refuse(status)
        if status == 200:
            have = 0
        total = _total(response.headers, have)
        self._write(response.iter_content(CHUNK), response.headers, have, total)
        if total is not None and self._size() != total:
            raise _Cut(f"{self._size()} of {total} bytes came")

    def _goes_on(self, headers: Any, have: int) -> bool:
        """Say whether the answer to a range is the rest of what is in ``part``."""
        if not re.match(rf"bytes {have}-", headers.get("Content-Range", "")):
            return False
        name = "ETag" if (self.version or "").startswith('"') else "Last-Modified"
        return self.version is None or headers.get(name, self.version) == self.version

    def _refuse(self, status: int) -> None:
        if status == 429 or status >= 500:
            raise _Cut(f"the server answers {status}")
        if status not in (200, 206):
            what = {401: "asks for a login", 403: "asks for a login", 404: "is gone", 410: "is gone"}
            raise DataError(f"{self.download.url} {what.get(status, 'gives no file')} ({status}); {BY_HAND}.")

    def _write(self, chunks: Iterator[bytes], headers: Any, have: int, total: int | None) -> None:
        first = next(chunks, b"")
        if not have:
            self._expect_file(first)
        self._expect_room((total or 0) - have)
        version, modified = _version(headers)
        if have:  # a 206 need not repeat what names the version
            version, modified = version or self.version, modified or int(self.part.stat().st_mtime)
        self.version = version
        with self.part.open("ab" if have else "wb") as file:
            for chunk in chain([first], chunks):
                file.write(chunk)
                file.flush()
                os.utime(self.part, (modified, modified))
                have += len(chunk)
                self.report(have, total)

    def _expect_file(self, first: bytes) -> None:
        if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", first, re.IGNORECASE):
            raise DataError(
                f"{self.download.url} gives a web page instead of {self.download.name}, perhaps a login; {BY_HAND}."
            )

    def _expect_room(self, size: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if size > free:
            raise DataError(
                f"{self.download.name} needs {size / 2**20:.0f} MiB more in {self.part.parent}, which has "
                f"{free / 2**20:.0f}; make room there and run the command again."
            )

    def _check(self) -> None:
        """Remove what is not the published file, so that the next call begins anew."""
        import pooch

        known, got = self.download.sha256, pooch.file_hash(str(self.part))
        size = self._size()
        if known is not None and got != known.lower():
            problem = f"sha256 {got}, and should have {known}"
        elif self.download.bytes not in (None, size):
            problem = f"{size} bytes, and should have {self.download.bytes}"
        else:
            return
        self.part.unlink()
        raise DataError(
            f"{self.download.name} from {self.download.url} has {problem}, and is deleted; run the command again, "
            f"or {BY_HAND}."
        )


def _version(headers: Any) -> tuple[str | None, int]:
    """Return what names the version that a server sends (ETag, Last-Modified or None), and its time or 0."""
    tag, date = headers.get("ETag", ""), headers.get("Last-Modified")
    try:
        modified = int(parsedate_to_datetime(date).timestamp()) if date else 0
    except ValueError:
        date, modified = None, 0
    return (tag if tag.startswith('"') else date), modified  # a weak tag, W/"...", names no bytes


def _total(headers: Any, have: int) -> int | None:
    """Return the bytes of the whole file, where the server says."""
    if have:
        said = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
    else:
        said = re.fullmatch(r"(\d+)", "" if "Content-Encoding" in headers else headers.get("Content-Length", ""))
    return int(said[1]) if said else None


def _reason(error: Exception) -> str:
    """Return the innermost reason: requests and urllib3 wrap it in several of their own."""
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else type(error).__name__)
    return _reason(inner) if isinstance(inner, Exception) else str(inner)
