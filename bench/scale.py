"""Many catalogued clips: a run without changes, its peak memory, and training's table of rows."""

from __future__ import annotations

import csv
import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.backends import Workers
from pipeline.cache import facts, survey, task
from pipeline.cache import plan as planning
from pipeline.cache.facts import ClipEntry, ShardFacts
from pipeline.cache.index import index_of, write_index
from pipeline.corpora import scan, sources
from pipeline.corpora.table import CSV_NAME
from pipeline.spec import EMOTIONS, FeatureSpec
from train import commands
from train.data import rows as table
from train.studies.protocol import Split

CLIPS = (10_000, 100_000)
CLIPS_OF_AN_ACTOR = 50
HEADER_BYTES = 4096


def write_raw(raw: Path, clips: int) -> None:
    """Write a ``clips.csv`` of clips of one byte each."""
    rows = []
    for number in range(clips):
        actor = 1 + number // CLIPS_OF_AN_ACTOR
        path = raw / f"{actor:05d}" / f"{number:06d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        emotion = EMOTIONS[number % len(EMOTIONS)]
        rows.append(("", path.relative_to(raw).as_posix(), emotion, actor))
    with (raw / CSV_NAME).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("video", "audio", "emotion", "actor"), *rows])


def write_cache(raw: Path, cache: Path, spec: FeatureSpec) -> None:
    """Write the manifests and the index of a finished cache, beside empty files of full size."""
    catalogue = scan.scan(raw)
    folder = cache / spec.digest
    folder.mkdir(parents=True)
    wanted, states, nothing = survey.look(catalogue, folder, spec, Workers(1), progress=False)
    plan = planning.plan(wanted, states, nothing, "")
    by_id = {clip.id: clip for clip in catalogue.clips}
    step = len(spec.row_names)
    shards = []
    for made in plan.make:
        entries = tuple(
            ClipEntry(
                name,
                made.actor,
                by_id[name].emotion,
                made.file,
                tuple(sources.describe(path, raw) for path in by_id[name].sources),
                row=place * step,
                checksums=(0,) * step,
                has_audio=True,
            )
            for place, name in enumerate(made.clips)
        )
        rows = step * len(entries)
        shard = ShardFacts(
            file=made.file,
            actor=made.actor,
            rows=rows,
            bytes=HEADER_BYTES + rows * spec.row_bytes,
            sha256="0" * 64,
            mfcc_offset=HEADER_BYTES,
            frames_offset=HEADER_BYTES + rows * spec.mfcc_bytes,
            clips=entries,
            libraries=task.versions(),
            seconds=1.0,
            finished="2026-01-01T00:00:00+00:00",
        )
        with (folder / made.file).open("wb") as stream:
            stream.truncate(shard.bytes)
        facts.write_manifest(folder, shard, spec)
        shards.append(shard)
    held = [clip for shard in shards for clip in shard.clips]
    write_index(index_of(held, shards, states, folder, spec, str(raw)))


def measure(folder: Path) -> Iterator[dict]:
    """Yield seconds and memory of a run without changes for each number of clips."""
    spec = dataclasses.replace(FeatureSpec())
    for clips in CLIPS:
        raw, cache = folder / f"raw-{clips}", folder / f"cache-{clips}"
        if not cache.is_dir():
            write_raw(raw, clips)
            write_cache(raw, cache, spec)
        command = [sys.executable, "-m", "pipeline", "features", "--raw", raw, "--cache", cache]
        started = time.monotonic()
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        assert "0 clips extracted now" in answer.stdout
        yield {
            "what": f"make features, nothing changed, {clips:,} clips: s",
            "ours": seconds,
            "against": f"peak memory {peak:,.0f} MB",
            "theirs": None,
            "ratio": None,
            "target": "<= 20" if clips == CLIPS[-1] else "",
        }
        index = commands.open_cache(cache)
        started = time.process_time()
        chosen = table.select_rows(index, index.actors, variants=True)
        table.source_hashes(index, Split(index.actors, (), ()))
        yield {
            "what": f"training's table of {len(chosen):,} rows: CPU s",
            "ours": time.process_time() - started,
            "against": f"{clips:,} clips",
            "theirs": None,
            "ratio": None,
            "target": "",
        }
