"""What a plain baseline tells by the face: ``python -m bench.hog CACHE [OTHER]``.

Histograms of oriented gradients of a clip's three middle frames, standardised, and a linear support
vector machine. It is tested on the folds of a protocol; with another cache, on all of that. Once as
it is, and once with the mean of each person's clips removed, which knows the person who is tested.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics, pipeline, preprocessing, svm

from pipeline.cache import index
from pipeline.console import Parser, run
from train.data import rows
from train.data.reader import RowReader
from train.studies import protocol

REGULARIZATION = 1e-3
HOG = {"blockSize": 28, "blockStride": 14, "cellSize": 14, "nbins": 8}
"""In pixels, on frames of 112."""


def parser() -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(prog="python -m bench.hog", description=__doc__)
    top.add_argument("cache", type=Path, metavar="CACHE", help="folder of caches, or one cache")
    top.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="cache of other people")
    top.add_argument("--protocol", default="contiguous:3", metavar="NAME", help="folds of CACHE")
    return top


def describe(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe a clip: (frame_count, 112, 112, 3) to the histograms of its three middle frames."""
    sides = {name: (side, side) for name, side in HOG.items() if name != "nbins"}
    hog = cv2.HOGDescriptor(frames.shape[1:3], *sides.values(), HOG["nbins"])
    middle = len(frames) // 2
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[middle - 1 : middle + 2])
    return np.concatenate([hog.compute(frame).ravel() for frame in grey])


def read(cache: Path) -> tuple[index.Index, rows.Rows, NDArray[np.float32]]:
    """Return a cache, the table of its clean rows, and their features, (rows, features)."""
    found = index.find_cache(cache)
    table = rows.select_rows(found, found.actors)
    table = table.where(table.has_video)
    reader = RowReader(table)
    numbers = np.arange(len(table))[:, np.newaxis]
    frames = (reader.read(number, ("frames",))["frames"][0] for number in numbers)
    return found, table, np.stack([describe(frame) for frame in frames])


def without_means(table: rows.Rows, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean over the clips of each person."""
    means = {actor: features[table.actor == actor].mean(axis=0) for actor in set(table.actor)}
    return features - np.stack([means[actor] for actor in table.actor])


def recall(
    features: NDArray, label: NDArray, others: NDArray, truth: NDArray
) -> tuple[float, float]:
    """Train on the first, test on the others; return UAR and WAR in percent."""
    machine = pipeline.make_pipeline(
        preprocessing.StandardScaler(), svm.LinearSVC(C=REGULARIZATION, random_state=0)
    )
    answers = machine.fit(features, label).predict(others)
    uar = metrics.balanced_accuracy_score(truth, answers)
    return 100 * uar, 100 * metrics.accuracy_score(truth, answers)


def judge(arguments: argparse.Namespace) -> int:
    """Print a table."""
    found, table, features = read(arguments.cache)
    tested = None if arguments.other is None else read(arguments.other)[1:]
    print("| person's mean | tested on | UAR | WAR |\n|---|---|---|---|")
    for name in ("kept", "removed"):
        own, others = features, None if tested is None else tested[1]
        if name == "removed":
            own = without_means(table, features)
            others = None if tested is None else without_means(*tested)
        if tested is not None:
            uar, war = recall(own, table.label, others, tested[0].label)
            print(f"| {name} | {arguments.other} | {uar:.1f} | {war:.1f} |")
            continue
        reached = []
        for number, split in enumerate(protocol.folds(arguments.protocol, found.actors), 1):
            test = np.isin(table.actor, split.test)
            judged = recall(own[~test], table.label[~test], own[test], table.label[test])
            reached.append(judged)
            print(f"| {name} | fold {number} | {judged[0]:.1f} | {judged[1]:.1f} |")
        uar, war = np.mean(reached, axis=0)
        print(f"| {name} | mean | {uar:.1f} | {war:.1f} |")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and judge."""
    return run(lambda: judge(parser().parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
