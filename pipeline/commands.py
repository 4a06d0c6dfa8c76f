"""What each command of the pipeline does with its options."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.backends import Workers
from pipeline.cache import build, caches, explain, verify
from pipeline.cache.facts import ClipEntry
from pipeline.corpora import balance, scan
from pipeline.corpora.actors import format_actors
from pipeline.corpora.clip import Catalogue
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec, variant_names

LONGEST_PART = 100
"""Characters of a list of actors that names a lock; file systems take names of 255 bytes."""

SHOWN = 3
"""How many of a long list are named."""


def counted(count: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Write a number of bytes in the unit that suits it."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << bits:
            return f"{count / (1 << bits):.2f} {unit}"
    return counted(count, "byte")


def scan_raw(arguments: argparse.Namespace) -> Catalogue:
    """Scan the raw folder that the arguments name, and keep the actors they ask for."""
    found = scan.scan(
        arguments.raw,
        getattr(arguments, "channel", None),
        getattr(arguments, "labels", None),
        arguments.corpus,
        getattr(arguments, "speaker", None),
    )
    actors = getattr(arguments, "actors", None)
    if actors is None:
        return found
    clips = [clip for clip in found.clips if clip.actor in set(actors)]
    if not clips and not found.unreachable:
        raise InputError(
            f"expected clips of actors {format_actors(actors)} in {found.root}, got those of "
            f"actors {format_actors(found.actors)}; name others"
        )
    return dataclasses.replace(found, clips=clips)


def workers_of(arguments: argparse.Namespace) -> Workers:
    """Say who does the work, as the arguments ask for."""
    return Workers(arguments.jobs, arguments.backend, arguments.scheduler)


def print_unreachable(found: Catalogue) -> None:
    """Name what could not be opened: the raw folder may hold more clips than were found."""
    for path, reason in found.unreachable:
        print(f"unreachable: {printable(path)}: {reason}", file=sys.stderr)


def spec_of(arguments: argparse.Namespace) -> FeatureSpec:
    """Build the spec that the arguments ask for."""
    if not 0 <= arguments.variants <= 30:
        raise InputError(f"expected 0 to 30 variants, got {arguments.variants}; choose others")
    changes: dict[str, Any] = {"variants": variant_names(arguments.variants)}
    window = getattr(arguments, "window_seconds", None)
    if window is not None:
        if not 0.1 <= window <= 60:
            raise InputError(
                f"expected a window of 0.1 to 60 s, got {window}; RAVDESS clips last about 3.7 s"
            )
        changes["window_seconds"] = window
    # OpenCV is imported where faces are looked for, not by every command.
    from pipeline.features import detectors

    changes["detector"] = getattr(arguments, "detector", None) or detectors.default_detector()
    make = FeatureSpec.as_published if arguments.recipe == "published" else FeatureSpec
    spec = make(**changes)
    if spec.crop == "face":
        detectors.require(spec.detector)
    return spec


def run_features(arguments: argparse.Namespace) -> int:
    """Fill the cache and say what is in it."""
    spec = spec_of(arguments)
    refuse_file(arguments.cache, "caches")
    options = options_of(arguments)
    workers = workers_of(arguments)
    found = scan_raw(arguments)
    if found.corpus:
        print(f"features: {printable(found.root)} holds {found.corpus}", file=sys.stderr)
    if found.unreachable:
        print_unreachable(found)
        print(f"nothing changed in {arguments.cache}: {found.root} is incomplete", file=sys.stderr)
        return 1
    if arguments.remove:
        refuse_partial_removal(found, arguments.corpus)
    if arguments.explain:
        print(explain.explain(found, arguments.cache, spec, arguments.explain, options))
        return 0
    done = build.build(found, arguments.cache, spec, workers, options)
    index = done.index
    # Whole frames are taken without a look for faces.
    faceless = f", {done.faceless} without a face" if spec.crop == "face" else ""
    print(
        f"{index.folder}: {counted(len(index.clips), 'clip')}, {counted(index.rows, 'row')}, "
        f"{size(index.bytes)}, {done.seconds:.1f} s; "
        f"{counted(done.extracted, 'clip')} extracted now{faceless}"
    )
    print_modalities(done)
    print_aside(found, arguments)
    print_unnamed(done, arguments)
    for entry in index.unreadable:
        print_left_out(entry)
    bad = len(index.unreadable) + len(found.misplaced)
    return 1 if bad and not arguments.skip_bad else 0


def refuse_file(folder: Path, content: str) -> None:
    """Raise where a folder of something is to be, and a file is."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"expected a folder of {content} at {place}, got a file; name another")


def refuse_partial_removal(found: Catalogue, corpus: str) -> None:
    """Raise where one of the corpora of a raw folder was chosen: the others' clips would go."""
    others = scan.other_corpora(found, corpus) if corpus != scan.AUTO else []
    if others:
        raise InputError(
            f"expected --remove without --corpus in {found.root}, which holds files of "
            f"{', '.join(others)} too, got {corpus}: it deletes what is not chosen; give each "
            "corpus a folder and a cache of its own"
        )


def options_of(arguments: argparse.Namespace) -> build.Options:
    """Say how to build a cache, as the arguments ask for."""
    if not 0 <= arguments.clip_timeout < math.inf:
        raise InputError(
            f"expected a clip timeout of at least 0 s, got {arguments.clip_timeout}; 0 is no limit"
        )
    if arguments.remove and (arguments.actors or hasattr(arguments, "channel")):
        raise InputError(
            "expected --remove without --actors and --channel, got both: it deletes what is not "
            "chosen; run it on the whole raw folder"
        )
    return build.Options(
        clip_timeout_seconds=arguments.clip_timeout,
        wait=arguments.wait,
        check_content=arguments.check_content,
        retry_bad=arguments.retry_bad,
        only_wanted=arguments.remove,
        part=part_of(arguments.actors) if arguments.actors else "",
    )


def part_of(actors: Sequence[int]) -> str:
    """Name the part of a cache that some actors are, for the name of a file."""
    text = format_actors(actors)
    if len(text) > LONGEST_PART:
        text = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"-{text}"


def print_modalities(done: build.Summary) -> None:
    """Count the clips that lack a modality, if there are any."""
    audio_only = sum(not clip.has_video for clip in done.index.clips)
    video_only = sum(not clip.has_audio for clip in done.index.clips)
    if audio_only or video_only:
        print(
            f"modalities: {counted(audio_only, 'clip')} without video, "
            f"{counted(video_only, 'clip')} without audio"
        )


def print_left_out(entry: ClipEntry) -> None:
    """Say why a clip was left out."""
    reason = printable(entry.reason or "")
    print(f"left out: {printable(entry.clip)}: {reason}", file=sys.stderr)


def print_unnamed(done: build.Summary, arguments: argparse.Namespace) -> None:
    """Say what the folder holds beside what the index names, and delete it where asked."""
    if arguments.actors:
        # The other actors are cached by other runs.
        print("the index holds these actors alone; 'make index' joins all that is cached")
        return
    if done.absent:
        names = ", ".join(map(printable, done.absent[:SHOWN]))
        more = ", …" if len(done.absent) > SHOWN else ""
        print(
            f"not in {arguments.raw}, nor in this index: "
            f"{counted(len(done.absent), 'cached clip')} ({names}{more})"
        )
    if not done.unnamed:
        return
    folder = done.index.folder
    files = [path for shard in done.unnamed for path in build.files_of(folder, shard)]
    room = size(sum(path.stat().st_size for path in files))
    what = f"{counted(len(done.unnamed), 'shard')} outside of this index ({room})"
    if not arguments.remove:
        print(f"kept: {what}; --remove (make features REMOVE=1) deletes what is outside")
        return
    build.remove_unnamed(done, arguments.wait, lambda shard: print(f"removed: {shard}"))
    print(f"removed: {what}")


def run_index(arguments: argparse.Namespace) -> int:
    """Join what several runs made into one index."""
    code = 0
    for folder in verify.caches(arguments.cache):
        try:
            index = build.join(folder)
        except InputError as error:
            # Such as a cache of another version beside this one's.
            print(f"passed over: {error}", file=sys.stderr)
            code = 1
            continue
        print(
            f"{folder}: {counted(len(index.clips), 'clip')} of actors "
            f"{format_actors(index.actors)}, {counted(index.rows, 'row')}, {size(index.bytes)}"
        )
    return code


def run_verify(arguments: argparse.Namespace) -> int:
    """Name every fault of the caches, repair them if asked, and say what was done."""
    workers = workers_of(arguments)
    started = time.monotonic()
    reports = [verify.check_cache(folder, workers) for folder in verify.caches(arguments.cache)]
    seconds = time.monotonic() - started
    for report in reports:
        print_faults(report)
        print(
            f"{report.folder}: {counted(report.rows, 'row')}, {size(report.bytes)}, "
            f"{faults_in(report)}"
        )
    print(f"{sum(report.bytes for report in reports) / seconds / 1e9:.2f} GB/s, {seconds:.1f} s")
    damaged = [report for report in reports if report.faults]
    if not damaged or not arguments.repair:
        return 1 if damaged else 0
    found = scan_raw(arguments)
    if found.unreachable:
        print_unreachable(found)
        return 1
    return max(run_repair(report, found, workers) for report in damaged)


def faults_in(report: verify.Report) -> str:
    """Count the faults of a cache."""
    return counted(len(report.faults), "fault") if report.faults else "no faults"


def print_faults(report: verify.Report) -> None:
    """Print a line for each fault."""
    for fault in report.faults:
        print(f"fault: {report.folder / printable(str(fault))}", file=sys.stderr)


def run_repair(report: verify.Report, found: Catalogue, workers: Workers) -> int:
    """Make the damaged shards of one cache again and read it once more."""
    try:
        done = verify.repair(report, found, workers)
    except InputError as error:
        # Such as a cache of another raw folder beside this one's.
        print(f"not repaired: {error}", file=sys.stderr)
        return 1
    left = verify.check_cache(report.folder, workers)
    print_faults(left)
    for entry in done.index.unreadable:
        print_left_out(entry)
    repaired = ", ".join(sorted(report.files - left.files)) or "nothing"
    print(
        f"{report.folder}: repaired {repaired}; {counted(done.extracted, 'clip')} extracted "
        f"again; {faults_in(left)} left"
    )
    if set(left.files) - set(done.index.shard_facts):
        print(
            "what is left belongs to another raw folder: run 'make features' with that one, then "
            "this again; or 'make features REMOVE=1' deletes what the index does not name",
            file=sys.stderr,
        )
    return 1 if left.faults or done.index.unreadable else 0


def run_prune(arguments: argparse.Namespace) -> int:
    """List the caches with the models that need them, and remove those that are named."""
    models = getattr(arguments, "models", [Path("data")])
    found = caches.list_caches(arguments.cache, models)
    by_name = {cache.path.name: cache for cache in found}
    if unknown := sorted(set(arguments.names) - set(by_name)):
        raise InputError(
            f"expected names of caches in {arguments.cache}, got {', '.join(unknown)}; "
            f"choose out of {', '.join(by_name) or 'none'}"
        )
    for cache in found:
        days = cache.age_seconds / 86400
        needed = ", ".join(map(str, cache.models))
        needed = needed or f"no model below {', '.join(map(str, models))}"
        print(
            f"{cache.path}: {size(cache.bytes)}, {days:.1f} days old, {cache.meaning}; "
            f"needed by {needed}"
        )
    for name in arguments.names:
        whole = caches.remove(by_name[name], arguments.despite_models)
        print(f"removed: {by_name[name].path}{'' if whole else ', but for files of others in it'}")
    if not arguments.names:
        print("nothing removed: name what is to go (make prune NAMES=...)")
    return 0


def print_aside(found: Catalogue, arguments: argparse.Namespace) -> None:
    """Say which files of the raw folder are not clips of the cache, and why."""
    for path, reason in found.misplaced:
        print(f"refused: {printable(path)}: {reason}", file=sys.stderr)
    counts = {"unreadable name": found.unreadable, "duplicate": found.duplicates}
    aside = ", ".join(counted(len(files), name) for name, files in counts.items() if files)
    if aside:
        print(f"set aside: {aside}; listed by: {list_command(arguments)}")


def list_command(arguments: argparse.Namespace) -> str:
    """Write the command that lists the same clips, for a shell."""
    words = ["python", "-m", "pipeline", "list"]
    for name in ("raw", "channel", "corpus", "speaker", "labels"):
        value = getattr(arguments, name, None)
        if value is not None and value != scan.AUTO:
            words += [f"--{name}", str(value)]
    return printable(shlex.join(words))


def run_list(arguments: argparse.Namespace) -> int:
    """Print the catalogue as a table and every file that is not in it."""
    found = scan_raw(arguments)
    if found.clips:
        print("\n".join(balance.table(found.clips, found.actor_names)))
        print(balance.imbalance(found.clips))
    print(summary(found))
    for title, files in (
        ("unreadable name", found.unreadable),
        ("duplicate", found.duplicates),
        ("refused", found.misplaced),
    ):
        for path, reason in files:
            print(f"{title}: {printable(path)}: {reason}")
    print_unreachable(found)
    return 1 if found.misplaced or found.unreachable else 0


def summary(found: Catalogue) -> str:
    """Count clips and actors, and the clips by which files they consist of."""
    counts = ", ".join(
        f"{count} with {name}" for name, count in found.file_counts().items() if count
    )
    actors = counted(len(found.actors), "actor")
    published = f", {found.published:,} clips as published" if found.published else ""
    corpus = f"; {found.corpus}{published}" if found.corpus else ""
    return f"{counted(len(found.clips), 'clip')} of {actors}: {counts}{corpus}"


def run_audit(arguments: argparse.Namespace) -> int:
    """Measure every clip, print what is odd, and write it all down."""
    from pipeline.corpora import audit, audit_report, facts
    from pipeline.corpora.measured import SUFFIX, Store
    from pipeline.features import detectors

    workers = workers_of(arguments)
    audit_report.prepare_folder(arguments.out)
    found = scan_raw(arguments)
    store = Store(arguments.out.with_name(f"{arguments.out.name}{SUFFIX}"))
    spec = FeatureSpec(detector=detectors.default_detector())
    measured = facts.measure_all(found, spec, workers, arguments.out.parent, store)
    findings = audit.judge(found, measured)
    if findings:
        print(audit_report.table(findings))
    audit_report.write_report(arguments.out, found, measured, findings)
    notes = sum(finding.kind in audit.NOTES for finding in findings)
    faults = len(findings) - notes
    print(
        f"{printable(found.root)}: {summary(found)}; {counted(faults, 'finding')} and "
        f"{counted(notes, 'note')}, all of them in {printable(arguments.out)}"
    )
    return 1 if found.unreachable or (faults and arguments.strict) else 0


def run_face_model(arguments: argparse.Namespace) -> int:
    """Fetch the file that the detector yunet needs."""
    from pipeline.features import detectors

    print(f"face model: {detectors.fetch_model(arguments.url or detectors.YUNET_URL)}")
    return 0


def run_sample(arguments: argparse.Namespace) -> int:
    """Write the sample corpus."""
    from pipeline.sample import corpus

    if not 1 <= arguments.actors <= 24 or not 1 <= arguments.repetitions <= 2:
        raise InputError(
            f"expected 1-24 actors and 1-2 repetitions, got {arguments.actors} and "
            f"{arguments.repetitions}; RAVDESS names hold no more"
        )
    refuse_file(arguments.out, "recordings")
    files = corpus.write_corpus(
        arguments.out,
        actors=arguments.actors,
        seed=arguments.seed,
        repetitions=arguments.repetitions,
        jobs=Workers(arguments.jobs).jobs,
    )
    print(f"{arguments.out}: {counted(len(files), 'file')}")
    return 0
