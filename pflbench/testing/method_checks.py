"""What must hold for every method: it plays, learns, resumes, minds its own hospital and says what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from pflbench.method import Method
from pflbench.task import pools_data
from pflbench.testing import method_messages, method_plays
from pflbench.testing.checks import Check, require
from pflbench.testing.method_plays import Plays
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
        subject.check("cites", "It cites its paper, with year and link.", partial(_cites, cls)),
        subject.check("keeps", "It says what leaves a hospital and what becomes of batch norm.", partial(_says, plays)),
    ]


def _cites(cls: type[Method]) -> str:
    citation = getattr(cls, "citation", "")
    if cls.family == "control" and cls.year is None:
        return citation
    if "unpublished" in citation.lower():
        return f"{citation} Give year and link when there is a paper."
    year = re.search(r"\b(19|20)\d\d\b", citation)
    require(year, f"its citation {citation!r} has no year.")
    require(
        re.search(r"https?://\S+\.\S+", citation),
        f"its citation {citation!r} has no link; give that of the paper, or of the code while there is no paper.",
    )
    require(cls.year is None or str(cls.year) in citation, f"its year is {cls.year}, which its citation does not say.")
    return citation


def _says(plays: Plays) -> str:
    """Compare what it says with what it sends."""
    method = plays.method
    policies = method.policies()
    travels = policies.get("travels") or getattr(method, "travels", "")
    require(str(travels).strip(), "it does not say what leaves a hospital; write travels: ClassVar[str] = '...'.")
    lacking = [name for name in ("batch_norm", "aggregation") if not str(policies.get(name, "")).strip()]
    require(not lacking, f"policies() says nothing of {' and '.join(lacking)}; return a sentence for each.")
    sent = sum(len(one.encoded) for one in plays.shared.sent if one.way == "up")
    require(
        travels != "nothing" or not sent or pools_data(method),
        f"it says that nothing leaves a hospital, but {sent:,} bytes do.",
    )
    return f"{travels}; batch norm: {policies['batch_norm']}; clients weighted by: {policies['aggregation']}"
