"""Fetching from a server of our own: whole, resumed, changed underway, cut off, refused and wrong."""

import gzip
import hashlib
import logging
import os
import random
import re
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

from pflbench import fetch as fetching
from pflbench.errors import DataError, UsageError
from pflbench.fetch import fetch
from pflbench.release import Download

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(310_000)
DATE, LATER = "Wed, 01 Jul 2020 10:00:00 GMT", "Thu, 02 Jul 2020 10:00:00 GMT"
PAGE = b"\n<!DOCTYPE HTML>\n<html>Please log in</html>"


@dataclass
class Server:
    """What the server does; ``requests`` is what it was asked: (Range, If-Range)."""

    content: bytes = CONTENT
    ranges: bool = True
    heeds_if_range: bool = True
    headers: dict = field(default_factory=lambda: {"Last-Modified": DATE})
    statuses: list = field(default_factory=list)  # of the next answers, before the file is given
    cuts: list = field(default_factory=list)  # after so many bytes the next answers break off
    length: int | None = None  # what Content-Length says, where it lies; -1: nothing
    shift: int = 0  # of what a range begins with
    repeats: bool = True  # what names the version, in the answer to a range
    requests: list = field(default_factory=list)
    encodings: set = field(default_factory=set)
    url: str = ""

    def version(self):
        return [self.headers.get("ETag"), self.headers.get("Last-Modified")]

    def answer(self, handler):
        asked, only_if = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.requests.append((asked, only_if))
        self.encodings.add(handler.headers.get("Accept-Encoding"))
        if self.statuses:
            return self.send(handler, self.statuses.pop(0), b"<html>Sorry</html>", {})
        same = only_if is None or not self.heeds_if_range or only_if in self.version()
        if not (asked and self.ranges and same):
            return self.send(handler, 200, self.content, self.headers)
        start, total = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) + self.shift, len(self.content)
        if start >= total:
            return self.send(handler, 416, b"", {"Content-Range": f"bytes */{total}"})
        said = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        return self.send(handler, 206, self.content[start:], (self.headers if self.repeats else {}) | said)

    def send(self, handler, status, body, headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if self.length != -1:
            handler.send_header("Content-Length", str(len(body) if self.length is None else self.length))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0) if self.cuts else None])
        handler.close_connection = True


@pytest.fixture
def server():
    """Return a server on this machine that does as it is told."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            told.answer(self)

        def log_message(self, *_):
            pass

    with running(Handler) as port:
        told.url = f"http://127.0.0.1:{port}/files/a.zip"
        yield told


@contextmanager
def running(handler):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield httpd.server_address[1]
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


def wanted(server, content=CONTENT, **facts):
    """Return the download of a file whose checksum is known."""
    return Download(server.url, "a.zip", **{"sha256": hashlib.sha256(content).hexdigest()} | facts)


def silent(done, total):
    pass


def listed(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def begun(folder, content, seconds=1593597600):
    """Leave a part as an earlier run would, of the version of ``DATE``: the default is that in seconds."""
    folder.mkdir()
    (folder / "a.zip.part").write_bytes(content)
    os.utime(folder / "a.zip.part", (seconds, seconds))


def refused(download, folder, *words):
    with pytest.raises(DataError) as caught:
        fetch(download, folder, silent)
    message = str(caught.value)
    assert download.url in message
    assert message.endswith(".")
    assert message.isprintable()
    for word in words:
        assert word in message
    return message


# --- the file comes -----------------------------------------------------------------------------------------------


def test_a_file_is_fetched_whole(server, folder):
    path = fetch(wanted(server), folder, silent)
    assert path == folder / "a.zip"
    assert path.read_bytes() == CONTENT
    assert listed(folder) == ["a.zip"]
    assert server.requests == [(None, None)]
    assert server.encodings == {"identity"}


def test_progress_is_reported_up_to_the_whole(server, folder):
    calls = []
    fetch(wanted(server), folder, lambda done, total: calls.append((done, total)))
    done = [step for step, _ in calls]
    assert done == sorted(done)
    assert len(done) > 3
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in calls} == {len(CONTENT)}


def test_a_server_that_does_not_say_how_much_is_no_trouble(server, folder):
    server.length, calls = -1, []
    fetch(wanted(server), folder, lambda done, total: calls.append((done, total)))
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert {total for _, total in calls[:-1]} == {None}


def test_a_server_that_compresses_all_the_same_is_no_trouble(server, folder):
    server.content, server.ranges = gzip.compress(CONTENT), False
    server.headers["Content-Encoding"] = "gzip"
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_pooch_says_nothing(server, folder):
    logger, records = pooch.get_logger(), []
    logger.setLevel("INFO")
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    fetch(wanted(server, sha256=None), folder, silent)
    logger.removeHandler(handler)
    assert records == []


def test_a_file_that_is_there_is_not_fetched_again(server, folder):
    fetch(wanted(server), folder, silent)
    calls = []
    assert fetch(wanted(server), folder, lambda *call: calls.append(call)) == folder / "a.zip"
    assert fetch(wanted(server, sha256=None), folder, silent) == folder / "a.zip"
    assert len(server.requests) == 1
    assert calls == [(len(CONTENT), len(CONTENT))]


def test_a_file_with_another_checksum_is_fetched_again(server, folder):
    folder.mkdir()
    (folder / "a.zip").write_bytes(OTHER)
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_checksum_may_be_written_in_capitals(server, folder):
    fetch(wanted(server, sha256=hashlib.sha256(CONTENT).hexdigest().upper()), folder, silent)
    assert listed(folder) == ["a.zip"]


# --- a part is there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["checksum", "no checksum"])
def test_a_part_is_gone_on_with(server, folder, known):
    begun(folder, CONTENT[:100_000])
    calls = []
    facts = {} if known else {"sha256": None}
    fetch(wanted(server, **facts), folder, lambda *call: calls.append(call))
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert server.requests == [("bytes=100000-", DATE)]
    assert calls[0][0] > 100_000
    assert {total for _, total in calls} == {len(CONTENT)}
    assert listed(folder) == ["a.zip"]


@pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range unknown"])
def test_a_part_of_another_version_is_dropped(server, folder, heeds):
    begun(folder, CONTENT[:100_000])
    server.content, server.headers, server.heeds_if_range = OTHER, {"Last-Modified": LATER}, heeds
    fetch(wanted(server, sha256=None), folder, silent)
    assert (folder / "a.zip").read_bytes() == OTHER


def test_a_part_longer_than_the_file_is_dropped(server, folder):
    begun(folder, CONTENT + b"more")
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_part_that_is_the_whole_is_taken(server, folder):
    begun(folder, CONTENT)
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert server.requests == [(f"bytes={len(CONTENT)}-", DATE)]


def test_a_server_without_ranges_gives_all_of_it_again(server, folder):
    begun(folder, b"x" * 100_000)
    server.ranges = False
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_range_that_begins_elsewhere_is_not_appended(server, folder):
    begun(folder, CONTENT[:100_000])
    server.shift = 5
    fetch(wanted(server, sha256=None), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert server.requests == [("bytes=100000-", DATE), (None, None)]


def test_an_answer_shorter_than_its_range_is_gone_on_with(server, folder):
    begun(folder, CONTENT[:100_000])
    server.length = 100_000
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == ["bytes=100000-", "bytes=200000-"]


def test_the_version_is_kept_where_the_answer_to_a_range_does_not_repeat_it(server, folder):
    begun(folder, CONTENT[:50_000])
    server.repeats, server.cuts = False, [70_000, 70_000, *[0] * (fetching.ATTEMPTS - 2)]
    refused(wanted(server, sha256=None), folder)
    fetch(wanted(server, sha256=None), folder, silent)
    assert {only_if for _, only_if in server.requests} == {DATE}
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_part_without_a_version_is_gone_on_with_where_the_checksum_will_tell(server, folder):
    server.headers = {}
    begun(folder, CONTENT[:100_000], seconds=0)
    fetch(wanted(server), folder, silent)
    assert server.requests == [("bytes=100000-", None)]
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_part_without_a_version_and_a_checksum_is_dropped(server, folder):
    server.headers = {}
    begun(folder, OTHER[:100_000], seconds=0)
    fetch(wanted(server, sha256=None), folder, silent)
    assert server.requests == [(None, None)]
    assert (folder / "a.zip").read_bytes() == CONTENT


# --- the connection breaks ----------------------------------------------------------------------------------------


def test_a_cut_connection_is_gone_on_with(server, folder):
    server.cuts = [150_000, 70_000]
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for asked, _ in server.requests[1:]]
    assert 0 < starts[0] <= 150_000 < starts[1] <= 220_000
    assert listed(folder) == ["a.zip"]


def test_the_rest_is_asked_for_by_its_tag(server, folder):
    server.headers, server.cuts = {"ETag": '"v1"', "Last-Modified": DATE}, [150_000]
    fetch(wanted(server, sha256=None), folder, silent)
    assert server.requests[1][1] == '"v1"'
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_weak_tag_names_no_bytes(server, folder):
    server.headers, server.cuts = {"ETag": 'W/"v1"', "Last-Modified": DATE}, [150_000]
    fetch(wanted(server, sha256=None), folder, silent)
    assert server.requests[1][1] == DATE


@pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range unknown"])
@pytest.mark.parametrize("tag", ["ETag", "Last-Modified"])
def test_a_file_that_changes_between_two_attempts_is_fetched_anew(server, folder, heeds, tag):
    server.headers, server.heeds_if_range = {tag: '"v1"' if tag == "ETag" else DATE}, heeds

    def change(done, total):
        server.content, server.headers = OTHER, {tag: '"v2"' if tag == "ETag" else LATER}

    server.cuts = [150_000]
    fetch(wanted(server, sha256=None), folder, change)
    assert (folder / "a.zip").read_bytes() == OTHER


def test_a_server_that_always_cuts_leaves_the_part_and_the_next_run_ends_it(server, folder):
    server.cuts = [70_000] * fetching.ATTEMPTS
    message = refused(wanted(server), folder, "run the command again to go on after")
    assert len(server.requests) == fetching.ATTEMPTS
    assert listed(folder) == ["a.zip.part"]
    part = (folder / "a.zip.part").read_bytes()
    assert 100_000 < len(part) < len(CONTENT)
    assert CONTENT.startswith(part)
    assert f"after {len(part)} bytes" in message
    fetch(wanted(server, sha256=None), folder, silent)
    assert server.requests[-1] == (f"bytes={len(part)}-", DATE)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_an_interruption_leaves_only_the_part(server, folder):
    def interrupt(done, total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(wanted(server), folder, interrupt)
    assert listed(folder) == ["a.zip.part"]
    fetch(wanted(server), folder, silent)
    assert server.requests[-1][1] == DATE
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_while_it_is_fetched_only_the_part_is_there(server, folder):
    seen = []
    fetch(wanted(server), folder, lambda *_: seen.append(listed(folder)))
    assert seen[0] == ["a.zip.part"]


def test_a_busy_server_is_asked_again(server, folder):
    server.statuses = [503, 429, 500]
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_server_that_promises_too_much_is_caught(server, folder):
    server.length, server.ranges = len(CONTENT) + 10, False
    refused(wanted(server), folder, "10 more", "check the network")
    assert listed(folder) == ["a.zip.part"]


def test_a_server_that_promises_too_little_is_caught(server, folder):
    server.length = 200_000
    refused(wanted(server, sha256=None, bytes=len(CONTENT)), folder, "200000 bytes", "300000")
    assert listed(folder) == []


# --- the file cannot be had ---------------------------------------------------------------------------------------


def test_a_checksum_that_differs_is_named_with_both(server, folder):
    server.content = OTHER
    known, got = hashlib.sha256(CONTENT).hexdigest(), hashlib.sha256(OTHER).hexdigest()
    refused(wanted(server), folder, known, got, "deleted")
    assert listed(folder) == []


def test_a_bad_part_is_deleted_so_that_the_next_run_succeeds(server, folder):
    begun(folder, OTHER[:100_000])
    refused(wanted(server), folder, "run the command again")
    assert listed(folder) == []
    fetch(wanted(server), folder, silent)
    assert (folder / "a.zip").read_bytes() == CONTENT


def test_a_web_page_instead_of_the_file_is_recognised(server, folder):
    begun(folder, CONTENT[:100_000])
    server.content, server.headers = PAGE, {}
    refused(wanted(server), folder, "web page", "in a browser")
    assert listed(folder) == ["a.zip.part"]
    assert (folder / "a.zip.part").read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "is gone (404)"), (410, "is gone"), (401, "login"), (403, "login"), (400, "no file (400)")],
)
def test_a_refusal_is_named_at_once(server, folder, status, words):
    server.statuses = [status]
    refused(wanted(server), folder, words, "in a browser")
    assert len(server.requests) == 1
    assert listed(folder) == []


def test_a_server_in_trouble_is_named(server, folder):
    server.statuses = [502] * fetching.ATTEMPTS
    refused(wanted(server), folder, "502", "run the command again")


def test_no_network_is_named(folder, server):
    with running(BaseHTTPRequestHandler) as port:
        pass
    message = refused(Download(f"http://127.0.0.1:{port}/a.zip", "a.zip"), folder, "check the network")
    assert "refused" in message
    assert listed(folder) == []


def test_a_name_that_is_no_host_is_named(folder):
    refused(Download("http://no host/a.zip", "a.zip"), folder, "cannot be fetched")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.zip", "file:///etc/passwd", "a.zip", "doi:10.5281/zenodo.1/a.zip"])
def test_only_http_is_spoken(folder, url):
    with pytest.raises(UsageError, match=re.escape(url)):
        fetch(Download(url, "a.zip"), folder, silent)
    assert not folder.exists()


def test_a_redirection_to_a_file_of_this_machine_is_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", f"file://{tmp_path}/secret")
            self.end_headers()

        def log_message(self, *_):
            pass

    with running(Redirecting) as port:
        refused(Download(f"http://127.0.0.1:{port}/a.zip", "a.zip"), folder, "cannot be fetched")
    assert listed(folder) == []


def test_a_disk_without_room_is_named(server, folder, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda where: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"a\.zip needs .* make room there"):
        fetch(wanted(server), folder, silent)
    assert listed(folder) == []


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file.sub cannot hold a\.zip"):
        fetch(wanted(server), tmp_path / "file" / "sub", silent)
    assert server.requests == []
