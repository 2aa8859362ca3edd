"""How trials are given to processes."""

import pytest

from pflbench.matrix import clients_apart


@pytest.mark.parametrize(
    ("trials", "clients", "jobs", "apart"),
    [
        (1, 6, 2, True),  # one trial would leave a core idle
        (18, 6, 2, False),  # enough trials for every core
        (18, 6, 64, False),  # eighteen processes are more than six, however many cores are left over
        (3, 6, 4, True),
        (6, 6, 64, False),  # as many either way: trials need not wait for each other
        (1, 1, 8, False),
    ],
)
def test_the_way_that_keeps_more_processes_busy_is_taken(trials, clients, jobs, apart):
    assert clients_apart(trials, clients, jobs) is apart
