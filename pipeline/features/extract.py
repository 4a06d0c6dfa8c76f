"""The seam that training and inference share: raw files to windows, windows to features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.catalogue import Clip
from pipeline.features import augment, faces, frames, mfcc
from pipeline.features.faces import Box
from pipeline.media import audio, video
from pipeline.spec import CLEAN, FeatureSpec


class Span(NamedTuple):
    """A stretch of a clip: first sample and number of samples at the spec's sample rate."""

    start: int
    samples: int


@dataclass(frozen=True)
class Window:
    """What is heard and seen in a stretch of a clip.

    Parameters
    ----------
    sound
        float32 (samples,) at the spec's rate; None where the clip has no sound.
    pictures
        ``frame_count`` RGB pictures, None where one is missing; None where there is no frames.
    """

    sound: NDArray[np.float32] | None
    pictures: list[NDArray[np.uint8] | None] | None


class Features(NamedTuple):
    """The two tensors the model reads."""

    mfcc: NDArray[np.float32]
    frames: NDArray[np.uint8]


class Row(NamedTuple):
    """One cached sample: features, the name of their variant, and whether a face was found."""

    variant: str
    features: Features
    face_found: bool


def clip_span(waveform: NDArray[np.float32], spec: FeatureSpec) -> Span:
    """Return the stretch of a clip that is cached, chosen from its sound."""
    return Span(mfcc.window_start(waveform, spec), spec.window_samples)


def read_windows(
    waveform: NDArray[np.float32] | None,
    video_path: Path | None,
    spans: Sequence[Span],
    spec: FeatureSpec,
    threads: int = 1,
) -> Iterator[Window]:
    """Read several stretches of one clip, decoding its video once.

    Parameters
    ----------
    waveform
        The clip's sound at ``spec.sample_rate_hz``; None if it has none.
    video_path
        File with its pictures; None if it has none.
    spans
        Stretches to read. In the order of time, memory does not follow their number.
    spec
        Gives the number and sampling of pictures.
    threads
        Decoding threads.

    Yields
    ------
    Window
        One for each span.

    Raises
    ------
    MediaError
        If the video cannot be read.
    """
    if video_path is None:
        shown: Iterator[list[NDArray[np.uint8] | None] | None] = repeat(None, len(spans))
    elif spec.frame_sampling == "consecutive":
        shown = read_consecutive_pictures(video_path, spans, spec, threads)
    else:
        shown = read_spread_pictures(video_path, spans, spec, threads)
    for span, pictures in zip(spans, shown, strict=True):
        yield Window(None if waveform is None else mfcc.cut(waveform, *span), pictures)


def read_consecutive_pictures(
    video_path: Path, spans: Sequence[Span], spec: FeatureSpec, threads: int
) -> Iterator[list[NDArray[np.uint8] | None]]:
    """Yield the first pictures of each stretch of a frames."""
    start, pictures = None, []
    for span in spans:
        if span.start != start:
            start = span.start
            pictures = video.read_consecutive_pictures(
                video_path, start / spec.sample_rate_hz, spec.frame_count, threads
            )
        yield pictures


def read_spread_pictures(
    video_path: Path, spans: Sequence[Span], spec: FeatureSpec, threads: int
) -> Iterator[list[NDArray[np.uint8] | None]]:
    """Yield the pictures of each stretch of a frames, evenly spread over it and its surroundings.

    The first and the last of them stand for what lies outside of the recording.
    """
    times = [picture_times(span, spec) for span in spans]
    wanted = sorted({time for moments in times for time in moments})
    pictures = video.pictures_at(video_path, wanted, threads, spec.decode == "reference")
    coming = zip(wanted, pictures, strict=True)
    starts = [moments[0] for moments in times]
    still_needed = list(accumulate(reversed(starts[1:]), min, initial=math.inf))[::-1]
    seen: dict[float, NDArray[np.uint8] | None] = {}
    for moments, earliest in zip(times, still_needed, strict=True):
        while moments[-1] not in seen:
            time, picture = next(coming)
            seen[time] = picture
        yield held([seen[time] for time in moments])
        seen = {time: picture for time, picture in seen.items() if time >= earliest}


def picture_times(span: Span, spec: FeatureSpec) -> list[float]:
    """When the pictures of a stretch are on screen, in seconds, where they are spread over it."""
    start, length = span.start / spec.sample_rate_hz, span.samples / spec.sample_rate_hz
    return frames.frame_times(start, length, spec.frame_count, spec.frames_margin)


def held(pictures: list[NDArray[np.uint8] | None]) -> list[NDArray[np.uint8] | None]:
    """Hold the first and the last picture where there is none before and after them."""
    there = [number for number, picture in enumerate(pictures) if picture is not None]
    if not there:
        return pictures
    return [pictures[min(max(number, there[0]), there[-1])] for number in range(len(pictures))]


def find_face(window: Window, spec: FeatureSpec) -> Box | None:
    """Find the face of a window; None if there is none or the recipe needs none."""
    if spec.crop == "whole" or window.pictures is None:
        return None
    return faces.window_box(window.pictures, spec.face_detector)


def featurize(window: Window, box: Box | None, spec: FeatureSpec) -> Features:
    """Turn a window into the tensors the model reads.

    Parameters
    ----------
    window
        What is heard and seen. A missing modality gives zeros.
    box
        The face in the pictures; None takes the centred square.
    spec
        Gives every shape and parameter.

    Returns
    -------
    Features
        float32 (mfcc_count, mfcc_columns, 1) and
        uint8 (frame_count, frame_size_px, frame_size_px, 3).
    """
    silent = np.zeros(0, np.float32)
    dark: list[NDArray[np.uint8] | None] = [None] * spec.frame_count
    return Features(
        mfcc.mfcc(silent if window.sound is None else window.sound, spec),
        frames.frames(dark if window.pictures is None else window.pictures, box, spec),
    )


def extract_clip(clip: Clip, spec: FeatureSpec) -> list[Row]:
    """Make every cached row of a clip: clean first, then the variants of the spec.

    Parameters
    ----------
    clip
        Its sound and its video are each decoded once.
    spec
        Gives windows, shapes and variants.

    Returns
    -------
    list of Row
        ``1 + len(spec.variants)`` rows.

    Raises
    ------
    MediaError
        If the sound or the video cannot be read.
    """
    waveform = audio.read_waveform(clip.sound, spec.sample_rate_hz)
    clean = clip_span(waveform, spec)
    names = (CLEAN, *spec.variants)
    generators = [augment.generator(clip.id, name, spec) for name in names]
    changes = [
        augment.draw_change(name, random) for name, random in zip(names, generators, strict=True)
    ]
    spans = [Span(clean.start, round(clean.samples * change.stretch_rate)) for change in changes]
    windows = list(read_windows(waveform, clip.video, spans, spec))
    face = find_face(windows[0], spec)

    rows = []
    for name, change, random, window in zip(names, changes, generators, windows, strict=True):
        sound = augment.change_sound(window.sound, change, random, spec.sample_rate_hz)
        changed = Window(sound[: spec.window_samples], window.pictures)
        features = featurize(changed, face and augment.change_box(face, change), spec)
        frames = augment.change_frames(features.frames, change)
        rows.append(Row(name, Features(features.mfcc, frames), face is not None))
    return rows
