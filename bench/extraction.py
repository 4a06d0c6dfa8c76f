"""Raw clips to extract, against the usual script and against the decoder alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import cv2
import joblib
import librosa
import numpy as np

from bench import media
from bench.timing import medians, seconds
from pipeline import backends
from pipeline.backends import Workers
from pipeline.cache import build
from pipeline.corpora import scan
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.features import extract
from pipeline.media import audio, video
from pipeline.spec import FeatureSpec

ROUNDS = 3
JOBS = 2
OPTIONS = build.Options(progress=False, clip_timeout_seconds=120.0)
CLEAN = FeatureSpec(variants=())


def usual_script(found: Catalogue, out: Path) -> None:
    """One process that reads and resizes every frame, as most published code does."""
    out.mkdir(parents=True, exist_ok=True)
    for clip in found.clips:
        video, frames = cv2.VideoCapture(str(clip.video)), []
        while True:
            read, frame = video.read()
            if not read:
                break
            frames.append(cv2.resize(frame, (112, 112)))
        video.release()
        waveform, rate = librosa.load(clip.audio_source, sr=22_050)
        mfcc = librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=40)
        np.save(out / f"{clip.id}-frames.npy", np.array(frames[:20]))
        np.save(out / f"{clip.id}-mfcc.npy", mfcc[:, :44])


def decode_every_frame(path: Path) -> int:
    """Decode a video on one thread and convert nothing."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return sum(1 for _ in container.decode(video=0))


def decode_limit(found: Catalogue, jobs: int = JOBS) -> None:
    """Decode every frame of every clip, in as many processes as the pipeline uses."""
    joblib.Parallel(jobs, **backends.worker_options())(
        joblib.delayed(decode_every_frame)(clip.video) for clip in found.clips
    )


def last_frame_time(clip: Clip) -> float:
    """Second of a clip after which the pipeline needs no frame."""
    waveform = audio.read_waveform(clip.audio_source, CLEAN.sample_rate_hz)
    return extract.frame_times(extract.clip_span(waveform, CLEAN), CLEAN)[-1]


def decode_reference_frames(path: Path, until_seconds: float) -> None:
    """Decode what the pipeline's shortcuts leave of a video, on one thread; convert nothing."""
    for shown in video.timed_frames(path, 0.0, threads=1, reference_only=True):
        if shown.start_seconds >= until_seconds:
            return


def decode_floor(found: Catalogue, ends: list[float], jobs: int = JOBS) -> None:
    """Decode the reference frames of every clip up to its last frame and do nothing else."""
    joblib.Parallel(jobs, **backends.worker_options())(
        joblib.delayed(decode_reference_frames)(clip.video, end)
        for clip, end in zip(found.clips, ends, strict=True)
    )


def clip_times(found: Catalogue, ends: list[float], spec: FeatureSpec) -> tuple[float, float]:
    """CPU seconds of a clip, median of all: extraction, and decoding the same reference frames."""
    times = []
    for clip, end in zip(found.clips, ends, strict=True):
        started = time.process_time()
        decode_reference_frames(clip.video, end)
        decoded = time.process_time()
        extract.extract_clip(clip, spec)
        times.append((time.process_time() - decoded, decoded - started))
    extraction, decoding = np.median(times, axis=0)
    return float(extraction), float(decoding)


def run_pipeline(found: Catalogue, cache: Path, spec: FeatureSpec, jobs: int = JOBS) -> None:
    """Run the pipeline on an empty cache."""
    shutil.rmtree(cache, ignore_errors=True)
    build.build(found, cache, spec, Workers(jobs), OPTIONS)


def reference_decoding_error(found: Catalogue) -> float:
    """Mean absolute difference, in grey levels of 255, that the decoding shortcut makes."""
    full = FeatureSpec(variants=(), decode="full")
    differences = []
    for clip in found.clips[:6]:
        waveform = audio.read_waveform(clip.audio_source, CLEAN.sample_rate_hz)
        span = extract.clip_span(waveform, CLEAN)
        windows = [
            next(extract.read_windows(waveform, clip.video, [span], spec)) for spec in (CLEAN, full)
        ]
        square = extract.find_face(windows[1], full)
        tensors = [extract.featurize(window, square, full).frames for window in windows]
        differences.append(np.abs(np.subtract(*tensors, dtype=float)).mean())
    return float(np.mean(differences))


def measure(folder: Path) -> Iterator[dict]:
    """Yield one result a claim."""
    found = scan.scan(media.high_definition_clips(folder))
    clips, cache = len(found.clips), folder / "cache-extraction"
    run_pipeline(found, cache, FeatureSpec())  # workers start and import here, not in a measurement
    decode_limit(found)
    ends = [last_frame_time(clip) for clip in found.clips]
    cv2.setNumThreads(1)  # as in a worker
    extraction, decoding = clip_times(found, ends, CLEAN)
    yield {
        "what": "extraction of a clean clip, 1 process: CPU ms",
        "ours": 1000 * extraction,
        "against": "decoding the same reference frames, no more",
        "theirs": 1000 * decoding,
        "ratio": decoding / extraction,
        "target": ">= 0.85",
    }
    took = medians(
        ROUNDS,
        usual=partial(usual_script, found, folder / "usual"),
        limit=partial(decode_limit, found),
        floor=partial(decode_floor, found, ends),
        ours=partial(run_pipeline, found, cache, CLEAN),
        variants=partial(run_pipeline, found, cache, FeatureSpec()),
    )
    rates = {name: clips / value for name, value in took.items()}
    yield {
        "what": f"extraction, clean, {JOBS} jobs: clips/s",
        "ours": rates["ours"],
        "against": "usual script, 1 process",
        "theirs": rates["usual"],
        "ratio": took["usual"] / took["ours"],
        "target": ">= 4",
    }
    yield {
        "what": f"extraction, clean, {JOBS} jobs: clips/s",
        "ours": rates["ours"],
        "against": "PyAV decoding every frame",
        "theirs": rates["limit"],
        "ratio": took["limit"] / took["ours"],
        "target": ">= 1.3",
    }
    yield {
        "what": f"extraction, clean, {JOBS} jobs: clips/s",
        "ours": rates["ours"],
        "against": "decoding the same reference frames, no more",
        "theirs": rates["floor"],
        "ratio": took["floor"] / took["ours"],
        "target": ">= 0.85",
    }
    yield {
        "what": f"reference frames decoded, no more, {JOBS} jobs: clips/s",
        "ours": rates["floor"],
        "against": "usual script: the most there is to gain",
        "theirs": rates["usual"],
        "ratio": took["usual"] / took["floor"],
        "target": "",
    }
    yield {
        "what": "extraction with 3 variants: s",
        "ours": took["variants"],
        "against": "clean",
        "theirs": took["ours"],
        "ratio": took["variants"] / took["ours"],
        "target": "<= 1.25",
    }
    scaling = medians(
        ROUNDS,
        one=partial(run_pipeline, found, cache, FeatureSpec(), 1),
        two=partial(run_pipeline, found, cache, FeatureSpec(), 2),
        bare_one=partial(decode_limit, found, 1),
        bare_two=partial(decode_limit, found, 2),
    )
    yield {
        "what": "extraction, 2 jobs: s",
        "ours": scaling["two"],
        "against": "1 job",
        "theirs": scaling["one"],
        "ratio": scaling["one"] / scaling["two"],
        "target": ">= 1.9",
    }
    yield {
        "what": "PyAV decoding every frame, 2 processes: s",
        "ours": scaling["bare_two"],
        "against": "1 process: what the machine gives",
        "theirs": scaling["bare_one"],
        "ratio": scaling["bare_one"] / scaling["bare_two"],
        "target": "",
    }
    yield {
        "what": "decoding shortcut: mean |difference| of 255",
        "ours": reference_decoding_error(found),
        "against": "full decode",
        "theirs": 0.0,
        "ratio": None,
        "target": "<= 1.5",
    }
    big = media.linked_corpus(folder, 1440)
    cache = folder / "cache-1440"
    build.build(scan.scan(big), cache, CLEAN)
    again = seconds(lambda: build.build(scan.scan(big), cache, CLEAN))
    yield {
        "what": "make extract, nothing changed, 1,440 clips: s",
        "ours": again,
        "against": "",
        "theirs": None,
        "ratio": None,
        "target": "<= 2",
    }
