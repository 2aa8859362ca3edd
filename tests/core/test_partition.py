"""Splits keep the official ones, go by subject, and never leak."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench.dataset import Case
from pflbench.errors import UsageError
from pflbench.partition import Split, check, divide, split_hash


def rng(seed=0):
    return np.random.default_rng(seed)


def cases(count, split=None, per_subject=1, site="A", name="p"):
    return [
        Case(f"{site}/{name}{i // per_subject}-{i}", site, f"{name}{i // per_subject}", split) for i in range(count)
    ]


def subjects(cases):
    return {(case.site, case.subject) for case in cases}


OFFICIAL = cases(20, "train") + cases(8, "test", name="q")


def test_the_official_test_set_is_kept():
    split = divide(OFFICIAL, 0.2, 0.2, rng())
    assert list(split.test) == OFFICIAL[20:]
    assert set(split.train) | set(split.val) == set(OFFICIAL[:20])


def test_the_official_validation_set_is_kept():
    own = [*OFFICIAL, *cases(3, "val", name="v")]
    split = divide(own, 0.2, 0.2, rng())
    assert list(split.val) == own[28:]
    assert list(split.train) == own[:20]


def test_the_share_of_training_subjects_is_held_out():
    split = divide(OFFICIAL, 0.2, 0.2, rng())
    assert (len(split.train), len(split.val)) == (16, 4)


def test_without_official_splits_both_shares_are_drawn():
    split = divide(cases(50), 0.25, 0.2, rng())
    assert (len(split.test), len(split.val), len(split.train)) == (10, 10, 30)


def test_a_subjects_images_stay_together():
    own = cases(40, per_subject=4)
    split = divide(own, 0.2, 0.2, rng(3))
    assert [len(subjects(part)) for part in (split.train, split.val, split.test)] == [6, 2, 2]
    assert [len(part) for part in (split.train, split.val, split.test)] == [24, 8, 8]


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_at_least_one_subject_is_held_out_and_one_is_left(share):
    split = divide(cases(5, "train") + cases(2, "test", name="q"), share, 0.2, rng())
    assert min(len(split.train), len(split.val)) == 1


def test_two_training_subjects_are_enough():
    split = divide(cases(2, "train") + cases(1, "test", name="q"), 0.2, 0.2, rng())
    assert [len(split.train), len(split.val), len(split.test)] == [1, 1, 1]


def test_cases_keep_their_order():
    split = divide(OFFICIAL, 0.3, 0.2, rng(5))
    assert list(split.train) == [case for case in OFFICIAL if case in split.train]
    assert list(split.val) == [case for case in OFFICIAL if case in split.val]


def test_another_generator_draws_another_split_and_the_same_one_the_same():
    draws = [divide(OFFICIAL, 0.2, 0.2, rng(seed)).val for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_draw_does_not_depend_on_the_order_of_the_cases():
    forth, back = divide(OFFICIAL, 0.2, 0.2, rng(1)), divide(OFFICIAL[::-1], 0.2, 0.2, rng(1))
    assert set(forth.val) == set(back.val)


clients = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([None, None, "train", "test"])), min_size=1, max_size=40
)


@given(clients, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_no_subject_is_in_two_splits_and_no_case_is_lost(drawn, validation, test, seed):
    kinds = {}
    own = [Case(f"{i}", "A", f"p{subject}", kinds.setdefault(subject, kind)) for i, (subject, kind) in enumerate(drawn)]
    split = divide(own, validation, test, rng(seed))
    parts = [split.train, split.val, split.test]
    assert sorted(case.id for part in parts for case in part) == sorted(case.id for case in own)
    assert sum(len(subjects(part)) for part in parts) == len(subjects(own))
    assert all(case in split.test for case in own if case.split == "test")
    assert not any(case in split.test for case in own if case.split == "train")
    if all(parts):
        check({"one": split})
    elif parts == [(), (), split.test]:
        with pytest.raises(UsageError, match="somebody must train"):
            check({"one": split})
    else:
        with pytest.raises(UsageError, match=r"client 'one' has no (train|val|test) case"):
            check({"one": split})


A, B, C = cases(3)
D, E, F = cases(3, site="B")


def test_clients_that_share_nothing_pass():
    check({"one": Split((A,), (B,), (C,)), "two": Split((D,), (E,), (F,))})


def test_equal_subject_names_at_two_sites_are_two_people():
    assert A.subject == D.subject
    check({"one": Split((A,), (B,), (C,)), "two": Split((D,), (E,), (F,))})


def test_a_subject_in_two_splits_is_refused_with_its_places():
    again = replace(A, id="A/again")
    with pytest.raises(UsageError, match="subject 'p0' of A is in one/train and in one/test"):
        check({"one": Split((A,), (B,), (C, again))})


def test_a_subject_in_two_clients_is_refused_with_its_places():
    again = replace(A, id="A/again")
    with pytest.raises(UsageError, match="subject 'p0' of A is in one/train and in two/train"):
        check({"one": Split((A,), (B,), (C,)), "two": Split((D, again), (E,), (F,))})


def test_a_case_given_out_twice_is_refused():
    with pytest.raises(UsageError, match="case 'A/p0-0' is given out twice"):
        check({"one": Split((A,), (B,), (C,)), "two": Split((A,), (E,), (F,))})


def test_a_client_may_be_tested_only_where_others_train():
    one, guest = Split((A,), (B,), (C,)), Split((), (), (D, E))
    check({"one": one, "guest": guest})
    assert (one.is_guest, guest.is_guest) == (False, True)


def test_a_federation_in_which_nobody_trains_is_refused():
    for splits in ({}, {"one": Split((), (), (A,)), "two": Split((), (), (D,))}):
        with pytest.raises(UsageError, match="no client has a training case; somebody must train"):
            check(splits)


@pytest.mark.parametrize("split", [Split((), (), ()), Split((), (D,), ()), Split((), (D,), (E,)), Split((D,), (), ())])
def test_a_client_with_less_than_a_guest_or_more_is_refused(split):
    assert not split.is_guest
    with pytest.raises(UsageError, match=r"client 'two' has no (train|val|test) case"):
        check({"one": Split((A,), (B,), (C,)), "two": split})


def test_a_guests_subject_trains_nowhere():
    again = replace(A, id="A/again")
    with pytest.raises(UsageError, match="subject 'p0' of A is in one/train and in guest/test"):
        check({"one": Split((A,), (B,), (C,)), "guest": Split((), (), (again, D))})


def test_official_test_cases_alone_make_a_guest_and_open_ones_do_not():
    assert divide(cases(3, "test"), 0.2, 0.2, rng()).is_guest
    assert not divide(cases(3), 0.2, 0.2, rng()).is_guest


@pytest.mark.parametrize("kind", ["train", "val", "test"])
def test_a_client_without_a_split_is_refused_with_both_names(kind):
    split = Split(**{"train": (A,), "val": (B,), "test": (C,), kind: ()})
    with pytest.raises(UsageError, match=f"client 'one' has no {kind} case"):
        check({"one": split})


def test_the_hash_changes_when_a_case_moves():
    hashes = {
        split_hash({"one": Split((A, B), (C,), (D,)), "two": Split((E,), (), (F,))}),
        split_hash({"one": Split((A,), (B, C), (D,)), "two": Split((E,), (), (F,))}),
        split_hash({"one": Split((A,), (C,), (D,)), "two": Split((E, B), (), (F,))}),
        split_hash({"one": Split((A, B), (C,), (D,)), "three": Split((E,), (), (F,))}),
        split_hash({"one": Split((A, B), (C,), (D,)), "two": Split((E,), (F,), ())}),
    }
    assert len(hashes) == 5


def test_the_hash_is_the_same_for_the_same_splits():
    one, two = Split((A,), (B,), (C,)), Split((D,), (E,), (F,))
    assert split_hash({"one": one, "two": two}) == split_hash({"two": two, "one": one})
