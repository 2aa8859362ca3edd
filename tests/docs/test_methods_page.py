"""docs/methods.md is what the code says, and what a round costs is what the literature says."""

import importlib.util
import re
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from pflbench.listing import TASK, gradients
from pflbench.sites import TrainingData
from pflbench.testing.cost import Sent, cost_of
from pflbench.testing.toy import toy_federation, toy_images

DOCS = Path(__file__).parents[2] / "docs"


def loaded():
    spec = importlib.util.spec_from_file_location("make_methods", DOCS / "make_methods.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_methods"] = module
    spec.loader.exec_module(module)
    return module


MAKE = loaded()
METHODS = MAKE.methods()
SIZES = MAKE.counts()


@pytest.mark.slow
def test_the_page_is_not_stale():
    assert MAKE.PAGE.read_text() == MAKE.page(), "run `make docs` and commit docs/methods.md"


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_every_method_and_each_of_its_settings_stands_in_it(cls):
    page = MAKE.PAGE.read_text()
    assert f"### {cls.title} (`{cls.name}`" in page
    for name in cls.setting_names():
        assert f"| `{cls.name}.{name}` |" in page
    assert cls.travels in page


def test_the_letters_are_the_paper_s_counts():
    # methods.md, section 1.2: 3,876,737 parameters, 2,816 of them of batch norm, 65 of the head
    assert SIZES == {"P": 3_876_737, "B": 2_816, "h": 65, "a": 2_816}


def test_a_count_is_written_in_letters_where_it_is_a_sum_of_them():
    P, B, h = SIZES["P"], SIZES["B"], SIZES["h"]
    assert MAKE.in_letters(P + B, SIZES) == "P + B"
    assert MAKE.in_letters(P - h + B, SIZES) == "P - h + B"
    assert MAKE.in_letters(P + 1, SIZES) == "P + 1"
    assert MAKE.in_letters(12345, SIZES) == "12,345"


def test_bytes_are_those_of_the_numbers_and_a_short_header():
    for name in ("fedavg", "resfim"):
        cls = next(cls for cls in METHODS if cls.name == name)
        sent = cost_of(cls()).up
        payload = 4 * sent.numbers + -(-sent.bits // 8)
        assert payload <= sent.size < payload + 5_000


def test_a_number_that_is_sent_without_a_tensor_counts_and_a_word_does_not():
    message = {"weights": {"a": torch.zeros(3), "mask": torch.zeros(9, dtype=torch.bool)}, "steps": 7, "rate": 0.5}
    sent = Sent.of({**message, "nested": {"trace": 1.0, "name": "Bern", "none": None, "yes": True}})
    assert (sent.numbers, sent.bits) == (3 + 3, 9)


# ------------------------------------------------------------------------------------------ the literature

# A row that is no sum of letters ("~1.3", "2 P (+ selector)", "1 + server's distillation") says about how much, or
# what a part is that is not counted here; nothing can be compared with it.
LITERATURE = [
    (name, column, text)
    for name, line in MAKE.literature_costs().items()
    for column, text in line.items()
    if column != "method" and re.fullmatch(r"[\w /+-]+", text) and "once" not in text
]
STATISTICS_TRAVEL = "the original has no batch norm or speaks of none; here its running statistics are averaged"
DIFFERENCES = {
    ("feddg", "up"): STATISTICS_TRAVEL,
    ("feddg", "down"): STATISTICS_TRAVEL,
    ("harmofl", "down"): STATISTICS_TRAVEL + ", and the amplitudes go along for hospitals that join without a setup",
    ("fedas", "up"): STATISTICS_TRAVEL + ", and the head, which nobody uses, stays at home",
    ("fedas", "down"): STATISTICS_TRAVEL + ", and the head, which nobody uses, stays at home",
    ("fedsm-softpull", "gradients"): "it is the personal half of FedSM; the general model is left out",
    ("pfedme", "gradients"): "K steps for each batch of one epoch, where the others have four",
    ("perfedavg", "gradients"): "and the step before evaluation, in the rounds that may be selected",
}


def in_numbers(text, **more):
    """Return a sum such as "2 P + B - h" as a number."""
    letters = {**SIZES, **more}
    total = Fraction(0)
    for sign, term in re.findall(r"(^|[+-]) ?([^+-]+?) *(?=$|[+-])", text):
        factors = [Fraction(letters.get(factor, factor)) for factor in term.split()]
        value = factors[0] * factors[1] if len(factors) == 2 else factors[0]
        total += -value if sign == "-" else value
    return total


def decoder():
    """Return the entries of dec4, dec3 and dec2, running statistics and all: by hand from the widths."""
    stages = [(512 + 256, 256), (256 + 128, 128), (128 + 64, 64)]
    return sum(9 * inputs * outputs + outputs + 2 * outputs + 2 * outputs for inputs, outputs in stages)


def counted(name, column):
    """Return what was counted of a method: numbers, or the gradients of all clients together."""
    cost = MAKE.cost_of_default(next(cls for cls in METHODS if cls.name == name))
    if column == "gradients":
        return Fraction(cost.gradients).limit_denominator(10_000)
    sent = getattr(cost, column)
    return sent.numbers + Fraction(sent.bits, 32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "column", "text"), LITERATURE)
def test_what_is_counted_is_what_the_literature_says_but_for_known_differences(name, column, text):
    inner = next(cls for cls in METHODS if cls.name == "pfedme").inner_steps
    said = in_numbers(text, decoder=decoder(), K=inner, **{"C/E": Fraction(len(TASK.clients), TASK.epochs)})
    if (name, column) in DIFFERENCES:
        assert counted(name, column) != said, "the difference is gone; take it from the list"
    else:
        assert counted(name, column) == said


def test_the_literature_s_sums_are_read_as_sums():
    P, B, h = SIZES["P"], SIZES["B"], SIZES["h"]
    assert [in_numbers(text) for text in ("0", "P - h + B", "2 P", "P + 1")] == [0, P - h + B, 2 * P, P + 1]
    assert {(name, column) for name, column, _ in LITERATURE} > set(DIFFERENCES)
    assert len(LITERATURE) >= 45  # most rows are compared


# ------------------------------------------------------------------------------------------ gradients


def test_gradients_are_those_of_twenty_images_a_client_and_of_a_hundred_rounds():
    by_name = {cls.name: cls() for cls in METHODS}
    assert gradients(by_name["fedavg"]) == (1, 0)
    assert gradients(by_name["feddf"]) == (1, 50 * 4 / (6 * 20 * 4))  # steps x batch / training
    assert gradients(by_name["resfim"]) == (1 + 6 / 4, 0)  # 1 + C/E
    # 16 of 20 images, eleven times at the first receipt and once at 99 others, rounded up to whole images
    assert gradients(by_name["fedala"]) == (1 + 18 / 80, 0)


@pytest.mark.parametrize("name", ["feddf", "fedala", "pfedme", "resfim"])
def test_what_is_announced_is_what_is_counted_with_twenty_images_too(name):
    """The check of every method has four images, of which a share or a step may come to something else."""

    def twenty(client, split):
        found = toy_images(client, split)
        return TrainingData(found.images.repeat(5, 1, 1, 1), found.masks.repeat(5, 1, 1, 1))

    method = next(cls for cls in METHODS if cls.name == name)()
    toy = toy_federation(method, rounds=2, epochs=1, data=twenty).play()
    logged = [row for row in toy.federation.progress.tables["logs"] if row[2] == "gradients" and row[0] > 0]
    announced = 3 * 20 + sum(method.extra_gradients(toy.card).values())
    assert 2 * announced - sum(row[3] for row in logged) in range(2 * 3)  # a mean, rounded up at each client
