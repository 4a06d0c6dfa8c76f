"""What each command of the pipeline does with its options."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from pathlib import Path

from pipeline.cache import build, prune, repair, verify
from pipeline.corpora import catalogue
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec, variant_names


def scan(arguments: argparse.Namespace) -> catalogue.Catalog:
    """Scan the raw folder that the arguments name."""
    return catalogue.scan(arguments.raw, getattr(arguments, "channel", None))


def spec_of(arguments: argparse.Namespace) -> FeatureSpec:
    """Build the spec that the arguments ask for."""
    if not 0 <= arguments.variants <= 30:
        raise InputError(f"expected 0 to 30 variants, got {arguments.variants}; choose fewer")
    changes: dict[str, object] = {"variants": variant_names(arguments.variants)}
    window = getattr(arguments, "window_seconds", None)
    if window is not None:
        if not 0.1 <= window <= 60:
            raise InputError(
                f"expected a window of 0.1 to 60 s, got {window}; RAVDESS clips last about 3.7 s"
            )
        changes["window_seconds"] = window
    if arguments.recipe == "published":
        return FeatureSpec.as_published(**changes)
    return FeatureSpec(**changes)


def run_features(arguments: argparse.Namespace) -> int:
    """Fill the cache and say what is in it."""
    spec = spec_of(arguments)
    if arguments.jobs == 0:
        raise InputError("expected a number of jobs other than 0, got 0; -1 uses every core")
    if not 0 <= arguments.clip_timeout < math.inf:
        raise InputError(
            f"expected a clip timeout of at least 0 s, got {arguments.clip_timeout}; 0 is no limit"
        )
    found = scan(arguments)
    done = build.build(
        found,
        arguments.cache,
        spec,
        arguments.jobs,
        clip_timeout_seconds=arguments.clip_timeout,
        wait=arguments.wait,
    )
    index = done.index
    cached = sum(not entry.reason for entry in index.clips)
    # Whole pictures are taken without a look for faces.
    faceless = f", {done.faceless} without a face" if spec.crop == "face" else ""
    print(
        f"{index.folder}: {cached} clips, {index.rows} rows, {index.bytes / 2**30:.2f} GiB, "
        f"{done.seconds:.1f} s; {done.extracted} clips extracted now{faceless}"
    )
    print_aside(found)
    for entry in done.failed:
        print(f"left out: {entry.clip}: {entry.reason}", file=sys.stderr)
    bad = len(done.failed) + len(found.misplaced)
    return 1 if bad and not arguments.skip_bad else 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Name every fault of the caches, repair them if asked, and say what was done."""
    if arguments.jobs == 0:
        raise InputError("expected a number of jobs other than 0, got 0; -1 uses every core")
    started = time.monotonic()
    reports = [verify.check_cache(folder) for folder in verify.caches(arguments.cache)]
    seconds = time.monotonic() - started
    for report in reports:
        for fault in report.faults:
            print(f"fault: {report.folder / str(fault)}", file=sys.stderr)
        print(
            f"{report.folder}: {report.rows} rows, {report.bytes / 2**30:.2f} GiB, "
            f"{len(report.faults) or 'no'} fault{'' if len(report.faults) == 1 else 's'}"
        )
    print(f"{sum(report.bytes for report in reports) / seconds / 1e9:.2f} GB/s, {seconds:.1f} s")
    damaged = [report for report in reports if report.faults]
    if damaged and arguments.repair:
        found = scan(arguments)
        return max(run_repair(report, found, arguments.jobs) for report in damaged)
    return 1 if damaged else 0


def run_repair(report: verify.Report, found: catalogue.Catalog, jobs: int) -> int:
    """Make the damaged parts of one cache again and read it once more."""
    wanted = repair.to_repair(report, found)
    done = build.build(wanted, report.folder.parent, report.spec, jobs, distrusted=report.files)
    left = verify.check_cache(report.folder).faults
    for fault in left:
        print(f"fault: {report.folder / str(fault)}", file=sys.stderr)
    for entry in done.failed:
        print(f"left out: {entry.clip}: {entry.reason}", file=sys.stderr)
    print(
        f"{report.folder}: repaired {', '.join(sorted(report.files))}; {done.extracted} clips "
        f"extracted again, the other rows copied; {len(left) or 'no'} faults left"
    )
    return 1 if left or done.failed else 0


def run_prune(arguments: argparse.Namespace) -> int:
    """List what nothing needs and remove it once somebody has said yes."""
    models = getattr(arguments, "model", [Path("data/model")])
    strays = prune.find_strays(arguments.cache, models)
    for stray in strays:
        days = stray.age_seconds / 86400
        print(f"{stray.path}: {stray.bytes / 2**30:.2f} GiB, {days:.1f} days old, {stray.meaning}")
    if not strays:
        print(f"{arguments.cache}: nothing to remove")
        return 0
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("nothing removed: say --yes (make prune YES=1), or run it in a terminal")
            return 0
        if input(f"remove these {len(strays)}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing removed")
            return 0
    for stray in strays:
        whole = prune.remove(stray)
        print(f"removed: {stray.path}" + ("" if whole else ", but for files of others in it"))
    return 0


def print_aside(found: catalogue.Catalog) -> None:
    """Say which files of the raw folder are not clips of the cache, and why."""
    for path, reason in found.misplaced:
        print(f"refused: {path}: {reason}", file=sys.stderr)
    counts = {
        "unpaired": found.unpaired,
        "unreadable names": found.unreadable,
        "duplicates": found.duplicates,
    }
    aside = ", ".join(f"{len(files)} {name}" for name, files in counts.items() if files)
    if aside:
        print(f"set aside: {aside}; 'python -m pipeline list --raw {found.root}' names them")


def run_list(arguments: argparse.Namespace) -> int:
    """Print the catalogue as a table and every file that is not in it."""
    found = scan(arguments)
    counts = Counter((clip.actor, clip.emotion) for clip in found.clips)
    width = max(map(len, EMOTIONS))
    print("actor  " + " ".join(f"{name:>{width}}" for name in (*EMOTIONS, "all", "wav")))
    for actor in found.actors:
        own = [clip for clip in found.clips if clip.actor == actor]
        numbers = [counts[actor, emotion] for emotion in EMOTIONS]
        numbers += [len(own), sum(clip.audio is not None for clip in own)]
        print(f"{actor:>5}  " + " ".join(f"{number:>{width}}" for number in numbers))
    with_wav = sum(clip.audio is not None for clip in found.clips)
    print(
        f"{len(found.clips)} clips of {len(found.actors)} actors: {with_wav} with their own "
        f"sound file, {len(found.clips) - with_wav} with the video's track"
    )
    for title, files in (
        ("unpaired", found.unpaired),
        ("unreadable name", found.unreadable),
        ("duplicate", found.duplicates),
        ("refused", found.misplaced),
    ):
        for path, reason in files:
            print(f"{title}: {path}: {reason}")
    return 1 if found.misplaced else 0


def run_audit(arguments: argparse.Namespace) -> int:
    """Measure every clip, print what is odd, and write it all down."""
    from pipeline.corpora import audit, measure

    if arguments.jobs == 0:
        raise InputError("expected a number of jobs other than 0, got 0; -1 uses every core")
    found = scan(arguments)
    facts = measure.measure_all(found, FeatureSpec(), arguments.jobs)
    findings = audit.judge(found, facts)
    if findings:
        print(audit.table(findings))
    audit.write_report(arguments.out, found, facts, findings)
    print(
        f"{found.root}: {len(facts)} clips of {len(found.actors)} actors, "
        f"{len(findings)} findings; all of them in {arguments.out}"
    )
    return 1 if findings and arguments.strict else 0


def run_sample(arguments: argparse.Namespace) -> int:
    """Write the sample corpus."""
    from pipeline.sample import corpus

    if not 1 <= arguments.actors <= 24 or not 1 <= arguments.repetitions <= 2:
        raise InputError(
            f"expected 1-24 actors and 1-2 repetitions, got {arguments.actors} and "
            f"{arguments.repetitions}; RAVDESS names hold no more"
        )
    files = corpus.write_corpus(
        arguments.out,
        actors=arguments.actors,
        seed=arguments.seed,
        repetitions=arguments.repetitions,
        jobs=arguments.jobs,
    )
    print(f"{arguments.out}: {len(files)} files")
    return 0
