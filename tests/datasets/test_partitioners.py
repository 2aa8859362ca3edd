"""What holds for every partitioner: nobody twice, official splits kept, enough for everybody, the same every time."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pflbench.api import Case, UsageError
from pflbench.partition import check, divide
from pflbench_datasets.mixtures import Dirichlet, Iid, Quantity
from pflbench_datasets.partitioners import Few, LeaveOneSiteOut, Natural
from pflbench_datasets.traits import Trait

CLIENTS = st.integers(2, 4)
PARTITIONERS = {
    "natural": st.builds(Natural),
    "iid": st.builds(Iid, clients=CLIENTS),
    "quantity": st.builds(Quantity, clients=CLIENTS, ratio=st.floats(1, 4)),
    "dirichlet": st.builds(
        Dirichlet,
        clients=CLIENTS,
        alpha=st.floats(0.1, 100),
        at_least=st.integers(1, 4),
        over=st.sampled_from(["site", "foreground"]),
        bins=st.integers(2, 6),
    ),
    "few": st.builds(Few, subjects=st.integers(2, 6), test=st.floats(0.1, 0.5)),
    "leave-one-site-out": st.builds(LeaveOneSiteOut, site=st.just("B"), all_cases=st.booleans()),
    "trait": st.builds(Trait, by=st.sampled_from(["lid", "eye"])),
}

EXAMPLES = {
    "natural": Natural(),
    "iid": Iid(clients=2),
    "quantity": Quantity(clients=2),
    "dirichlet": Dirichlet(clients=2, over="foreground"),
    "few": Few(),
    "leave-one-site-out": LeaveOneSiteOut(site="B"),
    "trait": Trait(by="lid"),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def subject(case):
    return case.site, case.subject


def site(name, kind, count, images, seed):
    """Return a site's cases; the same subject names at every site, traits and foreground as they fall."""
    draw = rng(seed)
    splits = {"open": [None], "official": ["train", "train", "test"], "validated": ["train", "val", "train", "test"]}
    cases = []
    for number in range(count):
        split = splits[kind][number % len(splits[kind])]
        for image in range(int(draw.integers(1, images + 1))):
            traits = {"lid": str(draw.choice(["upper", "lower"])), "eye": str(draw.choice(["left", "right"]))}
            share = float(draw.choice([0.0, 0.1, draw.random()]))
            cases.append(Case(f"{name}/{number}-{image}", name, f"p{number}", split, None, traits, share))
    return cases


@st.composite
def federations(draw, least=9, most=24):
    """Two to four sites of so many subjects each, in any order of cases."""
    names = "ABCD"[: draw(st.integers(2, 4))]
    cases = []
    for name in names:
        kind = draw(st.sampled_from(["open", "official", "validated"]))
        cases += site(name, kind, draw(st.integers(least, most)), draw(st.integers(1, 3)), draw(st.integers(0, 9)))
    if draw(st.booleans()):
        cases = [cases[index] for index in rng(draw(st.integers(0, 9))).permutation(len(cases))]
    return cases


def dealt_or_refused(partitioner, cases, seed=0):
    """Return client -> its cases, or None where they are refused: in one sentence."""
    try:
        dealt = partitioner.assign(cases, rng(seed))
    except UsageError as error:
        refusal = str(error)
    else:
        event("dealt")
        return {client: list(mine) for client, mine in dealt.items()}
    event("refused")
    assert refusal.endswith(".")
    assert "\n" not in refusal
    return None


def is_guest(cases):
    return all(case.split == "test" for case in cases)


@pytest.mark.parametrize("name", PARTITIONERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data(), federations(), st.integers(0, 99))
def test_nobody_is_given_twice_and_every_client_can_train(name, data, cases, seed):
    partitioner = data.draw(PARTITIONERS[name])
    dealt = dealt_or_refused(partitioner, cases, seed)
    if dealt is None:
        return
    given_out = [case for mine in dealt.values() for case in mine]
    assert max(Counter(case.id for case in given_out).values()) == 1
    assert len({(client, subject(case)) for client, mine in dealt.items() for case in mine}) == len(
        {subject(case) for case in given_out}
    )
    guests = {client for client, mine in dealt.items() if is_guest(mine)}
    assert guests == ({"B"} if name == "leave-one-site-out" else set())
    training = {client: divide(mine, 0.2, 0.2, rng(seed)) for client, mine in dealt.items() if client not in guests}
    check(training)


@pytest.mark.parametrize("name", PARTITIONERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data(), federations())
def test_cases_are_handed_on_as_they_are_and_official_splits_are_kept(name, data, cases):
    partitioner = data.draw(PARTITIONERS[name])
    known = {case.id: case for case in cases}
    for client, mine in (dealt_or_refused(partitioner, cases) or {}).items():
        places = [cases.index(known[case.id]) for case in mine]
        assert places == sorted(places)
        for case in mine:
            original = known[case.id]
            assert replace(case, split=original.split) == original
            marked = {"few": original.split is None, "leave-one-site-out": client == "B"}
            assert case.split == original.split or marked.get(name, False)


@pytest.mark.parametrize("name", PARTITIONERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data(), federations(), st.integers(0, 99))
def test_the_same_generator_gives_the_same_partition_however_the_sites_are_listed(name, data, cases, seed):
    partitioner = data.draw(PARTITIONERS[name])
    dealt = dealt_or_refused(partitioner, cases, seed)
    assert dealt == dealt_or_refused(partitioner, cases, seed)
    backwards = sorted(cases, key=lambda case: case.site, reverse=True)
    backwards = [replace(case, traits=dict(reversed(case.traits.items()))) for case in backwards]
    again = dealt_or_refused(partitioner, backwards, seed)
    assert (dealt is None) == (again is None)
    if dealt is not None:
        assert {client: {case.id: case for case in mine} for client, mine in dealt.items()} == {
            client: {case.id: case for case in mine} for client, mine in again.items()
        }


@pytest.mark.parametrize("name", ["iid", "quantity", "dirichlet", "trait"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data(), federations(least=1, most=6), st.integers(0, 99))
def test_what_a_drawn_partition_does_not_refuse_can_train_however_little_there_is(name, data, cases, seed):
    dealt = dealt_or_refused(data.draw(PARTITIONERS[name]), cases, seed)
    if dealt is not None:
        assert not any(is_guest(mine) for mine in dealt.values())
        check({client: divide(mine, 0.2, 0.2, rng(seed)) for client, mine in dealt.items()})


def test_three_undivided_subjects_are_enough_where_two_of_them_have_one_name():
    """Found by the test above while sites shared names, as they do in the real prostate release (Case00 ...)."""
    cases = [Case(f"{name}/{n}", name, f"p{n}") for name, count in (("A", 3), ("B", 6)) for n in range(count)]
    dealt = Iid(clients=3).assign(cases, rng())
    assert {len(mine) for mine in dealt.values()} == {3}
    check({client: divide(mine, 0.2, 0.2, rng()) for client, mine in dealt.items()})


@pytest.mark.parametrize("name", ["iid", "quantity", "dirichlet", "trait"])
def test_another_generator_gives_another_partition(name):
    cases = site("A", "official", 90, 3, 1) + site("B", "official", 90, 3, 2)
    assert EXAMPLES[name].assign(cases, rng(1)) != EXAMPLES[name].assign(cases, rng(2))


@pytest.mark.parametrize("name", PARTITIONERS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data(), st.integers(0, 9))
def test_sites_of_sixty_subjects_are_never_refused(name, data, seed):
    """So that the properties above hold of partitions, and not of refusals only."""
    partitioner = data.draw(PARTITIONERS[name])
    cases = [case for site_name in "ABC" for case in site(site_name, "official", 60, 3, seed)]
    assert sum(len(mine) for mine in partitioner.assign(cases, rng(seed)).values()) > 0


@pytest.mark.parametrize("name", PARTITIONERS)
def test_a_subject_in_two_official_splits_is_left_for_the_core_to_refuse(name):
    """A partitioner neither hides the leak by changing an official split nor carries it to a second client."""
    lids = {"A": "upper", "B": "lower"}
    cases = [case for name in lids for case in site(name, "official", 40, 1, 0)]
    cases = [replace(case, traits={"lid": lids[case.site]}) for case in cases]
    leak = replace(cases[0], id="A/leak", split="test")
    dealt = EXAMPLES[name].assign([*cases, leak], rng())
    with pytest.raises(UsageError, match=r"subject 'p0' of A is in (client-\d|A|upper)/"):
        check({client: divide(mine, 0.2, 0.2, rng()) for client, mine in dealt.items() if not is_guest(mine)})


@pytest.mark.parametrize("partitioner", [Iid, Dirichlet, Quantity, Few, LeaveOneSiteOut, Trait, Natural])
def test_every_partitioner_has_a_name_a_title_in_words_and_defaults(partitioner):
    assert partitioner.name in PARTITIONERS
    assert " " in partitioner.title
    assert partitioner().changed() == {}
