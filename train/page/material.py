"""What a page is made of: a cache, a trained model with its reports, an audit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cache.index import Index
from pipeline.corpora.audit import Finding
from pipeline.errors import InputError
from train.description import DESCRIPTION_NAME
from train.evaluation import figures, report, robustness

REPORT_NAME = "report"


@dataclass(frozen=True)
class Trained:
    """A trained model as its files describe it; the network itself is not loaded.

    Parameters
    ----------
    folder, description
        Where it is, and all of ``model.json``.
    judged
        Its test, see :func:`train.evaluation.metrics.metrics`; empty if there was none.
    predictions
        Lines of ``predictions.csv``.
    epochs
        Lines of ``learning_curves.csv``.
    degraded
        See :func:`train.evaluation.robustness.measure`; None if that was not measured.
    others
        Metrics of later tests by ``evaluate``, by the name of their report.
    """

    folder: Path
    description: dict[str, Any]
    judged: dict[str, Any]
    predictions: list[dict[str, str]]
    epochs: list[dict[str, str]]
    degraded: dict[str, Any] | None
    others: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """What an audit found in a raw folder."""

    path: Path
    raw: str
    clips: int
    actor_names: dict[int, str]
    kinds: dict[str, str]
    findings: list[Finding]


@dataclass(frozen=True)
class Material:
    """All that a page shows; what is None is left out of it.

    Parameters
    ----------
    out
        Where the page goes; links are relative to it.
    index, trained, audit
        A cache, a model, an audit of its raw folder.
    raw
        The raw folder, there or not.
    notes
        What is missing or does not fit together, in sentences.
    """

    out: Path
    index: Index | None = None
    trained: Trained | None = None
    audit: Audit | None = None
    raw: Path | None = None
    notes: list[str] = field(default_factory=list)


def parsed(path: Path, what: str, parse: Callable[[Path], Any]) -> Any:
    """Parse a file.

    Raises
    ------
    InputError
        If it does not hold what it should.
    """
    try:
        return parse(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise InputError(
            f"expected {what} in {path}, got: {type(error).__name__}: {error}; make it again"
        ) from error


def read_object(path: Path) -> dict:
    """Read JSON whose top is an object."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{type(content).__name__} instead of an object")
    return content


def read_trained(folder: Path) -> Trained:
    """Read what the files of a model say.

    Raises
    ------
    InputError
        If there is no ``model.json``, or a file does not hold what it should.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file():
        raise InputError(f"expected a model in {folder}, got nothing; run 'make train' first")
    description = parsed(path, "a model's description", read_object)

    def optional(name: str, what: str, parse: Callable[[Path], Any], absent: Any) -> Any:
        own = folder / REPORT_NAME / name
        return parsed(own, what, parse) if own.is_file() else absent

    curves = f"{report.CURVES_NAME}.csv"
    return Trained(
        folder,
        description,
        optional(report.METRICS_NAME, "metrics", read_object, description.get("metrics", {})),
        optional(report.PREDICTIONS_NAME, "predictions", figures.read_lines, []),
        optional(curves, "a log of epochs", figures.read_lines, []),
        optional(robustness.JSON_NAME, "a robustness table", read_object, None),
        {
            own.parent.name.removeprefix(f"{REPORT_NAME}-"): parsed(own, "metrics", read_object)
            for own in sorted(folder.glob(f"{REPORT_NAME}-*/{report.METRICS_NAME}"))
        },
    )


def read_audit(path: Path) -> Audit:
    """Read what ``make audit`` wrote.

    Raises
    ------
    InputError
        If the file is not there or holds something else.
    """
    return parsed(path, "an audit's report", parse_audit)


def parse_audit(path: Path) -> Audit:
    """Parse ``audit.json``."""
    content = read_object(path)
    return Audit(
        path,
        content["raw"],
        content["clips"],
        {int(number): name for number, name in content["actor_names"].items()},
        content["kinds"],
        [
            Finding(found["kind"], tuple(found["names"]), found["detail"])
            for found in content["findings"]
        ],
    )
