"""Filling the cache of pixels against the plain decoding and resizing of the same files in as many processes.

    python benchmarks/speed/decode.py --data-root FOLDER [--sites A,B] [--size 256] [--repeats 3]

FOLDER holds an imported vessel federation. Both sides run in turn; the table is the ratio of their seconds, and
how long a second start takes that finds everything in the cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from pflbench import pixels
from pflbench.dataset import Case, Dataset
from pflbench.store import Store
from pflbench_datasets.vessel import Vessel

Pair = tuple[Path, Path, int]


def plain(pair: Pair) -> None:
    """Decode and resize one image and its mask, and nothing else."""
    image, mask, size = pair
    for file, mode in ((image, "RGB"), (mask, "L")):
        with Image.open(file) as opened:
            opened.convert(mode).resize((size, size), Image.Resampling.BOX).load()


def index_of(dataset: Dataset, sites: list[str]) -> dict[str, tuple[Case, ...]]:
    """Return site -> its cases."""
    return {site: tuple(dataset.cases(site)) for site in sites}


def ours(dataset: Dataset, index: dict[str, tuple[Case, ...]], size: int, folder: Path) -> None:
    """Do what the first start of a run does: hash, decode, resize, write."""
    content = pixels.digests(dataset, [case for cases in index.values() for case in cases])
    pixels.open_cache(dataset, index, content, size, size, root=folder)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--sites", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    dataset = Vessel.find(options.data_root)
    store = Store.open(options.data_root, Vessel.name)
    if dataset is None or store is None:
        parser.error(f"{options.data_root} holds no imported vessel data")
    sites = options.sites.split(",") if options.sites else list(dataset.available())
    index = index_of(dataset, sites)
    pairs = [
        (item.files["image"], next(file for role, file in item.files.items() if role.startswith("mask")), options.size)
        for site in sites
        for item in store.sites[site].items.values()
    ]
    cores = len(os.sched_getaffinity(0))
    ratios, again = [], []
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(plain, pairs))  # files into memory, processes started
        for _ in range(options.repeats):
            bare = seconds(lambda: list(pool.map(plain, pairs)))
            with tempfile.TemporaryDirectory() as folder:
                first = seconds(lambda folder=folder: ours(dataset, index, options.size, Path(folder)))
                again.append(seconds(lambda folder=folder: ours(dataset, index, options.size, Path(folder))))
            ratios.append(first / bare)
            print(f"plain {bare:.2f} s, pflbench {first:.2f} s, ratio {first / bare:.2f}, again {again[-1]:.3f} s")
    print(
        f"{len(pairs)} images of {len(sites)} sites in {cores} processes: ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}), second start {statistics.median(again):.3f} s"
    )


if __name__ == "__main__":
    main()
