"""What must hold for every method: it plays, learns, resumes, minds its own hospital and says what it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pflbench.method import Method
from pflbench.testing import method_messages, method_plays
from pflbench.testing.checks import Check
from pflbench.testing.method_plays import Plays
from pflbench.testing.method_words import cites, says
from pflbench.testing.value_checks import Subject, value_checks

# name, what must hold, and how it is tried
_PLAYS: tuple[tuple[str, str, Callable[[Plays], str | None]], ...] = (
    ("plays", "It plays on the CPU, and every hospital gets scores.", method_plays.scores_everybody),
    ("learns", "It learns the toy federation: the training loss halves.", method_plays.learns),
    ("resumes", "It resumes byte for byte after an interruption.", method_plays.resumes),
    ("fresh-process", "It does the same in a fresh process, with messages encoded.",
     method_plays.same_in_a_fresh_process),
    ("order-of-clients", "It does the same in any order of clients.", method_plays.same_in_any_order),
    ("another-seed", "Another seed gives other weights.", method_plays.another_seed),
    ("global-random-numbers", "It leaves the global random numbers alone.", method_plays.leaves_global_numbers_alone),
    ("non-interference", "What a hospital sends and keeps depends on no other's images.",
     method_messages.depends_on_no_other_hospital),
    ("test-images", "Test images influence only scores.", method_messages.tests_influence_only_scores),
    ("no-image-leaves", "No training image or mask is in any message.", method_messages.holds_no_image),
    ("messages", "Its messages are finite and small.", method_messages.finite_and_small),
    ("gradients", "It announces the gradients that it takes.", method_plays.announces_its_gradients),
    ("newcomers", "It serves a hospital that never trains.", method_plays.serves_newcomers),
    ("gpu", "It works on a GPU too.", method_plays.works_on_a_gpu),
)  # fmt: skip


def method_checks(method: type[Method] | Method) -> list[Check]:
    """Return the checks of a method, given as a class (its defaults are checked) or as a value.

    They run on a toy federation of three hospitals with pictures of 16 x 16 pixels and a UNet of width 4, and share
    its first play. ``newcomers`` is there only for a method that says it serves them.
    """
    subject: Subject[Method] = Subject("method", method)
    cls, plays = subject.cls, Plays(subject)
    played = [row for row in _PLAYS if row[0] != "newcomers" or vars(cls).get("newcomers")]
    return [
        *value_checks(subject),
        *(subject.check(name, sentence, partial(body, plays)) for name, sentence, body in played),
        subject.check("cites", "It cites its paper, with year and link.", partial(cites, cls)),
        subject.check("keeps", "It says what leaves a hospital and what becomes of batch norm.", partial(says, plays)),
    ]
