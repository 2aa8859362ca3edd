"""Every check finds what it is for, and nothing else: broken on purpose in one way, a thing fails in one line."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch
from broken_data import BROKEN_DATASETS, Discs
from broken_methods import BROKEN, complete
from broken_partitioners import BROKEN_PARTITIONERS, Cards

from pflbench.api import Family, UNet, keys, load, pick, weighted_mean
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


def detail(cls, name):
    return next(check for check in method_checks(cls) if check.name == name)()


def test_a_family_may_be_that_of_a_base_that_is_no_method_itself():
    @dataclass(frozen=True)
    class Personal(FedAvg):
        family: ClassVar[Family] = "personalized"

    class New(Personal):
        pass

    assert detail(complete(New, without=["family"]), "cites").startswith("An example, unpublished.")


def test_a_method_with_one_model_for_everybody_may_be_of_its_parents_family():
    @partial(complete, without=["family"])
    class General(FedAvg):
        pass

    assert detail(General, "cites").startswith("An example, unpublished.")
    assert detail(General, "keeps")


def test_a_control_may_be_of_its_parents_year():
    @partial(complete, without=["year"])
    class Control(FedAvg):
        family: ClassVar[Family] = "control"
        citation: ClassVar[str] = "Control: McMahan et al., AISTATS 2017. https://arxiv.org/abs/1602.05629"

    assert detail(Control, "cites") == Control.citation


def test_it_is_shown_what_travels_and_what_is_kept_at_a_client():
    @complete
    class Keeps(FedAvg):
        travels: ClassVar[str] = "all weights but those of the first convolution"

        def shared(self, model):
            return keys(model) - {"enc1.0.weight", "enc1.0.bias"}

        def client_update(self, client):
            client.state["tuned"] = torch.zeros(1000)
            return super().client_update(client)

    shown = detail(Keeps, "keeps")
    assert "; 42 of 44 entries of the model travel; kept at a client: 2 entries of the model (in enc1.0), " in shown
    [size] = re.findall(r"client\.state\['tuned'\] \(([\d,]+) bytes\)", shown)
    assert 4000 < int(size.replace(",", "")) < 4200  # a thousand numbers of four bytes, and their name


def test_a_method_that_keeps_nothing_is_shown_to():
    assert detail(FedAvg, "keeps").endswith("44 of 44 entries of the model travel; kept at a client: nothing else")


def test_weights_may_travel_in_one_piece():
    @complete
    class Flat(FedAvg):
        def client_update(self, client):
            sent = super().client_update(client)
            return {"flat": torch.cat([value.reshape(-1) for _, value in sorted(sent.items())])}

        def server_update(self, server, inbox):
            return dict.fromkeys(inbox, weighted_mean(inbox, server.shares))

        def client_receive(self, client, message):
            own = pick(client.model.state_dict(), sorted(keys(client.model)))
            parts = message["flat"].split([own[name].numel() for name in sorted(own)])
            load(client.model, {name: part.view_as(own[name]) for name, part in zip(sorted(own), parts, strict=True)})

    numbers = sum(value.numel() for value in UNet(3, 4).state_dict().values() if value.is_floating_point())
    shown = detail(Flat, "keeps")
    assert f"0 of 44 entries of the model travel under their names, and {numbers:,} numbers under others;" in shown


def test_a_mask_is_not_taken_for_the_weights_that_it_masks():
    @complete
    class Masks(FedAvg):
        def client_update(self, client):
            client.fit()
            return {name: value > 0 for name, value in client.model.named_parameters()}

        def server_update(self, server, inbox):
            return {}

        def client_receive(self, client, message):
            pass

    with pytest.raises(CheckFailed, match="but 44 of 44 entries of the model are in no message"):
        detail(Masks, "keeps")


def test_what_is_sent_once_is_shown_beside_what_is_sent_every_round():
    @complete
    class Greets(FedAvg):
        def client_setup(self, client):
            return {"hello": torch.zeros(100)}

    assert re.search(r" per client and round; 4\d\d up before round 1$", detail(Greets, "messages"))


def dataset_outcome(cls, name):
    [found] = outcomes([check for check in dataset_checks(cls) if check.name == name])
    return found.state, found.text


@pytest.mark.parametrize(
    ("expected", "state", "words"),
    [
        ({}, "not tried", "it says of no site how much there is; give expected (site -> images for training"),
        ({"north": (6, 2)}, "holds", "no number is given for south"),
        ({"north": (6, 2), "south": (6, 2)}, "holds", ""),
    ],
)
def test_counts_hold_only_where_a_number_is_given(expected, state, words):
    @dataclass(frozen=True)
    class Counted(Discs):
        pass

    Counted.expected = expected
    found = dataset_outcome(Counted, "counts")
    assert found[0] == state
    assert found[1].startswith(words)
    assert words or not found[1]


def test_a_licence_or_citation_that_holds_a_place_is_asked_for():
    @dataclass(frozen=True)
    class Vague(Discs):
        licence: ClassVar[Mapping[str, str]] = dict.fromkeys(Discs.sites, "not stated")
        citation: ClassVar[Mapping[str, str]] = {"north": "Doe: Discs. 2026.", "south": "Unpublished."}

    assert dataset_outcome(Discs, "licences") == ("holds", "")
    assert dataset_outcome(Vague, "licences") == (
        "holds",
        "licence of north, south is 'not stated': write under which licence its images may be used, or who may use "
        "them. citation of south is 'Unpublished.': give authors, title, year and link when there is a publication.",
    )


def test_it_is_said_how_many_cases_are_read():
    assert dataset_outcome(Discs, "reads") == ("holds", "8 of 16 cases read")


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
            family: ClassVar[str] = "general"
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
