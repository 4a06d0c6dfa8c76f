"""The report of an audit: a table for a person, and a JSON file with everything."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline import atomic
from pipeline.corpora import sources
from pipeline.corpora.audit import KINDS, Finding, grouped
from pipeline.corpora.clip import Catalogue
from pipeline.corpora.facts import Facts, facts_to_json
from pipeline.errors import InputError


def table(findings: Sequence[Finding], shown: int = 3) -> str:
    """Lines for a person: every kind that occurs, how often, and the first few of it."""
    lines = []
    for kind, own, count in grouped(findings):
        lines.append(f"{count:>6}  {kind}: {KINDS[kind]}")
        lines += [f"{'':8}{finding.line}" for finding in own[:shown]]
        if len(own) > shown:
            lines.append(f"{'':8}… and {len(own) - shown} more")
    return "\n".join(lines)


def prepare_folder(path: Path) -> None:
    """Make the folder of a report, so that a wrong place is refused before hours of measuring.

    Raises
    ------
    InputError
        If there can be no file at that path.
    """
    for folder in path.parents:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise InputError(
                f"expected a folder at {sources.printable(folder)} for the report, got something "
                "else; name another place"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_folder = path.is_dir()
    except OSError as error:
        raise unwritable(path, error) from error
    if is_folder:
        raise InputError(
            f"expected a file for the report, got the folder {sources.printable(path)}; name a file"
        )


def unwritable(path: Path, error: OSError) -> InputError:
    """Say why a report cannot be written."""
    return InputError(
        f"expected a place where the report {sources.printable(path)} can be written, got: "
        f"{error.strerror}; name another"
    )


def report_json(catalogue: Catalogue, facts: Sequence[Facts], findings: Sequence[Finding]) -> bytes:
    """Write every finding and every measured fact as strict JSON, in UTF-8."""
    content = {
        "raw": sources.printable(catalogue.root),
        "clips": len(facts),
        "files": catalogue.file_counts(),
        "actor_names": catalogue.actor_names,
        "kinds": KINDS,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "facts": [without_fingerprint(fact) for fact in facts],
    }
    return json.dumps(content, indent=1, allow_nan=False).encode()


def without_fingerprint(fact: Facts) -> dict[str, object]:
    """Return facts for a report: a fingerprint says nothing to a reader, and is long."""
    values = facts_to_json(fact)
    del values["fingerprint"]
    return values


def write_report(
    path: Path, catalogue: Catalogue, facts: Sequence[Facts], findings: Sequence[Finding]
) -> None:
    """Write ``audit.json`` in one step.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    prepare_folder(path)
    try:
        atomic.write_durably(path, report_json(catalogue, facts, findings))
    except OSError as error:
        raise unwritable(path, error) from error
