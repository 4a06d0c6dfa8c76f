"""The files that are measured on: made once, from the sample corpus' drawings and voices."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import joblib
import numpy as np
import soundfile

from pipeline.cache import build, plan
from pipeline.corpora import scan
from pipeline.media import encode
from pipeline.sample import corpus
from pipeline.spec import FeatureSpec

SIZE_PX = (720, 1280)
SMALL_SIZE_PX = (160, 90)
FRAME_RATE = 30
FRAMES = 110
FRACTION_OF_SECOND = 15_360
BITS_PER_SECOND = 10_000_000
CLIPS = 16
SEED = 7
GRAIN = 3.0
"""Standard deviation of the film grain, in grey levels of 255: a camera in studio light."""


def high_definition_clips(folder: Path) -> Path:
    """Make clips of 1280x720, H.264 with B-frames, about 10 Mbit/s, 110 frames, each with a wav."""
    raw = folder / "raw-720p"
    takes = corpus.takes(2, 1)[::4][:CLIPS]
    missing = [take for take in takes if not video_path(raw, take).is_file()]
    joblib.Parallel(n_jobs=-1)(joblib.delayed(write_clip)(raw, take) for take in missing)
    return raw


def video_path(raw: Path, take: corpus.Take) -> Path:
    """Where a clip of :func:`high_definition_clips` lies."""
    return raw / "videos" / f"Actor_{take.actor:02d}" / f"{take.name(1)}.mp4"


def write_clip(raw: Path, take: corpus.Take) -> None:
    """Enlarge a drawn take, add film grain, and encode it as a camera's file would be."""
    path = video_path(raw, take)
    sound_path = raw / "audios" / path.parent.name / f"{take.name(3)}.wav"
    for folder in (path.parent, sound_path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    waveform, _, frames = corpus.record(take, SEED)
    soundfile.write(sound_path, waveform, 48_000, subtype="PCM_16")
    random = np.random.default_rng(SEED)
    grain = random.normal(0, GRAIN, (8, *SIZE_PX, 1)).astype(np.float32)
    partial = path.with_suffix(".part")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=FRAME_RATE, options={"preset": "fast", "bf": "3", "b-pyramid": "normal"}
        )
        stream.height, stream.width = SIZE_PX
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS_PER_SECOND
        drawn = [picture for _, picture in frames]
        for number in range(FRAMES):
            picture = cv2.resize(drawn[min(number, len(drawn) - 1)], SIZE_PX[::-1])
            noisy = np.clip(picture + grain[number % len(grain)], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode(None))
    partial.rename(path)


def long_recording(folder: Path) -> tuple[Path, Path]:
    """Join the clips to one recording of a minute, without encoding them anew, and its sound."""
    raw, video, sound = folder / "raw-720p", folder / "minute.mp4", folder / "minute.wav"
    if video.is_file() and sound.is_file():
        return video, sound
    partial, frame = folder / "minute.part", FRACTION_OF_SECOND // FRAME_RATE
    waveforms = []
    with av.open(str(partial), "w", format="mp4") as joined:
        stream = None
        for number, clip in enumerate(sorted(raw.rglob("*.mp4"))):
            with av.open(str(clip)) as part:
                source = part.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                start = number * FRAMES * frame
                for packet in part.demux(source):
                    if packet.dts is None:
                        continue
                    ticks = FRACTION_OF_SECOND * packet.time_base
                    packet.pts, packet.dts = (
                        round(time * ticks) + start for time in (packet.pts, packet.dts)
                    )
                    packet.duration = frame
                    packet.time_base = Fraction(1, FRACTION_OF_SECOND)
                    packet.stream = stream
                    joined.mux(packet)
        for path in sorted(raw.rglob("*.wav")):
            waveform = soundfile.read(path)[0]
            samples = 48_000 * FRAMES // FRAME_RATE
            waveforms.append(np.pad(waveform[:samples], (0, max(0, samples - len(waveform)))))
    soundfile.write(sound, np.concatenate(waveforms), 48_000, subtype="PCM_16")
    partial.rename(video)
    return video, sound


def with_sound(video: Path, sound: Path) -> Path:
    """Give a video its sound as AAC, as a camera does; the frames stay as they are."""
    path = video.with_name(f"{video.stem}-sound.mp4")
    if path.is_file():
        return path
    partial = path.with_suffix(".part")
    with av.open(str(video)) as source, av.open(str(partial), "w", format="mp4") as target:
        frames = source.streams.video[0]
        stream = target.add_stream_from_template(frames)
        with encode.sound_of_file(sound, target) as packets:
            for packet in source.demux(frames):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
            for packet in packets:
                target.mux(packet)
    partial.rename(path)
    return path


def linked_corpus(folder: Path, clips: int) -> Path:
    """Make a corpus of any size up to RAVDESS' 1,440 clips, whose names all link to one clip."""
    raw, source, sound = folder / f"raw-{clips}", folder / "small.mp4", folder / "small.wav"
    if not sound.is_file():
        waveform, _, frames = corpus.record(corpus.takes(2, 1)[0], SEED)
        pictures = ((time, cv2.resize(picture, SMALL_SIZE_PX)) for time, picture in frames)
        encode.write_mp4(source, pictures, None, 0)
        soundfile.write(sound, waveform, 48_000, subtype="PCM_16")
    for take in corpus.takes(24, 2)[:clips]:
        target = video_path(raw, take)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.resolve())
            target.with_name(f"{take.name(3)}.wav").symlink_to(sound.resolve())
    return raw


def full_shards(folder: Path, actors: int) -> Path:
    """Make a corpus of some actors with as many clips of 1280x720 as a shard holds, all links."""
    clips = sorted(high_definition_clips(folder).rglob("*.mp4"))
    raw, takes = folder / "raw-memory", corpus.takes(actors, 1)
    for actor in range(1, actors + 1):
        own = [take for take in takes if take.actor == actor]
        for take, clip in zip(own[: plan.MAX_CLIPS], itertools.cycle(clips), strict=False):
            target = video_path(raw, take)
            if not target.exists():
                sound = clip.parents[2] / "audios" / clip.parent.name / f"03{clip.stem[2:]}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(clip.resolve())
                target.with_name(f"{take.name(3)}.wav").symlink_to(sound.resolve())
    return raw


def cached_rows(folder: Path, rows: int) -> Path:
    """Make a cache of clean rows, for the loaders."""
    raw, cache = linked_corpus(folder, rows), folder / f"cache-{rows}"
    spec = FeatureSpec(variants=())
    build.build(scan.scan(raw), cache, spec)
    # The folder keeps the caches of earlier specs too.
    return cache / spec.digest
