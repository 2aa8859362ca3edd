"""Reading imported vessel releases: masks of every kind, options, fields of view, and what is said about them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.api import Case, DataError, UsageError
from pflbench.importing import import_release
from pflbench_datasets.vessel import Vessel

_SPEC = importlib.util.spec_from_file_location("make_vessel", Path(__file__).parents[1] / "data/vessel/make.py")
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

RELEASES = (make.chase, make.dr_hagis, make.drive, make.hrf, make.les_av)


def brought(root: Path, *sources: Path, **options: object) -> Vessel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PFLBENCH_CACHE", str(root / "cache"))
        import_release(Vessel, sources, root)
    found = Vessel.find(root, **options)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Vessel:
    """The likely source of the paper: a clone of ICPRVessels, and LES-AV."""
    base = tmp_path_factory.mktemp("paper")
    return brought(base / "data", make.icpr(base / "ICPRVessels"), make.les_av(base / "LES-AV"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Vessel:
    base = tmp_path_factory.mktemp("originals")
    return brought(base / "data", *(release(base / release.__name__) for release in RELEASES))


def named(vessel: Vessel, site: str, name: str) -> Case:
    return next(case for case in vessel.cases(site) if case.id == f"{site}/{name}")


def held_out(vessel: Vessel, site: str) -> set[str]:
    return {case.id.removeprefix(f"{site}/") for case in vessel.cases(site) if case.split == "test"}


def test_clone_and_les_av_have_the_paper_s_counts_in_the_paper_s_order(paper):
    counts = {}
    for site in paper.available():
        splits = [case.split for case in paper.cases(site)]
        counts[site] = splits.count("train"), splits.count("test")
    assert list(counts.items()) == [
        ("CHASEDB1", (20, 8)),
        ("DR-HAGIS", (34, 6)),
        ("DRIVE", (20, 20)),
        ("HRF", (15, 30)),
        ("LES-AV", (17, 5)),
        ("ORVS", (41, 8)),
    ]


@pytest.mark.parametrize("site", ["CHASEDB1", "DR-HAGIS", "DRIVE", "HRF", "LES-AV"])
def test_cases_are_the_same_from_either_source(paper, originals, site):
    assert paper.cases(site) == originals.cases(site)


@pytest.mark.parametrize("site", ["DR-HAGIS", "HRF", "LES-AV", "ORVS"])
def test_cases_come_train_before_test_and_by_number(paper, site):
    cases = paper.cases(site)
    assert [case.split for case in cases] == sorted((case.split for case in cases), key=["train", "test"].index)
    numbers = [int(case.id.rpartition("/")[2].partition("_")[0]) for case in cases if case.split == "train"]
    assert numbers == sorted(numbers)


def test_no_subject_is_in_two_splits(paper):
    for site in paper.available():
        owners = {(case.subject, case.split) for case in paper.cases(site)}
        assert len(owners) == len({subject for subject, _ in owners})


@pytest.mark.parametrize("site", ["DR-HAGIS", "DRIVE", "HRF", "LES-AV", "ORVS"])
@pytest.mark.parametrize("source", ["paper", "originals"])
def test_every_mask_is_the_one_that_was_drawn(request, source, site):
    """One-bit PNG, grey GIF and TIFF, RGB JPEG with grey rims."""
    vessel = request.getfixturevalue(source)
    for case in vessel.cases(site) if site in vessel.available() else ():
        truth = make.vessels(site, case.id.rpartition("/")[2])
        image, mask = vessel.read(case)
        assert image.shape == (3, *truth.shape)
        if case.id != "ORVS/2063":
            np.testing.assert_array_equal(mask, truth, err_msg=case.id)


def test_the_label_that_is_a_pixel_narrower_than_its_image_is_fitted(paper):
    image, mask = paper.read(named(paper, "ORVS", "2063"))
    truth = make.vessels("ORVS", "2063")
    assert mask.shape == image.shape[1:] == truth.shape
    np.testing.assert_array_equal(mask[:, :10], truth[:, :10])
    assert (mask != truth).mean() < 0.05


def test_the_larger_picture_of_les_av_keeps_its_size(originals):
    sizes = {case.id: originals.read(case)[0].shape for case in originals.cases("LES-AV")}
    assert {name for name, size in sizes.items() if size != sizes["LES-AV/12"]} == {"LES-AV/34"}


# options


@pytest.mark.parametrize(("labels", "observers"), [("first", [1]), ("second", [2]), ("union", [1, 2])])
def test_chase_labels_choose_the_observer(originals, labels, observers):
    vessel = replace(originals, chase_labels=labels)
    for case in vessel.cases("CHASEDB1"):
        name = case.id.rpartition("/")[2]
        truth = sum(make.vessels("CHASEDB1", name, observer).astype(int) for observer in observers) > 0
        np.testing.assert_array_equal(vessel.read(case)[1], truth, err_msg=name)


def test_the_labels_of_icprvessels_are_the_union_of_the_originals(paper, originals):
    for one, other in zip(paper.cases("CHASEDB1"), originals.cases("CHASEDB1"), strict=True):
        np.testing.assert_array_equal(paper.read(one)[1], originals.read(other)[1])


@pytest.mark.parametrize("labels", ["first", "second"])
def test_one_observer_alone_is_refused_where_only_the_union_was_imported(paper, labels):
    vessel = replace(paper, chase_labels=labels)
    with pytest.raises(DataError, match=rf"ICPRVessels.*chase_labels={labels} import CHASEDB1\.zip"):
        vessel.cases("CHASEDB1")
    assert len(vessel.cases("DRIVE")) == 40


@pytest.mark.parametrize(("rule", "trained"), [("paper", range(11, 16)), ("first5", range(1, 6))])
def test_hrf_split_is_by_number_in_all_three_groups(paper, rule, trained):
    names = {f"{number:02d}_{group}" for number in range(1, 16) for group in ("dr", "g", "h") if number not in trained}
    assert held_out(replace(paper, hrf_split=rule), "HRF") == names


def test_the_duplicate_of_dr_hagis_is_kept_or_dropped(paper):
    names = {case.id for case in paper.cases("DR-HAGIS")}
    one, two = (paper.read(named(paper, "DR-HAGIS", name))[0] for name in ("24", "32"))
    np.testing.assert_array_equal(one, two)
    dropped = replace(paper, dr_hagis_duplicate="drop")
    assert names - {case.id for case in dropped.cases("DR-HAGIS")} == {"DR-HAGIS/32"}


def test_the_split_of_les_av_changes_with_its_seed_and_with_nothing_else(paper, originals):
    drawn = [held_out(replace(paper, les_av_seed=seed), "LES-AV") for seed in range(20)]
    assert {len(names) for names in drawn} == {5}
    assert len({frozenset(names) for names in drawn}) > 15
    assert set.union(*drawn) == set(map(str, make.LES_AV))
    assert [held_out(replace(originals, les_av_seed=seed), "LES-AV") for seed in range(20)] == drawn


def output(state: int) -> int:
    """Return what PCG64 puts out in a state (O'Neill's XSL-RR), written out in integers."""
    word = (state >> 64) ^ (state & (2**64 - 1))
    turn = state >> 122
    return ((word >> turn) | (word << (64 - turn))) & (2**64 - 1)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_split_of_les_av_follows_the_published_generator(paper, seed):
    """The lots are drawn again by PCG64 as its paper defines it, from the state that numpy makes of the seed."""
    start = np.random.PCG64(seed).state["state"]
    state, lots = start["state"], []
    for name in sorted(make.LES_AV):
        state = (state * 0x2360ED051FC65DA44385DF649FCCF645 + start["inc"]) % 2**128
        lots.append((output(state), str(name)))
    assert held_out(replace(paper, les_av_seed=seed), "LES-AV") == {name for _, name in sorted(lots)[:5]}


def test_a_few_pictures_of_les_av_keep_the_share_for_testing(tmp_path):
    make.les_av(tmp_path / "LES-AV")
    for name in make.LES_AV[9:]:
        (tmp_path / f"LES-AV/LES-AV/images/{name}.png").unlink()
    vessel = brought(tmp_path / "data", tmp_path / "LES-AV")
    assert (len(vessel.cases("LES-AV")), len(held_out(vessel, "LES-AV"))) == (9, 2)


@pytest.mark.parametrize(
    ("option", "value"),
    [("chase_labels", "third"), ("hrf_split", "random"), ("dr_hagis_duplicate", "both"), ("les_av_seed", -1)],
)
def test_an_option_that_is_not_offered_is_refused(option, value):
    with pytest.raises(UsageError, match=rf"vessel\.{option}"):
        Vessel.of({option: value})


def test_where_the_data_lies_is_no_setting(paper):
    assert Vessel.setting_names() == ["chase_labels", "hrf_split", "dr_hagis_duplicate", "les_av_seed"]
    assert paper.changed() == {}


# digests


def digests(vessel: Vessel, site: str) -> dict[str, str]:
    return {case.id: vessel.digest(case) for case in vessel.cases(site)}


def test_digests_tell_whose_labels_are_used(originals):
    kinds = [digests(replace(originals, chase_labels=labels), "CHASEDB1") for labels in ("first", "second", "union")]
    for name in kinds[0]:
        assert len({kind[name] for kind in kinds}) == 3


def test_options_that_change_no_pixel_change_no_digest(paper):
    other = replace(paper, hrf_split="first5", les_av_seed=3)
    for site in ("HRF", "LES-AV"):
        assert digests(paper, site) == digests(other, site)


@pytest.mark.parametrize("part", ["images", "1st_manual", "mask"])
def test_a_digest_follows_each_file_of_its_case_and_no_other(tmp_path, part):
    before = digests(brought(tmp_path / "one", make.drive(tmp_path / "release")), "DRIVE")
    [file] = (tmp_path / "release/DRIVE/training" / part).glob("25_*")
    Image.new("RGB" if part == "images" else "L", make.SIZES["DRIVE"], 255).save(file)
    after = digests(brought(tmp_path / "two", tmp_path / "release"), "DRIVE")
    assert {name for name in before if before[name] != after[name]} == {"DRIVE/25"}


def test_a_file_that_changed_after_the_import_is_named(tmp_path):
    vessel = brought(tmp_path / "data", make.chase(tmp_path / "release"))
    case = vessel.cases("CHASEDB1")[0]
    file = vessel.store.sites["CHASEDB1"].items["Image_01L"].files["mask-first"]
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"Image_01L\.png is not as it was imported"):
        vessel.digest(case)


# fields of view


@pytest.mark.parametrize("site", ["DR-HAGIS", "DRIVE", "HRF", "LES-AV"])
def test_fields_of_view_of_every_kind_read_alike(originals, site):
    """One-bit PNG, grey GIF, three-channel TIFF, palette GIF and one with its palette inverted."""
    for case in originals.cases(site):
        truth = make.field(site, case.id.rpartition("/")[2])
        found = originals.field_of_view(case)
        assert found is not None
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, truth, err_msg=case.id)


def test_chase_and_the_clone_have_no_fields_of_view(paper, originals):
    assert originals.field_of_view(originals.cases("CHASEDB1")[0]) is None
    for site in ("CHASEDB1", "DR-HAGIS", "DRIVE", "HRF", "ORVS"):
        assert paper.field_of_view(paper.cases(site)[0]) is None


def test_a_palette_of_almost_black_is_still_a_field_of_view(tmp_path):
    folder = make.les_av(tmp_path / "release") / "LES-AV/masks"
    dark = Image.fromarray(make.field("LES-AV", "12").astype(np.uint8), "P")
    dark.putpalette([0, 0, 0, 1, 1, 1])
    dark.save(folder / "12_mask.gif")
    vessel = brought(tmp_path / "data", tmp_path / "release")
    found = vessel.field_of_view(named(vessel, "LES-AV", "12"))
    np.testing.assert_array_equal(found, make.field("LES-AV", "12"))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((40, 41), r"21_training_mask\.gif is a field-of-view mask without"),
        ((20, 20), r"21_training_mask\.gif is 20x20"),
    ],
)
def test_a_field_of_view_that_is_empty_or_of_another_size_stops_the_import(tmp_path, size, message):
    make.drive(tmp_path / "release")
    Image.new("L", size, 0 if size == (40, 41) else 255).save(
        tmp_path / "release/DRIVE/training/mask/21_training_mask.gif"
    )
    with pytest.raises(DataError, match=message):
        brought(tmp_path / "data", tmp_path / "release")
    assert Vessel.find(tmp_path / "data") is None


# what is said, and what is refused


def test_remarks_say_what_was_chosen_and_what_the_import_said(paper):
    said = "\n".join(replace(paper, hrf_split="first5", les_av_seed=3).remarks())
    assert "CHASEDB1: labels are the union of both observers (vessel.chase_labels=union)." in said
    assert "HRF: 01-05 of each group" in said
    assert "DR-HAGIS: 24 and 32 are the same picture; both are kept" in said
    assert "(vessel.les_av_seed=3)" in said
    assert "ORVS: ARIA and IOSTAR" in said
    for name in held_out(replace(paper, les_av_seed=3), "LES-AV"):
        assert name in next(line for line in said.splitlines() if line.startswith("LES-AV"))


def test_remarks_follow_the_options(originals):
    said = "\n".join(replace(originals, chase_labels="second", dr_hagis_duplicate="drop").remarks())
    assert "those of the second observer" in said
    assert "32 is left out" in said
    assert "11-15 of each group" in said


def test_drive_without_test_labels_is_imported_and_remembered(tmp_path):
    vessel = brought(tmp_path / "data", make.drive(tmp_path / "release", test_labels=False))
    assert {case.split for case in vessel.cases("DRIVE")} == {"train"}
    assert any("DRIVE: the 20 test images have no labels" in remark for remark in vessel.remarks())


def test_a_site_in_the_clone_and_in_its_own_release_is_refused(tmp_path):
    make.icpr(tmp_path / "both/clone")
    make.chase(tmp_path / "both/original")
    with pytest.raises(UsageError, match="CHASEDB1"):
        brought(tmp_path / "data", tmp_path / "both")


def test_a_site_or_case_that_was_not_imported_is_refused(originals):
    with pytest.raises(DataError, match="holds no ORVS; import it: git clone"):
        originals.cases("ORVS")
    with pytest.raises(DataError, match="'HRF/99_h' is no case"):
        originals.read(Case("HRF/99_h", "HRF", "99_h"))
    with pytest.raises(DataError, match="holds no Elsewhere"):
        originals.read(Case("Elsewhere/1", "Elsewhere", "1"))


def ready(root: Path, site: str) -> Path:
    for split in ("train", "test"):
        make.save(make.picture("DRIVE", "21"), root / site / split / "images/a.png")
        make.save(make.grey(make.vessels("DRIVE", "21")), root / site / split / "masks/a.png")
    return root


def test_imported_data_and_ready_folders_in_one_place_are_refused(tmp_path):
    vessel = brought(tmp_path / "data", make.chase(tmp_path / "release"))
    ready(tmp_path / "data", "HRF")
    with pytest.raises(DataError, match=r"ready folders \(HRF\) and .*vessel imported data; move"):
        Vessel.find(tmp_path / "data")
    assert Vessel.find(vessel.store.folder) is not None


@pytest.mark.parametrize(
    ("site", "option", "value"),
    [
        ("CHASEDB1", "chase_labels", "first"),
        ("HRF", "hrf_split", "first5"),
        ("DR-HAGIS", "dr_hagis_duplicate", "drop"),
        ("LES-AV", "les_av_seed", 1),
    ],
)
def test_an_option_that_would_change_a_ready_folder_is_refused(tmp_path, site, option, value):
    ready(tmp_path, site)
    with pytest.raises(UsageError, match=rf"vessel\.{option} cannot change .*{site}"):
        Vessel.find(tmp_path, **{option: value})
    assert Vessel.find(tmp_path) is not None


def test_an_option_for_another_site_does_not_hurt_a_ready_folder(tmp_path):
    found = Vessel.find(ready(tmp_path, "DRIVE"), les_av_seed=1)
    assert found is not None
    assert found.remarks() == ("DRIVE: masks and splits are those of ready folders.",)
    assert found.field_of_view(found.cases("DRIVE")[0]) is None
