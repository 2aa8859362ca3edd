"""Every check finds what it is for, and nothing else: broken on purpose in one way, a thing fails in one line."""

import subprocess
import sys
import textwrap
from typing import ClassVar

import pytest
import torch
from broken_data import BROKEN_DATASETS, Discs
from broken_methods import BROKEN, complete
from broken_partitioners import BROKEN_PARTITIONERS, Cards

from pflbench.testing import (
    Check,
    CheckFailed,
    CheckSkipped,
    dataset_checks,
    method_checks,
    outcomes,
    partitioner_checks,
)
from pflbench.testing.leaks import contains_image
from pflbench.testing.toy import toy_images
from pflbench_methods.fedavg import FedAvg

SLOW = {"learns", "resumes", "fresh-process"}  # tried for those things only that are broken there
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def failures(checks, target):
    """Return name -> reason of the checks that fail; the slow ones are left out where none of them is meant."""
    quick = [check for check in checks if target in SLOW or check.name not in SLOW]
    return {one.check.name: one.text for one in outcomes(quick) if one.state == "fails"}


def params(broken):
    """Return the broken things as parameters with readable names."""
    marks = {"gpu": NO_GPU, **dict.fromkeys(SLOW, pytest.mark.slow)}
    return [
        pytest.param(cls, *found, id=f"{found[0]}-{cls.__name__}", marks=marks.get(found[0], ()))
        for cls, found in broken.items()
    ]


@pytest.mark.parametrize(("cls", "target", "words"), params(BROKEN))
def test_a_broken_method_fails_in_one_line_that_says_why(cls, target, words):
    found = failures(method_checks(cls), target)
    assert list(found) == [target]
    assert words in found[target]


@pytest.mark.parametrize(("cls", "target", "words"), params(BROKEN_DATASETS))
def test_a_broken_dataset_fails_in_one_line_that_says_why(cls, target, words):
    found = failures(dataset_checks(cls), target)
    assert list(found) == [target]
    assert words in found[target]


@pytest.mark.parametrize(("cls", "target", "words"), params(BROKEN_PARTITIONERS))
def test_a_broken_partitioner_fails_in_one_line_that_says_why(cls, target, words):
    found = failures(partitioner_checks(cls), target)
    assert list(found) == [target]
    assert words in found[target]


@pytest.mark.parametrize(
    ("checks", "broken"),
    [
        (method_checks(FedAvg), BROKEN),
        (dataset_checks(Discs), BROKEN_DATASETS),
        (partitioner_checks(Cards), BROKEN_PARTITIONERS),
    ],
    ids=["method", "dataset", "partitioner"],
)
def test_every_check_has_something_that_it_finds(checks, broken):
    assert {check.name for check in checks} == {target for target, _ in broken.values()}


@pytest.mark.parametrize("checks", [dataset_checks(Discs), partitioner_checks(Cards)], ids=["dataset", "partitioner"])
def test_what_is_not_broken_holds_everywhere(checks):
    assert {one.check.name: one.text for one in outcomes(checks) if one.state != "holds"} == {}


def test_names_are_distinct_slugs_and_sentences_end():
    for checks in (method_checks(FedAvg), dataset_checks(Discs), partitioner_checks(Cards)):
        names = [str(check) for check in checks]
        assert len(set(names)) == len(names)
        assert all(name == name.lower() and " " not in name for name in names)
        assert all(check.sentence[0].isupper() and check.sentence.endswith(".") for check in checks)
        assert [repr(check) for check in checks] == [
            f"Check(name={check.name!r}, sentence={check.sentence!r})" for check in checks
        ]


def test_a_method_that_does_not_play_fails_once_and_the_rest_is_not_tried():
    raises = next(cls for cls, (target, _) in BROKEN.items() if cls.__name__ == "Raises")
    found = {one.check.name: (one.state, one.text) for one in outcomes(method_checks(raises))}
    assert found["plays"][0] == "fails"
    assert "broken_methods.py, line" in found["plays"][1]
    assert found["learns"] == ("not tried", "it does not play: see above.")


def test_a_method_made_in_a_function_says_that_no_other_process_can_import_it():
    @complete
    class Hidden(FedAvg):
        pass

    checks = {check.name: check for check in method_checks(Hidden)}
    with pytest.raises(CheckSkipped, match="Hidden is defined in a function, where another process cannot import it"):
        checks["fresh-process"]()
    assert "in this process; not tried in another" in checks["resumes"]()


def test_an_unpublished_method_may_say_so():
    @complete
    class New(FedAvg):
        citation: ClassVar[str] = "Doe: unpublished."

    check = next(check for check in method_checks(New) if check.name == "cites")
    assert check() == "Doe: unpublished. Give year and link when there is a paper."


def test_a_value_is_checked_with_its_settings():
    from pflbench_methods.fedprox import FedProx

    checks = {check.name: check for check in method_checks(FedProx(proximity=0.5))}
    assert checks["settings"]() == "fedprox.proximity=0.5"


def test_a_partitioner_that_wants_a_setting_is_told_what_the_toy_has():
    from pflbench_datasets.traits import Trait

    found = failures(partitioner_checks(Trait), "deals")
    assert list(found) == ["deals"]
    assert "traits eye (left or right), lid (upper or lower)" in found["deals"]
    assert failures(partitioner_checks(Trait(by="eye")), "deals") == {}


def test_an_error_in_a_check_is_its_reason():
    def body():
        raise ZeroDivisionError("division by zero")

    with pytest.raises(CheckFailed, match="ZeroDivisionError: division by zero") as caught:
        Check("divides", "It divides.", body)()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "form",
    [
        lambda image: image,
        lambda image: image / 255,
        lambda image: (image - image.mean()) / image.std(),
        lambda image: 1 - image / 255,
        lambda image: (image / 255).half(),
        lambda image: image.movedim(0, -1),
        lambda image: image[1],
        lambda image: image // 32,
    ],
    ids=["raw", "unit", "standardized", "inverted", "half", "channels-last", "one-channel", "eight-greys"],
)
def test_an_image_is_found_in_whatever_form_it_is_hidden(form):
    data = toy_images("north", "train")
    noise = torch.randn(3001, generator=torch.Generator().manual_seed(0))
    message = torch.cat([noise, form(data.images[2].float()).float().reshape(-1), noise])
    assert contains_image({"weights": {"hidden": message}}, data) == "message['weights']['hidden']"


def test_noise_and_other_hospitals_images_are_not_taken_for_an_image():
    data = toy_images("north", "train")
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    others = toy_images("south", "train").images.float()
    assert (
        contains_image({"noise": noise, "flat": torch.ones(5000), "short": noise[:9], "others": others}, data) is None
    )


@pytest.mark.slow
def test_a_plugin_authors_test_file_is_three_lines(tmp_path):
    (tmp_path / "pflbench_fedfoo.py").write_text(
        textwrap.dedent("""
        from dataclasses import dataclass
        from typing import ClassVar
        from pflbench_methods.fedavg import FedAvg

        @dataclass(frozen=True)
        class FedFoo(FedAvg):
            \"\"\"FedAvg, except that nothing is different yet.\"\"\"

            name: ClassVar[str] = "fedfoo"
            title: ClassVar[str] = "FedFoo"
            year: ClassVar[int | None] = None
            citation: ClassVar[str] = "Doe: no link, no date."
        """)
    )
    (tmp_path / "test_fedfoo.py").write_text(
        textwrap.dedent("""
        import pytest; from pflbench.testing import method_checks; from pflbench_fedfoo import FedFoo
        @pytest.mark.parametrize("check", method_checks(FedFoo), ids=str)
        def test_contract(check): check()
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "test_contract[cites]" in done.stdout
    assert "has no year" in done.stdout
    passed = (
        len(method_checks(FedAvg)) - 2 - (not torch.cuda.is_available())
    )  # cites fails; FedFoo says of no newcomers
    assert f"1 failed, {passed} passed" in done.stdout
