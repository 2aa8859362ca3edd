"""Opening anything: whatever a zip or tar says, files come from inside it or a DataError and nothing else comes."""

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pflbench.errors import DataError
from pflbench.unpack import open_files

LIMIT = 1 << 20
FUZZ = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))

PIECES = ["..", ".", "", "a", "A", "b.png", "c", "C:", "\\", "a\\b", "x\0y", "x\ny", "ä", "a\u0308", "ß", "SS", ".git"]
PIECES += ["._a", "__MACOSX", "con", "nul.txt", "a:b", "~", "$HOME", "\u202egnp.a", "n" * 101, "n" * 300, "@outside"]
PLAIN, FOLDER, LINK = "plain", "folder", "link"

names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("/".join) | st.text(max_size=12)
members = st.tuples(names, st.sampled_from([PLAIN] * 6 + [FOLDER, LINK]), st.binary(max_size=20))
trees = st.lists(members, min_size=1, max_size=5)
TAR_KINDS = {PLAIN: tarfile.REGTYPE, FOLDER: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def as_tar(tree, form, target):
    if form != "pax" and any("\0" in name for name, _, _ in tree):
        raise ValueError("a NUL ends a name")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[form]) as archive:
        for name, kind, content in tree:
            info = tarfile.TarInfo(name)
            info.type, info.size = TAR_KINDS[kind], len(content) if kind == PLAIN else 0
            info.linkname = target if kind == LINK else ""
            info.pax_headers = {"path": name} if form == "pax" else {}  # where tarfile itself would cut it at a NUL
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def as_zip(tree, target):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, kind, content in tree:
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name + "/" * (kind == FOLDER), zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if kind == LINK else stat.S_IFREG if kind == PLAIN else 0) << 16
            archive.writestr(info, target.encode() if kind == LINK else content)
    return file.getvalue()


def everything(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def opened(root, name, data):
    """Open an archive as ``name`` below ``root`` and check all that must hold; return the files, None where refused."""
    path, into = root / name, root / "into"
    path.write_bytes(data)
    into.mkdir()
    before = everything(root)
    files, refusal = None, ""
    try:
        files = open_files(path, into, LIMIT)
    except DataError as error:
        refusal = str(error)
    if files is None:
        assert everything(root) == before  # also: ``into`` is empty
        assert str(path) in refusal
        assert refusal.endswith(".")
        assert refusal.isprintable()
        return None
    inside = {key: value for key, value in everything(root).items() if not Path(key).is_relative_to(into)}
    assert inside == {key: value for key, value in before.items() if not Path(key).is_relative_to(into)}
    assert not any(found.is_symlink() for found in into.rglob("*"))
    assert sorted(files.paths.values()) == sorted(found for found in into.rglob("*") if found.is_file())
    for key, found in files.paths.items():
        assert found.resolve().is_relative_to(into.resolve())
        assert not {"..", "", "."} & set(key.split("/"))
    assert sum(found.stat().st_size for found in files.paths.values()) <= LIMIT
    return {key.partition("/")[2]: found.read_bytes() for key, found in files.paths.items()}


def expected(tree, form):
    """Return what a tree of no hostile member gives: its plain files that nobody's system left behind."""
    folders = [name for name, _, _ in tree if form == "zip" and name.endswith("/")]  # the only sign that a zip has
    plain = {name: content for name, kind, content in tree if kind == PLAIN and name not in folders}
    cleaned = {"/".join(part for part in name.split("/") if part not in ("", ".")): c for name, c in plain.items()}
    return {
        name: content
        for name, content in cleaned.items()
        if not any(part.startswith(".") or part.lower() in ("__macosx", "icon\r") for part in name.split("/"))
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(FUZZ, max_examples=150)
@given(tree=trees, form=st.sampled_from(["zip", *FORMATS]))
@example(tree=[("../a", PLAIN, b"x")], form="gnu")
@example(tree=[("a", LINK, b""), ("a/b", PLAIN, b"x")], form="zip")
@example(tree=[("a", PLAIN, b""), ("A/b", PLAIN, b"x")], form="zip")
@example(tree=[("./", PLAIN, b"")], form="zip")
@example(tree=[("a" + "/a" * 2000, PLAIN, b"")], form="pax")
def test_any_tree_stays_inside_or_is_refused(tree, form):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        (root / "outside").mkdir(parents=True)
        (root / "outside" / "canary").write_bytes(b"alive")
        tree = [(name.replace("@outside", str(root / "outside")), kind, content) for name, kind, content in tree]
        try:
            data = as_zip(tree, "../outside") if form == "zip" else as_tar(tree, form, "../../outside")
        except (ValueError, UnicodeEncodeError):  # this format cannot say such a name
            return
        files = opened(root, "R.zip" if form == "zip" else "R.tar", data)
        assert files is None or files == expected(tree, form)


def a_tree():
    rng = random.Random(7)
    return [(f"images/{index}.png", PLAIN, rng.randbytes(60 * index)) for index in range(12)] + [("a", FOLDER, b"")]


def stored():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, _, content in a_tree():
            archive.writestr(name, content)
    return file.getvalue()


LONG = [("long/" * 30 + "ä.png", PLAIN, b"content")]
SOUND = {
    "stored.zip": stored(),
    "deflated.zip": as_zip(a_tree(), ""),
    "ustar.tar": as_tar(a_tree(), "ustar", ""),
    "gnu.tar": as_tar(LONG + a_tree(), "gnu", ""),
    "pax.tar": as_tar(LONG + a_tree(), "pax", ""),
    "a.tar.gz": gzip.compress(as_tar(a_tree(), "pax", ""), mtime=0),
    "a.tar.bz2": bz2.compress(as_tar(a_tree(), "gnu", "")),
    "a.tar.xz": lzma.compress(as_tar(a_tree(), "ustar", "")),
    "im.ppm.gz": gzip.compress(bytes(5000), mtime=0),
}
MAGICS = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"]


@settings(FUZZ, max_examples=200)
@given(
    name=st.sampled_from(sorted(SOUND)),
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=4),
    tail=st.binary(max_size=8),
)
def test_any_damage_gives_files_or_a_sentence(name, cut, changes, tail):
    data = bytearray(SOUND[name])
    for place, new in changes:
        at = int(place * len(data))
        data[at : at + len(new)] = new
    data = data[: None if cut is None else int(cut * len(data))] + tail
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), name, bytes(data))


def headers(data):
    """Yield where the headers of a tar or the records of a zip begin: where damage matters most."""
    step = 512 if data[257:262] == b"ustar" else 1
    yield from (
        at for at in range(0, len(data), step) if data[at : at + 2] == b"PK" or data[at + 257 : at + 262] == b"ustar"
    )


PLACES = [(name, at) for name in SOUND for at in headers(SOUND[name])]


@settings(FUZZ, max_examples=250)
@given(
    place=st.sampled_from(PLACES),
    offset=st.integers(0, 511),
    new=st.binary(min_size=1, max_size=12),
    whole=st.booleans(),
)
def test_any_damage_to_a_header_gives_files_or_a_sentence(place, offset, new, whole):
    name, at = place
    data = bytearray(SOUND[name])
    at_byte = min(at + (offset if data[257:262] == b"ustar" else offset % 46), len(data) - 1)
    data[at_byte : at_byte + len(new)] = new
    if whole and data[257:262] == b"ustar":  # with a checksum that is right again, so that the lie is believed
        block = data[at : at + 148] + b" " * 8 + data[at + 156 : at + 512]
        data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), name, bytes(data))


@settings(FUZZ, max_examples=80)
@given(
    magic=st.sampled_from(MAGICS), data=st.binary(max_size=600), name=st.sampled_from(["x", "x.tar", "x.zip", "x.gz"])
)
def test_any_bytes_give_files_or_a_sentence(magic, data, name):
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), name, magic + data)


@pytest.mark.parametrize("name", sorted(SOUND))
def test_what_is_damaged_here_is_sound_before(tmp_path, name):
    files = opened(tmp_path, name, SOUND[name])
    if name == "im.ppm.gz":
        assert list(files) == [""]
    else:
        assert {key: files[key] for key, kind, _ in a_tree() if kind == PLAIN} == expected(a_tree(), "zip")
