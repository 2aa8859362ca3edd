"""Opening a release: every container gives the same files; a hostile or broken one gives a sentence, and no files."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pflbench import unpack
from pflbench.errors import DataError
from pflbench.unpack import open_files

RELEASE = {
    "DRIVE/test/images/01_test.tif": b"II*\0" + bytes(range(256)) * 5,
    "DRIVE/test/1st_manual/01_manual1.gif": b"GIF89a",
    "DRIVE/readme ä 血管.txt": "für alle".encode(),
    "DRIVE/empty": b"",
    "DRIVE/block": b"x" * 512,  # as long as a block of a tar
    "/".join(["DRIVE", *["long folder name" * 4] * 2, "file.png"]): b"deep",
}
TARS = {
    f"{name}{suffix}": (mode, form)
    for name, form in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT))
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.bz2", "w:bz2"), (".txz", "w:xz"))
}


@pytest.fixture
def into(tmp_path):
    return tmp_path / "into"


def tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def entry(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(path, *entries, mode="w", form=tarfile.PAX_FORMAT, **options):
    with tarfile.open(path, mode, format=form, **options) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    """Write a zip whose members may have any name, and be of any kind: a key is a name or a ZipInfo."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            if not isinstance(name, zipfile.ZipInfo):
                info = zipfile.ZipInfo()
                info.filename, info.compress_type = name, compression
            archive.writestr(info if not isinstance(name, zipfile.ZipInfo) else name, content)
    return path


def contents(files):
    return {name: path.read_bytes() for name, path in files.paths.items()}


def under(name, files):
    return {f"{name}/{path}": content for path, content in files.items()}


def left(into):
    return sorted(into.rglob("*")) if into.exists() else []


def refused(path, into, *words, limit=unpack.LIMIT):
    """Check that a release is refused in one sentence that names it, and that nothing stays."""
    with pytest.raises(DataError) as caught:
        open_files(path, into, limit)
    message = str(caught.value)
    assert left(into) == []
    assert str(path) in message
    assert message.endswith(".")
    assert message.isprintable()
    for word in words:
        assert word in message
    return message


# --- what is opened -----------------------------------------------------------------------------------------------


def test_a_folder_is_read_where_it_lies(tmp_path, into):
    files = open_files(tree(tmp_path / "given", RELEASE), into)
    assert contents(files) == under("given", RELEASE)
    assert files.origin == tmp_path / "given"
    assert all(path.is_relative_to(tmp_path / "given") for path in files.paths.values())
    assert not into.exists()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_the_same_files(tmp_path, into, compression):
    files = open_files(zipped(tmp_path / "HRF.v2.ZIP", RELEASE, compression), into)
    assert contents(files) == under("HRF.v2", RELEASE)
    assert all(path.is_relative_to(into) for path in files.paths.values())


@pytest.mark.parametrize("name", TARS)
def test_a_tar_gives_the_same_files(tmp_path, into, name):
    mode, form = TARS[name]
    path = tar(tmp_path / name, *[entry(n, c) for n, c in RELEASE.items()], mode=mode, form=form)
    assert contents(open_files(path, into)) == under(name.partition(".")[0], RELEASE)


def test_the_kind_of_an_archive_is_told_by_its_content(tmp_path, into):
    plain = {"a.png": b"a"}
    assert contents(open_files(zipped(tmp_path / "download", plain), into)) == {"download/a.png": b"a"}
    assert contents(open_files(zipped(tmp_path / "wrong.tar", plain), into)) == {"wrong/a.png": b"a"}
    packed = tar(tmp_path / "content", entry("a.png", b"a"), mode="w:xz")
    assert contents(open_files(packed, into)) == {"content/a.png": b"a"}


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_single_compressed_file_is_unpacked(tmp_path, into, suffix, pack):
    path = tmp_path / f"im0001.ppm.{suffix}"
    path.write_bytes(pack(b"P6 1 1 255 abc" * 100_000))
    assert contents(open_files(path, into)) == {"im0001.ppm": b"P6 1 1 255 abc" * 100_000}


def test_archives_directly_in_a_folder_are_opened(tmp_path, into):
    downloads = tree(tmp_path / "Downloads", {"notes.txt": b"n", "LES-AV/images/12.png": b"12"})
    zipped(downloads / "all.zip", {"images/01_h.jpg": b"h"})
    tar(downloads / "stare-images.tar", entry("im0001.ppm.gz", gzip.compress(b"P6")))
    assert set(open_files(downloads, into).paths) == {
        "Downloads/notes.txt",
        "Downloads/LES-AV/images/12.png",
        "Downloads/all/images/01_h.jpg",
        "Downloads/stare-images/im0001.ppm.gz",
    }


def test_archives_further_down_and_within_archives_stay_closed(tmp_path, into):
    inner = zipped(tmp_path / "inner.zip", {"a.png": b"a"}).read_bytes()
    given = tree(tmp_path / "MGD1k", {"by category/labels.zip": inner})
    zipped(given / "outer.zip", {"inner.zip": inner})
    assert contents(open_files(given, into)) == {
        "MGD1k/by category/labels.zip": inner,
        "MGD1k/outer/inner.zip": inner,
    }


def test_single_files_and_documents_in_a_folder_stay_closed(tmp_path, into):
    packed = {"Case00.nii.gz": gzip.compress(b"volume"), "Data.xlsx": b"PK\x03\x04", "case.npz": b"PK\x03\x04"}
    assert contents(open_files(tree(tmp_path / "RUNMC", packed), into)) == under("RUNMC", packed)


def test_an_archive_that_lies_unpacked_beside_itself_is_passed_over(tmp_path, into):
    given = tree(tmp_path / "given", {"hrf/images/01_h.jpg": b"from the folder"})
    zipped(given / "HRF.zip", {"images/01_h.jpg": b"from the archive"})
    assert contents(open_files(given, into)) == {"given/hrf/images/01_h.jpg": b"from the folder"}


def test_two_archives_of_one_stem_are_refused(tmp_path, into):
    given = tree(tmp_path / "given", {})
    given.mkdir()
    zipped(given / "HRF.zip", {"a": b""})
    tar(given / "hrf.tar.gz", entry("b"), mode="w:gz")
    refused(given, into, "HRF.zip", "hrf.tar.gz", "keep one")


def test_a_folder_is_called_what_the_user_calls_it(tmp_path, into, monkeypatch):
    real = tree(tmp_path / "disk7", {"test/images/1.png": b"1"})
    (tmp_path / "LFSC").symlink_to(real, target_is_directory=True)
    assert set(open_files(tmp_path / "LFSC", into).paths) == {"LFSC/test/images/1.png"}
    monkeypatch.chdir(real / "test")
    assert set(open_files(Path(), into).paths) == {"test/images/1.png"}
    assert set(open_files(Path(".."), into).paths) == {"disk7/test/images/1.png"}


LITTER = (".git/config", "a/.git/x/y.png", "__MACOSX/._12.png", "._12.png", "images/.DS_Store", "Thumbs.db", "Icon\r")


@pytest.mark.parametrize("litter", [*LITTER, "images/DESKTOP.INI"])
@pytest.mark.parametrize("container", ["folder", "zip", "tar"])
def test_what_systems_leave_behind_is_left_out(tmp_path, into, container, litter):
    files = {litter: b"litter", "images/12.png": b"12"}
    make = {
        "folder": lambda: tree(tmp_path / "R", files),
        "zip": lambda: zipped(tmp_path / "R.zip", files),
        "tar": lambda: tar(tmp_path / "R.tar", *[entry(name, content) for name, content in files.items()]),
    }
    assert contents(open_files(make[container](), into)) == {"R/images/12.png": b"12"}
    assert [path.name for path in left(into) if path.is_file()] == ([] if container == "folder" else ["12.png"])


def test_a_hidden_folder_can_be_given(tmp_path, into):
    assert set(open_files(tree(tmp_path / ".data", {"a.png": b""}), into).paths) == {".data/a.png"}


def test_folders_and_dots_in_member_names_are_no_harm(tmp_path, into):
    path = tar(tmp_path / "R.tar", entry("./", kind=tarfile.DIRTYPE), entry("./a//b.png", b"b"))
    assert contents(open_files(path, into)) == {"R/a/b.png": b"b"}


def test_a_tar_of_the_seventies_is_read(tmp_path, into):
    """Header without a magic number; a folder is a file whose name ends in a slash."""

    def header(name, size):
        fields = [name.ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, b"%011o\0" % size, b"%011o\0" % 0]
        block = b"".join([*fields, b" " * 8, b"\0"]).ljust(512, b"\0")
        return block[:148] + b"%06o\0 " % sum(block) + block[156:]

    path = tmp_path / "old.tar"
    path.write_bytes(header(b"d/", 0) + header(b"d/im.ppm", 3) + b"P6\n".ljust(512, b"\0") + bytes(1024))
    assert contents(open_files(path, into)) == {"old/d/im.ppm": b"P6\n"}


def test_extended_attributes_of_a_tar_are_read_over(tmp_path, into):
    info, content = entry("a.png", b"a" * 700)
    info.pax_headers = {"mtime": "1.5", "SCHILY.xattr.com.apple.quarantine": "x=y\nz" * 1000, "path": "renamed.png"}
    path = tar(
        tmp_path / "R.tar", entry("b.png", b"b"), (info, content), pax_headers={"comment": "0123abc", "path": "g"}
    )
    assert contents(open_files(path, into)) == {"R/renamed.png": b"a" * 700, "R/b.png": b"b"}


def test_the_paths_come_in_order(tmp_path, into):
    names = ["b/1", "a/2", "a/10", "c"]
    path = zipped(tmp_path / "R.zip", dict.fromkeys(names, b""))
    assert list(open_files(path, into).paths) == ["R/a/10", "R/a/2", "R/b/1", "R/c"]


def test_opening_twice_keeps_both(tmp_path, into):
    path = zipped(tmp_path / "R.zip", {"a": b"a"})
    first, second = open_files(path, into), open_files(path, into)
    assert contents(first) == contents(second) == {"R/a": b"a"}
    assert first.paths["R/a"] != second.paths["R/a"]


# --- hostile members ----------------------------------------------------------------------------------------------

CLIMBING = ["../a.png", "a/../../b", "a/..", "/etc/passwd", "//server/a", "C:/a", "c:a", "d/C:a", "a\\b.png", "..\\a"]
UNPRINTABLE = ["a\nb", "a\x1b[31m.png", "a\x7f", "a\x85b"]


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_leads_out_is_refused(tmp_path, into, kind, name):
    good, bad = ("good.png", b"good"), (name, b"bad")
    path = tmp_path / f"R.{kind}"
    zipped(path, dict([good, bad])) if kind == "zip" else tar(path, entry(*good), entry(*bad))
    before = sorted(tmp_path.rglob("*"))
    refused(path, into, repr(name), "leads out of the archive", "unpack it yourself")
    assert [found for found in sorted(tmp_path.rglob("*")) if found != into] == before


@pytest.mark.parametrize("name", [*UNPRINTABLE, "a\0.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_is_no_text_is_refused(tmp_path, into, kind, name):
    info, content = entry("short", b"x")
    info.pax_headers = {"path": name}  # tarfile would cut the name of the header at a NUL
    path = tmp_path / f"R.{kind}"
    zipped(path, {name: b"x"}) if kind == "zip" else tar(path, (info, content))
    refused(path, into, repr(name), "not plain text")


def test_a_name_in_bytes_that_are_not_utf8_is_refused(tmp_path, into):
    path = tar(tmp_path / "R.tar", entry("gr\xfcn.png", b""), form=tarfile.GNU_FORMAT, encoding="latin-1")
    refused(path, into, r"gr\udcfcn.png", "not plain text")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "a device, a pipe"),
        (tarfile.CHRTYPE, "a device, a pipe"),
        (tarfile.BLKTYPE, "a device, a pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"M", "a device"),
    ],
)
def test_a_tar_member_that_is_no_plain_file_is_refused(tmp_path, into, kind, what):
    path = tar(tmp_path / "R.tar", entry("good", b"g"), entry("odd", kind=kind, link="good"), form=tarfile.GNU_FORMAT)
    refused(path, into, "'odd'", what, "only plain files and folders")


def test_a_sparse_file_of_the_posix_kind_is_refused(tmp_path, into):
    info, content = entry("hole", b"1\n0\n1\n".ljust(512, b"\0") + b"x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**12)}
    refused(tar(tmp_path / "R.tar", (info, content)), into, "'hole'", "sparse")


@pytest.mark.parametrize(("mode", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device, a pipe")])
def test_a_zip_member_that_is_no_plain_file_is_refused(tmp_path, into, mode, what):
    info = zipfile.ZipInfo("odd")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    refused(zipped(tmp_path / "R.zip", {info: b"/etc/passwd"}), into, "'odd'", what)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.png", "a.png"),
        ("Case00_segmentation", "Case00_Segmentation"),
        ("é", "e\u0301"),
        ("STRASSE", "straße"),
        ("a", "A/b"),
        ("a/b", "A"),
        ("x/./a", "x//a"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path, into, kind, first, second):
    path = tmp_path / f"R.{kind}"
    if kind == "tar":
        tar(path, entry(first, b"1"), entry(second, b"2"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(first, b"1")
            archive.writestr(second, b"2")
    refused(path, into, repr(second), "twice")


def test_a_name_with_thousands_of_folders_is_refused(tmp_path, into):
    refused(zipped(tmp_path / "R.zip", {"a/" * 1500 + "b": b""}), into, "no name of a file")
    message = refused(zipped(tmp_path / "S.zip", {"a" * 30_000: b""}), into, "File name too long")
    assert len(message) < 600


@pytest.mark.parametrize("name", ["", ".", "./."])
def test_a_file_without_a_name_is_refused(tmp_path, into, name):
    refused(zipped(tmp_path / "R.zip", {name: b"x"}), into, repr(name), "no name of a file")


def patched(path, old, new, count):
    data = path.read_bytes()
    assert data.count(old) == count
    path.write_bytes(data.replace(old, new))
    return path


def test_an_encrypted_zip_is_refused(tmp_path, into):
    path = zipped(tmp_path / "R.zip", {"a.png": b"secret"}, zipfile.ZIP_STORED)
    patched(path, b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\1\0", 1)
    patched(path, b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0", 1)
    refused(path, into, "'a.png'", "encrypted", "unpack it yourself")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_would_unpack_into_memory_without_bound_is_refused(tmp_path, into, compression):
    refused(
        zipped(tmp_path / "R.zip", {"a.png": bytes(9)}, compression), into, "'a.png'", "something else than deflate"
    )


# --- too much -----------------------------------------------------------------------------------------------------

ZEROS = bytes(3 << 20)


@pytest.mark.parametrize("name", ["R.zip", "R.tar", "R.tar.gz", "zeros.gz"])
def test_what_unpacks_beyond_the_limit_is_refused(tmp_path, into, name):
    path = tmp_path / name
    if name == "zeros.gz":
        path.write_bytes(gzip.compress(ZEROS))
    elif name == "R.zip":
        zipped(path, {"a": b"", "b": ZEROS})
    else:
        tar(path, entry("a"), entry("b", ZEROS), mode="w:gz" if name.endswith("gz") else "w")
    assert len(open_files(path, tmp_path / "enough", limit=len(ZEROS)).paths) in (1, 2)
    refused(path, into, "more than 3.0 MiB", limit=len(ZEROS) - 1)


def test_the_limit_holds_for_all_archives_of_a_folder_together(tmp_path, into):
    given = tree(tmp_path / "given", {"big": bytes(100)})
    zipped(given / "a.zip", {"a": bytes(60)})
    zipped(given / "b.zip", {"b": bytes(60)})
    assert len(open_files(given, tmp_path / "enough", limit=120).paths) == 3
    with pytest.raises(DataError, match=r"b\.zip unpacks to more than"):
        open_files(given, into, limit=119)
    assert left(into) == []


def test_what_is_left_out_of_a_tar_counts_because_it_is_read(tmp_path, into):
    path = tar(tmp_path / "R.tar.gz", entry(".git/a", ZEROS), entry(".git/b", ZEROS), mode="w:gz")
    assert contents(open_files(path, tmp_path / "enough", limit=2 * len(ZEROS))) == {}
    refused(path, into, "more than 6.0 MiB", limit=2 * len(ZEROS) - 1)


def test_a_bomb_takes_no_memory(tmp_path, into):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    refused(path, into, limit=64 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_too_many_members_are_refused(tmp_path, into, kind, monkeypatch):
    names = ["a", "b", "c", "d"]
    path = tmp_path / ("R" if kind == "folder" else f"R.{kind}")
    if kind == "folder":
        tree(path, dict.fromkeys(names, b""))
    elif kind == "zip":
        zipped(path, dict.fromkeys(names, b""))
    else:
        tar(path, *[entry(f"{name}/", kind=tarfile.DIRTYPE) for name in names])
    monkeypatch.setattr(unpack, "MEMBERS", 4)
    open_files(path, tmp_path / "enough")
    monkeypatch.setattr(unpack, "MEMBERS", 3)
    refused(path, into, "more than 3 files")


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, into, monkeypatch):
    path = zipped(tmp_path / "R.zip", {"a": bytes(600), "b": bytes(600)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda where: usage._replace(free=1000))
    refused(path, into, str(into), "make room")


# --- broken archives ----------------------------------------------------------------------------------------------


def test_a_zip_that_holds_more_than_it_declares_is_refused(tmp_path, into):
    path = zipped(tmp_path / "R.zip", {"a.png": bytes(77_777)})
    patched(path, (77_777).to_bytes(4, "little"), (10).to_bytes(4, "little"), 2)
    refused(path, into, "'a.png'", "damaged")


def test_a_zip_that_holds_less_than_it_declares_is_refused(tmp_path, into):
    path = zipped(tmp_path / "R.zip", {"a.png": bytes(77_777)})
    patched(path, (77_777).to_bytes(4, "little"), (88_888).to_bytes(4, "little"), 2)
    refused(path, into, "'a.png'", "77777 bytes instead of 88888")


@pytest.mark.parametrize("name", ["R.zip", "R.tar", "R.tar.gz", "R.tar.bz2", "R.tar.xz", "im0001.ppm.gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, into, name, share):
    path, content = tmp_path / name, os.urandom(20_000)
    if name == "R.zip":
        zipped(path, {"a.png": content})
    elif name.startswith("R.tar"):
        tar(path, entry("a.png", content), entry("b.png", content), mode=f"w:{name[6:]}")
    else:
        path.write_bytes(gzip.compress(content))
    data = path.read_bytes()
    kept = data[: int(share * (40_960 + 1024 if name == "R.tar" else len(data)))]  # of a tar, not only its padding
    path.write_bytes(kept)
    refused(path, into, "cut short or damaged", "get it again")


def test_a_tar_that_is_cut_between_two_members_is_refused(tmp_path, into):
    path = tar(tmp_path / "R.tar", entry("a", bytes(512)), entry("b", bytes(512)), form=tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[:1024])
    refused(path, into, "ends too early")


@pytest.mark.parametrize("name", ["R.zip", "R.tar.gz", "R.tar.bz2", "R.tar.xz", "im0001.ppm.gz"])
def test_a_flipped_byte_is_found(tmp_path, into, name):
    """Also where the tar itself has ended and only the stream's checksum tells."""
    path, content = tmp_path / name, os.urandom(5000)
    if name == "R.zip":
        zipped(path, {"a.png": content}, zipfile.ZIP_STORED)
    elif name.startswith("R.tar"):
        tar(path, entry("a.png", content), mode=f"w:{name[6:]}")
    else:
        path.write_bytes(gzip.compress(content))
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    refused(path, into, "damaged")


def test_a_wrong_checksum_at_the_very_end_is_found(tmp_path, into):
    path = tar(tmp_path / "R.tar.gz", entry("a.png", b"a"), mode="w:gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    refused(path, into, "damaged")


def raw_header(name, kind, size):
    """Return a tar header whose size field is any 12 bytes."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        (b"0", b"\xff" * 11 + b"\0", "a size is negative"),  # -256: some versions of tarfile never come back from it
        (b"x", b"\xff" * 11 + b"\0", "declares -256 bytes"),
        (b"x", b"\x80" + (8 << 30).to_bytes(11, "big"), "declares 8589934592 bytes"),  # tarfile reads it into memory
        (b"L", b"77777777777\0", "declares 8589934591 bytes"),
        (b"0", b"not a number", "invalid header"),
    ],
)
def test_a_header_with_an_impossible_length_is_refused(tmp_path, into, kind, size, words):
    path = tmp_path / "R.tar"
    path.write_bytes(raw_header("a", b"0", b"00000000000\0") + raw_header("b", kind, size) + bytes(2048))
    refused(path, into, "damaged", words)


@pytest.mark.parametrize(
    "record", [b"11 size=-1\n", b"0 a=b\n", b"99 a=b\n", b"-9 a=b\n", b"7 abcd\n", b"5 a=bc\n", b"x"]
)
def test_broken_extended_attributes_are_refused(tmp_path, into, record):
    path = tmp_path / "R.tar"
    extension = raw_header("x", b"x", b"%011o\0" % len(record)) + record.ljust(512, b"\0")
    path.write_bytes(extension + raw_header("a", b"0", b"00000000000\0") + bytes(1024))
    refused(path, into, "damaged")


def test_a_folder_that_declares_a_size_has_no_content(tmp_path, into):
    path = tmp_path / "R.tar"
    file = raw_header("d/a", b"0", b"%011o\0" % 3) + b"abc".ljust(512, b"\0")
    path.write_bytes(raw_header("d/", b"5", b"%011o\0" % 512) + file + bytes(1024))
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["d", "d/a"]
    assert contents(open_files(path, into)) == {"R/d/a": b"abc"}


def test_headers_without_a_member_are_refused(tmp_path, into):
    path = tmp_path / "R.tar"
    path.write_bytes(
        raw_header("x", b"g", b"00000000000\0") * 9 + raw_header("a", b"0", b"00000000000\0") + bytes(1024)
    )
    refused(path, into, "too many headers")


def test_what_hides_behind_the_end_of_a_tar_is_not_read_for_ever(tmp_path, into):
    path = tmp_path / "R.tar.gz"
    path.write_bytes(gzip.compress(tar(tmp_path / "R.tar", entry("a", b"a")).read_bytes() + bytes(4 << 20), 1))
    refused(path, into, "more behind its end")


# --- no archive at all --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>Sign in", "is a web page"),
        (b"<HTML>", "is a web page"),
        (b"\xef\xbb\xbf<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "not a folder, a zip, a tar or a gzip"),
        (b"PKnothing", "not a folder, a zip, a tar or a gzip"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, into, content, words):
    path = tmp_path / "release"
    path.write_bytes(content)
    refused(path, into, words)


def test_a_tar_by_name_that_is_none_is_refused(tmp_path, into):
    path = tmp_path / "R.tar.gz"
    path.write_bytes(gzip.compress(b"something else" * 100))
    refused(path, into, "damaged")


def test_a_path_that_does_not_exist_is_named(tmp_path, into):
    refused(tmp_path / "absent.zip", into, "does not exist")
    with pytest.raises(DataError, match="does not exist"):
        open_files(Path("a\0b"), into)


def test_a_pipe_is_neither_file_nor_folder(tmp_path, into):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", into, "neither a file nor a folder")


# --- folders ------------------------------------------------------------------------------------------------------


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path, into):
    lake = tree(tmp_path / "lake", {"1.png": b"1", "deep/2.png": b"2"})
    given = tree(tmp_path / "given", {"0.png": b"0"})
    (given / "1.png").symlink_to(lake / "1.png")
    (given / "deep").symlink_to(lake / "deep", target_is_directory=True)
    (given / "round").symlink_to(given, target_is_directory=True)
    os.mkfifo(given / "pipe")
    assert contents(open_files(given, into)) == {"given/0.png": b"0", "given/1.png": b"1"}


@pytest.mark.parametrize(
    ("target", "words"),
    [("nowhere", "mend or remove the link"), ("../.git/annex/objects/x", "git annex get"), ("a.png", "does not exist")],
)
def test_a_broken_link_is_named(tmp_path, into, target, words):
    given = tree(tmp_path / "given", {"0.png": b"0"})
    (given / "a.png").symlink_to(target)
    refused(given, into, str(given / "a.png"), words)
    refused(given / "a.png", into, words)


def test_a_file_name_that_is_no_text_can_be_printed(tmp_path, into):
    given = tree(tmp_path / "given", {})
    given.mkdir()
    Path(os.fsdecode(os.fsencode(given) + b"/gr\xfcn.png")).write_bytes(b"g")
    assert contents(open_files(given, into)) == {"given/gr\\xfcn.png": b"g"}


def test_a_bad_archive_in_a_folder_takes_back_the_good_ones_and_leaves_the_folder(tmp_path, into):
    given = tree(tmp_path / "given", {"notes.txt": b"n"})
    zipped(given / "a.zip", {"a": b"a"})
    (given / "b.zip").write_bytes(zipped(tmp_path / "b.zip", {"b": bytes(99)}).read_bytes()[:-30])
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    with pytest.raises(DataError, match=r"b\.zip is cut short"):
        open_files(given, into)
    assert left(into) == []
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before


def test_an_interruption_leaves_nothing(tmp_path, into, monkeypatch):
    usage = shutil.disk_usage(tmp_path)

    def interrupt(where):
        if any(path.is_file() for path in left(into)):
            raise KeyboardInterrupt
        return usage

    monkeypatch.setattr(shutil, "disk_usage", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_files(zipped(tmp_path / "R.zip", {"a": b"a", "b": b"b"}), into)
    assert left(into) == []


@pytest.fixture
def open_folder():
    """Return a folder that everybody may enter, and become nobody where the tests are run by root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    yield folder, lambda: os.seteuid(65534) if root else None
    if root:
        os.seteuid(0)
    for path in folder.iterdir():
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["folder", "file", "folder within", "into"])
def test_what_may_not_be_read_is_named(open_folder, what):
    folder, drop_rights = open_folder
    closed = folder / "closed"
    if what == "file":
        zipped(closed, {"a": b"a"})
    else:
        tree(closed, {"a": b"a"})
    given, into = (folder if what == "folder within" else closed), folder / "new"
    if what == "into":
        given, into = zipped(folder / "R.zip", {"a": b"a"}), closed / "into"
    closed.chmod(0)
    drop_rights()
    with pytest.raises(DataError, match=r"closed.* cannot be .*Permission denied.*\.$"):
        open_files(given, into)
