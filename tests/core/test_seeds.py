"""Random numbers by role: each part of the purpose counts, and nothing that was drawn before."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pflbench.seeds import generator, numpy_generator, seed_for

part = st.integers(0, 1000) | st.text(max_size=5)
purposes = st.tuples(st.integers(0, 1000), st.lists(part, max_size=4))


@given(purposes, purposes)
def test_seeds_are_equal_where_seed_and_purpose_are_and_only_there(one, other):
    assert (seed_for(one[0], *one[1]) == seed_for(other[0], *other[1])) == (one == other)


def test_parts_do_not_run_together():
    assert (
        len(
            {
                seed_for(1, "a", "b"),
                seed_for(1, "ab"),
                seed_for(1, "a b"),
                seed_for(1, "a", 1),
                seed_for(1, "a", "1"),
            }
        )
        == 5
    )


def test_a_seed_fits_every_generator():
    assert all(0 <= seed_for(seed, "x") < 2**63 for seed in range(200))


def test_a_seed_is_the_same_on_every_machine():
    assert seed_for(0, "initial weights") == 6284407086419545748


def test_a_generator_does_not_depend_on_what_was_drawn_before():
    first = torch.rand(3, generator=generator(5, "client", "A", 2))
    torch.rand(100)
    assert torch.equal(first, torch.rand(3, generator=generator(5, "client", "A", 2)))
    assert not torch.equal(first, torch.rand(3, generator=generator(5, "client", "A", 3)))


def test_numpys_generator_is_of_the_same_kind():
    assert np.array_equal(numpy_generator(1, "split").random(3), numpy_generator(1, "split").random(3))
    assert not np.array_equal(numpy_generator(1, "split").random(3), numpy_generator(2, "split").random(3))
