"""The same again in a fresh Python process: nothing but the class, its settings and a checkpoint goes over."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pflbench.plugin_files import PluginFile, loaded_from, module_of
from pflbench.settings import Settings
from pflbench.testing.checks import CheckFailed, CheckSkipped, source_of

_PATIENCE = 120  # seconds
_SENTENCE = "pflbench.errors.UsageError: "  # how Python begins the last line of one of ours
_COMMAND = "import sys; from pflbench.testing.fresh import main; main(*sys.argv[1:])"
Digests = dict[str, str]  # path in a tree -> hash of what is there


def digests(tree: Mapping[str, Any]) -> Digests:
    """Return path -> hash of every leaf: of a tensor's bits, or of a plain value as Python writes it."""
    import torch

    from pflbench.testing.plays import leaves

    found = {}
    for path, value in leaves(tree).items():
        if isinstance(value, torch.Tensor):
            whole = value.detach().cpu().contiguous().reshape(-1)
            content = str((value.dtype, tuple(value.shape))).encode() + whole.view(torch.uint8).numpy().tobytes()
        else:
            content = repr(value).encode()
        found[path] = hashlib.sha256(content).hexdigest()
    return found


def differing(one: Digests, other: Digests) -> list[str]:
    """Return the paths at which two trees are not the same."""
    return [path for path in {**one, **other} if one.get(path) != other.get(path)]


def elsewhere(value: Settings, job: str, **given: Any) -> Any:
    """Return what the function ``job`` of this module says of a value in a fresh process, as plain values.

    Names of things are hashed another way there, so that what depends on the order of a set differs. Raises
    CheckSkipped where another process cannot import the class, CheckFailed where the process ends with an error.
    """
    cls = type(value)
    _importable(cls)
    plugin = loaded_from(cls.__module__)
    order = {
        "job": job,
        "module": cls.__module__,
        "class": cls.__qualname__,
        "file": source_of(cls),
        "plugin": plugin.plain() if plugin else None,
        "path": sys.path,
        "settings": value.settings(),
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked.json"), Path(folder, "answered.json")
        asked.write_text(json.dumps({**order, **given}))
        said = _started(asked, answered)
        if not answered.exists():
            last = (said.strip().splitlines() or ["it ended without a word"])[-1].removeprefix(_SENTENCE)
            raise CheckFailed(f"in a fresh process: {last.rstrip('.')}.")
        return json.loads(answered.read_text())


def _started(asked: Path, answered: Path) -> str:
    """Run ``main`` in a fresh process until it ends and return what it said of errors. Raises CheckFailed."""
    hashing = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, str(asked), str(answered)],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(
            f"in a fresh process it had not ended after {_PATIENCE} seconds; see what waits or works as it is "
            "imported, or check it with settings that take less time."
        ) from None
    return done.stderr or f"it ended with {done.returncode}"


def _importable(cls: type) -> None:
    where = "a function" if "<locals>" in cls.__qualname__ else "__main__" if cls.__module__ == "__main__" else ""
    if where:
        raise CheckSkipped(
            f"{cls.__name__} is defined in {where}, where another process cannot import it; put it into a module."
        )


def main(asked: str, answered: str) -> None:
    """Do the job that one file names, in the process that ``elsewhere`` starts, and write the answer to another."""
    order = json.loads(Path(asked).read_text())
    sys.path[:] = order["path"]
    cls: Any = _module(order["module"], order["file"], order["plugin"])
    for name in order["class"].split("."):
        cls = getattr(cls, name)
    answer = _JOBS[order["job"]](cls, order)
    Path(answered).write_text(json.dumps(answer))


def _module(name: str, file: str, plugin: Mapping[str, str] | None) -> Any:
    """Load a plugin file if it is what it was; import any other module by its name, or where it has none, its file."""
    if plugin:
        return module_of(PluginFile.of(plugin))
    if not file or importlib.util.find_spec(name.partition(".")[0]) is not None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _plays(cls: Any, order: Mapping[str, Any]) -> dict[str, Digests]:
    """Play a method from the start, and on from a checkpoint; every message is encoded on its way."""
    from pflbench.checkpoint import load
    from pflbench.testing.plays import ROUNDS, Encoding
    from pflbench.testing.toy import toy_federation

    method = cls.of(order["settings"])
    resumed = toy_federation(method, rounds=ROUNDS)
    kept = load(Path(order["checkpoint"]))
    assert kept is not None
    resumed.federation.restore(kept)
    on = digests(resumed.play().kept())  # first, before anything else has run in this process
    anew = digests(toy_federation(method, rounds=ROUNDS, engine=Encoding).play().kept())
    return {"resumed": on, "anew": anew}


def _reads(cls: Any, order: Mapping[str, Any]) -> dict[str, str]:
    """Return case id -> hash of its pixels and its digest, for some cases of a dataset."""
    root = Path(order["root"]) if order["root"] else None
    dataset = cls.find(root, **order["settings"])
    return {case.id: read_digest(dataset, case) for site, at in order["cases"] for case in [dataset.cases(site)[at]]}


def read_digest(dataset: Any, case: Any) -> str:
    """Return a hash of a case's pixels and of what the dataset says its hash is."""
    image, mask = dataset.read(case)
    return pixel_digest(image, mask, dataset.digest(case))


def pixel_digest(image: Any, mask: Any, digest: str) -> str:
    """Return a hash of pixels and of what the dataset says their hash is."""
    return hashlib.sha256(image.tobytes() + mask.tobytes() + str(digest).encode()).hexdigest()


def _assigns(cls: Any, order: Mapping[str, Any]) -> list[Any]:
    """Return who holds which case of every toy federation, as a partitioner decides."""
    from pflbench.testing.toy_cases import FEDERATIONS, dealt, listed

    partitioner = cls.of(order["settings"])
    return [listed(dealt(partitioner, cases)) for cases in FEDERATIONS.values()]


_JOBS = {"plays": _plays, "reads": _reads, "assigns": _assigns}
