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

from pipeline.corpora.clip import Clip
from pipeline.features import augment, faces, frames, mfcc
from pipeline.features.detectors import Box
from pipeline.media import audio, container, video
from pipeline.media.container import MissingStreamError
from pipeline.spec import FeatureSpec

DecodedFrames = list[NDArray[np.uint8] | None]
"""RGB frames, each (height, width, 3); None where the clip has none."""


class Span(NamedTuple):
    """A stretch of a clip: first sample and number of samples at the spec's sample rate."""

    start: int
    samples: int


@dataclass(frozen=True)
class Window:
    """The audio and the frames of a stretch of a clip.

    Parameters
    ----------
    waveform
        float32 (samples,) at the spec's rate; None where the clip has no audio.
    frames
        ``frame_count`` of them; None where the clip has no video.
    """

    waveform: NDArray[np.float32] | None
    frames: DecodedFrames | None


class Features(NamedTuple):
    """The two tensors the model reads."""

    mfcc: NDArray[np.float32]
    frames: NDArray[np.uint8]


class Row(NamedTuple):
    """One cached sample.

    Parameters
    ----------
    variant
        ``"clean"`` or the name of an augmentation.
    features
        Its tensors: zeros for a modality that the clip lacks.
    face_found
        Whether a face was found; without one the centred square was cut out.
    has_audio, has_video
        Whether the clip has that modality.
    """

    variant: str
    features: Features
    face_found: bool
    has_audio: bool = True
    has_video: bool = True


def clip_span(
    waveform: NDArray[np.float32] | None, spec: FeatureSpec, duration_seconds: float = 0.0
) -> Span:
    """Return the stretch of a clip that is cached.

    Parameters
    ----------
    waveform
        The clip's audio, which decides; None if it has none.
    spec
        Gives the window's length and placement.
    duration_seconds
        Length of the clip, which decides where the waveform is silent or missing.
    """
    if waveform is None:
        waveform = np.zeros(0, np.float32)
    clip_samples = round(duration_seconds * spec.sample_rate_hz)
    return Span(mfcc.window_start(waveform, spec, clip_samples), spec.window_samples)


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
        The clip's audio at ``spec.sample_rate_hz``; None if it has none.
    video_path
        File with its video; None if it has none.
    spans
        Stretches to read. In the order of time, memory does not follow their number.
    spec
        Gives the number and sampling of frames.
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
        shown: Iterator[DecodedFrames | None] = repeat(None, len(spans))
    elif spec.frame_sampling == "consecutive":
        shown = read_consecutive(video_path, spans, spec, threads)
    else:
        shown = read_spread(video_path, spans, spec, threads)
    for span, window_frames in zip(spans, shown, strict=True):
        yield Window(None if waveform is None else mfcc.cut(waveform, *span), window_frames)


def read_consecutive(
    video_path: Path, spans: Sequence[Span], spec: FeatureSpec, threads: int
) -> Iterator[DecodedFrames]:
    """Yield the first frames of each stretch of a video."""
    start, found = None, []
    for span in spans:
        if span.start != start:
            start = span.start
            found = video.read_consecutive_frames(
                video_path, start / spec.sample_rate_hz, spec.frame_count, spec, threads
            )
        yield found


def read_spread(
    video_path: Path, spans: Sequence[Span], spec: FeatureSpec, threads: int
) -> Iterator[DecodedFrames]:
    """Yield the frames of each stretch of a video, evenly spread over it and its surroundings.

    The first and the last of them stand for what lies outside of the recording.
    """
    wanted = wanted_times(spans, spec)
    coming = zip(wanted, video.frames_at(video_path, wanted, spec, threads), strict=True)
    return (fill_ends(found) for found in grouped(coming, spans, spec))


def wanted_times(spans: Sequence[Span], spec: FeatureSpec) -> list[float]:
    """When any frame of these stretches is on screen, in seconds, ascending, each time once."""
    return sorted({time for span in spans for time in frame_times(span, spec)})


def grouped(
    coming: Iterator[tuple[float, NDArray[np.uint8] | None]],
    spans: Sequence[Span],
    spec: FeatureSpec,
) -> Iterator[DecodedFrames]:
    """Group frames, each with its time of :func:`wanted_times`, by stretch.

    Of stretches in the order of time, only the frames that are still needed are held.
    """
    times = [frame_times(span, spec) for span in spans]
    starts = [moments[0] for moments in times]
    still_needed = list(accumulate(reversed(starts[1:]), min, initial=math.inf))[::-1]
    seen: dict[float, NDArray[np.uint8] | None] = {}
    for moments, earliest in zip(times, still_needed, strict=True):
        while moments[-1] not in seen:
            time, frame = next(coming)
            seen[time] = frame
        yield [seen[time] for time in moments]
        seen = {time: frame for time, frame in seen.items() if time >= earliest}


def frame_times(span: Span, spec: FeatureSpec) -> list[float]:
    """When the frames of a stretch are on screen, in seconds, where they are spread over it."""
    start, length = span.start / spec.sample_rate_hz, span.samples / spec.sample_rate_hz
    return frames.spread_times(start, length, spec.frame_count, spec.frames_margin)


def fill_ends(found: DecodedFrames) -> DecodedFrames:
    """Repeat the first and the last frame where there is none before and after them."""
    there = [number for number, frame in enumerate(found) if frame is not None]
    if not there:
        return found
    return [found[min(max(number, there[0]), there[-1])] for number in range(len(found))]


def find_face(window: Window, spec: FeatureSpec) -> Box | None:
    """Find the square around a window's face; None if there is none or the recipe needs none."""
    if spec.crop == "whole" or window.frames is None:
        return None
    return faces.window_square(window.frames, spec)


def featurize(window: Window, square: Box | None, spec: FeatureSpec) -> Features:
    """Turn a window into the tensors the model reads.

    Parameters
    ----------
    window
        Audio and frames. A missing modality gives zeros.
    square
        What is cut out of the frames; None takes the centred square.
    spec
        Gives every shape and parameter.

    Returns
    -------
    Features
        float32 (mfcc_count, mfcc_columns, 1) and
        uint8 (frame_count, frame_size_px, frame_size_px, 3).
    """
    none: DecodedFrames = [None] * spec.frame_count
    return Features(
        mfcc.mfcc(np.zeros(0, np.float32) if window.waveform is None else window.waveform, spec),
        frames.frame_tensor(none if window.frames is None else window.frames, square, spec),
    )


def extract_clip(clip: Clip, spec: FeatureSpec) -> list[Row]:
    """Make every cached row of a clip: clean first, then the variants of the spec.

    Parameters
    ----------
    clip
        Its audio and its video are each decoded once; one of them may be missing.
    spec
        Gives windows, shapes and variants.

    Returns
    -------
    list of Row
        ``1 + len(spec.variants)`` rows.

    Raises
    ------
    MediaError
        If the audio or the video cannot be read, or there is neither.
    """
    waveform = read_clip_waveform(clip, spec)
    clean = clip_span(waveform, spec, deciding_seconds(clip, waveform, spec))
    names = spec.row_names
    generators = [augment.generator(clip.id, name, spec) for name in names]
    changes = [
        augment.draw_change(name, random, spec.augmentation)
        for name, random in zip(names, generators, strict=True)
    ]
    spans = [Span(clean.start, round(clean.samples * change.stretch_rate)) for change in changes]
    try:
        windows = list(read_windows(waveform, clip.video, spans, spec))
    except MissingStreamError:
        if waveform is None:
            raise
        windows = list(read_windows(waveform, None, spans, spec))
    square = find_face(windows[0], spec)

    rows = []
    for name, change, random, window in zip(names, changes, generators, windows, strict=True):
        changed = window
        if window.waveform is not None:
            waveform = augment.change_waveform(window.waveform, change, random, spec)
            changed = Window(waveform[: spec.window_samples], window.frames)
        features = featurize(changed, square and augment.change_square(square, change), spec)
        features = features._replace(frames=augment.change_frames(features.frames, change))
        present = window.waveform is not None, window.frames is not None
        rows.append(Row(name, features, square is not None, *present))
    return rows


def read_clip_waveform(clip: Clip, spec: FeatureSpec) -> NDArray[np.float32] | None:
    """Read a clip's audio; None for a video without, which has no audio file of its own either."""
    try:
        return audio.read_waveform(clip.audio_source, spec.sample_rate_hz, spec.resampler)
    except MissingStreamError:
        if clip.audio is not None:
            raise
        return None


def deciding_seconds(clip: Clip, waveform: NDArray[np.float32] | None, spec: FeatureSpec) -> float:
    """Length of a clip's video where no waveform decides which stretch is cached, else 0."""
    if clip.video is None or (waveform is not None and not mfcc.is_silent(waveform, spec)):
        return 0.0
    return container.probe(clip.video).shown_seconds
