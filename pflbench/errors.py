"""The errors a user can cause, each one sentence that says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """The request cannot be carried out as written; nothing has been trained (exit code 2)."""


class DataError(UsageError):
    """A data set is missing or broken; the message names the file and says what to do."""


class TrialFailed(Exception):
    """One trial cannot go on; the others can."""


class ReadOnlyError(TrialFailed):
    """A method wrote into a message or kept its tensors in the model instead of copying them."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    folded = {known_name.lower(): known_name for known_name in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}?" if near else f"known: {', '.join(names) or 'none'}."
    return UsageError(f"no {kind} called {name!r}; {hint}")
