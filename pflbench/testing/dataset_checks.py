"""What must hold for every dataset: counts, pixels, masks, subjects apart, and where it comes from."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pflbench.dataset import Case, Dataset
from pflbench.inventory import count, find_all, missing_sites
from pflbench.partition import check, divide
from pflbench.recipe import Recipe
from pflbench.testing.checks import Check, CheckFailed, CheckSkipped, require
from pflbench.testing.dataset_words import licences
from pflbench.testing.fresh import elsewhere, read_digest
from pflbench.testing.readings import Reading, pixels_of, read, spread
from pflbench.testing.value_checks import Subject, value_checks


def dataset_checks(dataset: type[Dataset] | Dataset, root: Path | None = None) -> list[Check]:
    """Return the checks of a dataset, given as a class or as a value.

    A class is looked for in ``root``, else where ``pflbench run`` looks; what must be read is not tried where nothing
    is found. Pixels of some cases of each site are read, not of all.
    """
    subject: Subject[Dataset] = Subject("dataset", dataset)
    trial = _Trial(subject, None if isinstance(dataset, type) else dataset, root)
    sentences = {
        "licences": ("Licence and citation of every site are given.", functools.partial(licences, subject.cls)),
        "presets": ("Its presets are recipes, and paper and quick are among them.", trial.presets),
        "found": ("It is found, and its cases are listed.", trial.found),
        "counts": ("It has as many cases, or subjects, as it says.", trial.counts),
        "ids": ("The ids of cases are unique, and each case is of its site.", trial.ids),
        "subjects": ("No subject is in two splits.", trial.subjects),
        "clients": ("Every site has cases to train, validate and test on.", trial.clients),
        "reads": ("Its cases can be read.", trial.reads),
        "images": ("Images are C x H x W, uint8, from 0 to 255.", trial.images),
        "masks": ("Masks are H x W, uint8, of the image's size, 0 or 1, and not all empty or full.", trial.masks),
        "fields": ("Fields of view and extents, where known, fit the images.", trial.fields),
        "same-again": ("A case read again is the same.", trial.same_again),
        "fresh-process": ("A case read in a fresh process is the same.", trial.fresh),
        "digests": ("Cases whose pixels differ have different digests.", trial.digests),
    }
    return [*value_checks(subject), *(subject.check(name, text, body) for name, (text, body) in sentences.items())]


class _Trial:
    """One dataset as it lies here, and what must hold of it."""

    def __init__(self, subject: Subject[Dataset], given: Dataset | None, root: Path | None) -> None:
        self._subject, self._given, self._root = subject, given, root

    @functools.cached_property
    def _opened(self) -> Dataset | None:
        return self._given or find_all(self._subject.cls, self._root)

    @functools.cached_property
    def _listing(self) -> Mapping[str, Sequence[Case]]:
        assert self._opened is not None
        sites = (*self._opened.available(), *self._opened.public_sites)
        return {site: tuple(self._opened.cases(site)) for site in sites}

    @property
    def _dataset(self) -> Dataset:
        """The dataset. Raises CheckSkipped where it is not here or cannot be listed."""
        try:
            if self._opened is None:
                raise CheckSkipped(f"no {self._subject.cls.label()} data is here.")
            _ = self._listing
            return self._opened
        except CheckSkipped:
            raise
        except Exception:
            raise CheckSkipped("its cases cannot be listed: see above.") from None

    @property
    def _cases(self) -> Mapping[str, Sequence[Case]]:
        _ = self._dataset
        return self._listing

    @functools.cached_property
    def _readings(self) -> list[Reading]:
        chosen = [case for cases in self._cases.values() for case in spread(cases)]
        return [read(self._dataset, case) for case in chosen]

    @property
    def _seen(self) -> list[Reading]:
        """Some cases of each site as they were read. Raises CheckSkipped where one cannot be read."""
        try:
            return self._readings
        except CheckSkipped:
            raise
        except Exception:
            raise CheckSkipped("a case cannot be read: see above.") from None

    def presets(self) -> str:
        """Make a recipe of each."""
        cls = self._subject.cls
        for name, values in cls.presets.items():
            try:
                Recipe.of(values)
            except Exception as error:
                raise CheckFailed(f"the preset {name!r}: {error}") from error
        wanted = {"paper", "quick", cls.default_preset}
        require(wanted <= set(cls.presets), f"it lacks the presets {', '.join(sorted(wanted - set(cls.presets)))}.")
        return ", ".join(cls.presets)

    def found(self) -> str:
        """Look for it and list its cases."""
        if self._opened is None and not self._subject.cls.simulated:
            raise CheckSkipped(f"no {self._subject.cls.label()} data is here; give its folder.")
        require(self._opened is not None, "find() returns None; a simulated dataset needs no folder.")
        assert self._opened is not None
        here, declared = list(self._opened.available()), list(self._opened.sites)
        require(here, "available() names no site.")
        ordered = [site for site in declared if site in here]
        require(not declared or here == ordered, f"available() names {here}; its sites are {declared}, in that order.")
        empty = [site for site, cases in self._listing.items() if not cases]
        require(not empty, f"cases() lists nothing for {', '.join(empty)}.")
        return f"{sum(map(len, self._listing.values()))} cases of {len(self._listing)} sites"

    def counts(self) -> str | None:
        """Compare with what the class expects."""
        dataset = self._dataset
        counted = [count(dataset, site) for site in dataset.available()]
        wrong = [one for one in counted if one.differs]
        require(not wrong, "; ".join(f"{one.site} has {one.here}, {one.paper} expected" for one in wrong) + ".")
        silent, missing = [one.site for one in counted if not one.paper], missing_sites(dataset)
        if len(silent) == len(counted):
            raise CheckSkipped(
                "it says of no site how much there is; give expected (site -> images for training, for testing) or "
                "expected_subjects (site -> subjects)."
            )
        found = {"no number is given for": silent, "not here:": missing}
        return "; ".join(f"{what} {', '.join(sites)}" for what, sites in found.items() if sites) or None

    def ids(self) -> None:
        """Look for an id given twice, and a case listed under another's site."""
        seen: set[str] = set()
        for site, cases in self._cases.items():
            for case in cases:
                require(case.id not in seen, f"the id {case.id!r} is given twice; ids are unique within a dataset.")
                require(
                    case.site == site, f"cases({site!r}) lists {case.id!r}, which says that it is of {case.site!r}."
                )
                seen.add(case.id)

    def subjects(self) -> None:
        """Look for a subject whose images the release divides, and for a volume of two subjects or in two parts."""
        for site, cases in self._cases.items():
            splits: dict[str, set[str]] = defaultdict(set)
            owners: dict[str, set[str]] = defaultdict(set)
            for case in cases:
                splits[case.subject].add(case.split or "none")
                if case.volume is not None:
                    owners[case.volume].add(case.subject)
            for subject, found in splits.items():
                require(len(found) == 1, f"{subject!r} of {site} is in the splits {' and '.join(sorted(found))}.")
            for volume, people in owners.items():
                require(len(people) == 1, f"the volume {volume!r} of {site} is of {' and '.join(sorted(people))}.")
            runs = [case.volume for case, before in zip(cases, (None, *cases), strict=False)
                    if case.volume is not None and (before is None or before.volume != case.volume)]  # fmt: skip
            require(len(runs) == len(set(runs)), f"slices of a volume of {site} do not follow each other.")

    def clients(self) -> str:
        """Divide every site as a run does whose clients are the sites."""
        dataset = self._dataset
        try:
            self.ids()
            self.subjects()
        except CheckFailed:
            raise CheckSkipped("its cases contradict each other: see above.") from None
        recipe = Recipe.of(dataset.presets.get(dataset.default_preset, {}))
        rng = np.random.default_rng(0)
        sites = dataset.available()
        splits = {site: divide(self._cases[site], recipe.validation, recipe.test, rng) for site in sites}
        check(splits)
        return ", ".join(f"{site} {len(s.train)}/{len(s.val)}/{len(s.test)}" for site, s in splits.items())

    def reads(self) -> str:
        """Read some cases of every site."""
        _ = self._dataset
        return f"{len(self._readings)} of {sum(map(len, self._cases.values()))} cases read"

    def images(self) -> None:
        """Look at shape, type and range."""
        channels = self._dataset.image_channels()
        for one in self._seen:
            shape, kind, least, greatest = one.image
            require(
                len(shape) == 3 and shape[0] == channels,
                f"the image of {one.case.id!r} has the shape {shape}, not C x H x W with C = {channels}.",
            )
            require(kind == "uint8", f"the image of {one.case.id!r} is of {kind}, not uint8.")
            require(least < greatest, f"the image of {one.case.id!r} is {least} everywhere.")
            require(greatest > 1, f"the image of {one.case.id!r} runs from 0 to 1, not to 255.")

    def masks(self) -> None:
        """Look at shape, type and values."""
        values: dict[str, set[float]] = defaultdict(set)
        for one in self._seen:
            shape, kind, found = one.mask
            size = one.image[0][-2:]
            if len(one.image[0]) != 3 or one.image[0][0] != self._dataset.image_channels():
                raise CheckSkipped("its images have another shape than they should: see above.")
            require(shape == size, f"the mask of {one.case.id!r} has the shape {shape}, its image {size}.")
            require(kind == "uint8", f"the mask of {one.case.id!r} is of {kind}, not uint8.")
            require(set(found) <= {0, 1}, f"the mask of {one.case.id!r} holds {_listed(found)}; 0 or 1 is allowed.")
            values[one.case.site] |= set(found)
        for site, seen in values.items():
            require(seen != {0}, f"every mask of {site} that was read is empty.")
            require(seen != {1}, f"every mask of {site} that was read is full.")

    def fields(self) -> str | None:
        """Look at the field of view and the extent of every case that was read."""
        known = 0
        for one in self._seen:
            field, extent = self._dataset.field_of_view(one.case), self._dataset.extent(one.case)
            if field is not None:
                known += 1
                fits = field.shape == one.image[0][1:] and field.dtype == np.uint8 and set(np.unique(field)) <= {0, 1}
                require(fits, f"the field of view of {one.case.id!r} is not H x W, uint8, 0 or 1, of its image's size.")
            require(extent is None or min(extent) > 0, f"the extent of {one.case.id!r} is {extent} mm.")
        return f"{known} with a field of view" if known else None

    def same_again(self) -> None:
        """List and read a second time."""
        dataset = self._dataset
        for site, cases in self._cases.items():
            require(
                tuple(dataset.cases(site)) == tuple(cases), f"cases({site!r}) lists something else the second time."
            )
        for one in self._seen:
            require(
                read_digest(dataset, one.case) == one.hashed,
                f"{one.case.id!r} has other pixels, or another digest, when it is read again.",
            )

    def fresh(self) -> None:
        """Read the first case of every site in another process."""
        dataset, seen = self._dataset, {one.case.id: one.hashed for one in self._seen}
        root = str(dataset.root) if dataset.root else None
        firsts = {cases[0].id: site for site, cases in self._cases.items()}
        found: dict[str, str] = elsewhere(dataset, "reads", root=root, cases=[(site, 0) for site in firsts.values()])
        require(found, "find() does not find it again in another process.")
        for case in firsts:
            require(found.get(case) == seen[case], f"{case!r} has other pixels, or another digest, in a fresh process.")

    def digests(self) -> None:
        """Look for a digest given twice; a case that the release holds twice may have one."""
        owners: dict[str, list[Case]] = defaultdict(list)
        for cases in self._cases.values():
            for case in cases:
                digest = self._dataset.digest(case)
                require(isinstance(digest, str) and digest, f"the digest of {case.id!r} is {digest!r}, not text.")
                owners[digest].append(case)
        for one, *others in owners.values():
            for other in others[:1]:
                same = pixels_of(self._dataset, one) == pixels_of(self._dataset, other)
                require(same, f"{one.id!r} and {other.id!r} have one digest and different pixels.")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
