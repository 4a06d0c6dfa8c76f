"""Windows to predictions, by the functions that filled the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from infer.prediction import results
from infer.prediction.model import Model
from infer.prediction.results import (
    FACE,
    NOTHING,
    PICTURE,
    VOICE,
    VOICE_AND_FACE,
    Result,
    WindowPrediction,
)
from infer.prediction.smooth import SECONDS, UNSURE, Smoother
from infer.reading.ahead import ahead
from infer.reading.recording import Recording, plan_windows
from infer.reading.tracks import Track
from infer.reading.windows import FaceSearch, SeenFace, SeenWindow, decoded, read_windows
from pipeline.errors import InputError
from pipeline.features import extract, frames, mfcc
from pipeline.features.detectors import Box
from pipeline.features.extract import Window
from pipeline.media.video import Timed
from pipeline.spec import EMOTIONS, FeatureSpec

HEAD_OF_BASIS = {VOICE_AND_FACE: "fused", VOICE: "audio", FACE: "video", PICTURE: "video"}

WINDOWS_AHEAD = 1
"""Read while earlier ones are predicted: bounds memory, whatever the file's length."""

BRANCH_OF_PART = {"voice": "audio", "face": "video"}


@dataclass(frozen=True)
class Options:
    """How a recording is read.

    Parameters
    ----------
    min_confidence
        In [0, 1]: answers that are less probable are ``"unsure"``.
    smooth_seconds
        Time constant of :class:`infer.prediction.smooth.Smoother`; 0 leaves answers as they are.
    threads
        Decoding threads; 0 lets FFmpeg choose.

    Raises
    ------
    InputError
        If a number is out of bounds.
    """

    min_confidence: float = 0.0
    smooth_seconds: float = SECONDS
    threads: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise InputError(
                f"expected a smallest confidence of 0 to 1, got {self.min_confidence}; "
                "it is a probability"
            )
        if not 0 <= self.smooth_seconds <= 3600:
            raise InputError(
                f"expected 0 to 3600 seconds of smoothing, got {self.smooth_seconds}; "
                "0 leaves answers as they are"
            )


class Answering:
    """Turns windows into predictions, each face's smoothed over time.

    Parameters
    ----------
    model
        Answers.
    options
        How.
    references
        Further inputs of the model, the same for every window, each without the batch axis.
    """

    def __init__(
        self,
        model: Model,
        options: Options,
        references: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.model, self.options = model, options
        self._references = dict(references or {})
        self._smoothers: dict[int | None, Smoother] = {}

    def __call__(
        self, seen: SeenWindow, until_seconds: float, width_ratio: float
    ) -> list[WindowPrediction]:
        """Predict one window.

        Parameters
        ----------
        seen
            The window and the faces in it.
        until_seconds
            End of the recording, which a window may reach beyond.
        width_ratio
            Pixels of the recording for a pixel of the window's frames.

        Returns
        -------
        list of WindowPrediction
            One for each face; one without a face where there is none.
        """
        spec = self.model.spec
        window = self.learned_part(seen.window)
        shown: Sequence[SeenFace | None] = seen.faces if window.frames is not None else ()
        shown = shown or (None,)
        voice_of = seen.voice_of if window.waveform is not None and shown[0] else None
        bases = [basis_of(window, face, spec) for face in shown]
        if voice_of is not None:
            bases = [
                basis if face and face.track == voice_of else FACE
                for face, basis in zip(shown, bases, strict=True)
            ]
        outputs = self.model.answer(self.tensors(window, shown))
        start = max(0, seen.span.start) / spec.sample_rate_hz
        end = (seen.span.start + seen.span.samples) / spec.sample_rate_hz
        end = max(start, min(end, until_seconds))
        made = []
        for number, (face, basis) in enumerate(zip(shown, bases, strict=True)):
            heard, faced = basis in (VOICE_AND_FACE, VOICE), basis not in (VOICE, NOTHING)
            track = face.track if face else None
            if basis == NOTHING:
                answer = smoothed = np.full(len(EMOTIONS), 1 / len(EMOTIONS), np.float32)
                label = UNSURE
            else:
                answer = outputs[HEAD_OF_BASIS[basis]][number]
                smoothed, label = self.smoother(track)((start + end) / 2, answer)
            made.append(
                WindowPrediction(
                    start,
                    end,
                    track,
                    answer,
                    outputs["audio"][number] if heard else None,
                    outputs["video"][number] if faced else None,
                    basis,
                    Box(*(width_ratio * side for side in face.square)) if face else None,
                    face.confidence if face else None,
                    seen.weight,
                    smoothed,
                    label,
                    unlike_training(outputs, number, heard, basis in (VOICE_AND_FACE, FACE)),
                    voice_of,
                )
            )
        return made

    def learned_part(self, window: Window) -> Window:
        """Leave out of a window what the model has not learned from: its head means nothing."""
        return Window(
            window.waveform if "audio" in self.model.branches else None,
            window.frames if "video" in self.model.branches else None,
        )

    def tensors(self, window: Window, shown: Sequence[SeenFace | None]) -> dict[str, NDArray]:
        """Make the model's inputs, a row for each face: the sound of all is the same."""
        spec = self.model.spec
        first = extract.featurize(window, shown[0].square if shown[0] else None, spec)
        others = [
            frames.frame_tensor(window.frames, face.square, spec)
            for face in shown[1:]
            if face is not None and window.frames is not None
        ]
        rows = len(shown)
        inputs = {
            "mfcc": np.repeat(first.mfcc[np.newaxis], rows, axis=0),
            "frames": np.stack([first.frames, *others]),
        }
        return inputs | {
            name: np.repeat(values[np.newaxis], rows, axis=0)
            for name, values in self._references.items()
        }

    def forget(self, kept: Collection[int]) -> None:
        """Drop the filters of faces that are no longer followed, for streams without an end."""
        self._smoothers = {
            track: filter_of
            for track, filter_of in self._smoothers.items()
            if track is None or track in kept
        }

    def smoother(self, track: int | None) -> Smoother:
        """Return the filter of a face."""
        if track not in self._smoothers:
            options = self.options
            self._smoothers[track] = Smoother(options.smooth_seconds, options.min_confidence)
        return self._smoothers[track]


def unlike_training(
    outputs: Mapping[str, NDArray[np.float32]], number: int, heard: bool, seen: bool
) -> tuple[str, ...]:
    """Say which modality lies farther from the training data than 99 of 100 validation clips."""
    there = {"voice": heard, "face": seen}
    found = []
    for part, branch in BRANCH_OF_PART.items():
        distance = outputs.get(f"{branch}_distance")
        if there[part] and distance is not None and distance[number, 0] > 1.0:
            found.append(part)
    return tuple(found)


def basis_of(window: Window, face: SeenFace | None, spec: FeatureSpec) -> str:
    """Say what there is to go by in a window."""
    heard = window.waveform is not None and not mfcc.is_silent(window.waveform, spec)
    shown = window.frames is not None and any(frame is not None for frame in window.frames)
    seen = shown and (face is not None or spec.crop == "whole")
    if heard:
        return VOICE_AND_FACE if seen else VOICE
    if shown:
        return FACE if seen else PICTURE
    return NOTHING


class Analysis:
    """The predictions of one recording, made as they are asked for.

    Parameters
    ----------
    model
        Answers.
    recording
        What to hear and see. Its sound is consumed.
    options
        How.
    references
        See :class:`Answering`.
    coming
        The frames of its video, every one, where somebody else decodes them too; None decodes
        those that the model's spec needs.

    Raises
    ------
    InputError
        If the recording has no modality that the model has learned from.
    """

    def __init__(
        self,
        model: Model,
        recording: Recording,
        options: Options,
        references: Mapping[str, NDArray[np.float32]] | None = None,
        coming: Iterator[Timed] | None = None,
    ) -> None:
        refuse_unlearned(model, recording)
        self.model, self.recording, self.options = model, recording, options
        # Whoever decodes every frame leaves nothing out.
        spec = model.spec if coming is None else replace(model.spec, decode="full")
        self.spans = plan_windows(recording, spec)
        self.search = FaceSearch(spec, self.spans)
        self.predictions: list[WindowPrediction] = []
        self._answering = Answering(model, options, references)
        if coming is None:
            coming = iter(())
            if recording.video is not None and spec.frame_sampling == "spread":
                coming = decoded(
                    recording.video, self.spans, spec, options.threads, recording.damage
                )
        windows = read_windows(recording, self.spans, spec, self.search, coming)
        self._windows = ahead(windows, WINDOWS_AHEAD)

    def __iter__(self) -> Iterator[list[WindowPrediction]]:
        """Predict one window after the other.

        Yields
        ------
        list of WindowPrediction
            One for each face.

        Raises
        ------
        MediaError
            If the recording cannot be read.
        """
        for seen in self._windows:
            made = self._answering(seen, self.recording.duration_seconds, self.width_ratio)
            self.predictions += made
            yield made

    @property
    def width_ratio(self) -> float:
        """Pixels of the recording for a pixel of a searched frame."""
        return self.recording.width_px / self.search.width_px if self.search.width_px else 1.0

    def result(self, further_notes: Sequence[str] = ()) -> Result:
        """Return what was predicted up to now."""
        recording, made = self.recording, self.predictions
        least = self.options.min_confidence
        there = {"audio": recording.waveform is not None, "video": recording.video is not None}
        notes = (
            *model_notes(self.model),
            *results.notes(made, there, self.model.branches, least),
            *recording.damage.notes(),
            *further_notes,
        )
        return Result(
            recording.path,
            recording.duration_seconds,
            recording.frame_rate,
            (recording.width_px, recording.height_px),
            tuple(made),
            self.tracks(),
            notes,
            least,
        )

    def tracks(self) -> tuple[Track, ...]:
        """Return the faces that any prediction is of, in pixels of the recording."""
        used = sorted({made.track for made in self.predictions if made.track is not None})
        ratio = self.width_ratio
        return tuple(scaled(track, ratio) for track in map(self.search.tracker.get, used))


def scaled(track: Track, ratio: float) -> Track:
    """Return a copy of a track with boxes in other pixels; another thread may be adding to it."""
    count = len(track.times)
    boxes = [Box(*(ratio * side for side in box)) for box in track.boxes[:count]]
    return replace(
        track, times=track.times[:count], boxes=boxes, confidences=track.confidences[:count]
    )


def refuse_unlearned(model: Model, recording: Recording) -> None:
    """Raise where a recording has nothing that the model has learned from."""
    parts = {"audio": recording.waveform, "video": recording.video}
    if not model.branches & {name for name, part in parts.items() if part is not None}:
        raise InputError(
            f"expected {' or '.join(sorted(model.branches))} in {recording.path}, all that the "
            "model has learned from, got none; give another recording or another model"
        )


def model_notes(model: Model) -> Iterator[str]:
    """Say what the model was trained on, and what it has not learned."""
    if model.corpus:
        yield f"the model was trained on {model.corpus}"
        titles = [corpus["title"] for corpus in model.description.get("corpora", ())]
        if all("drawn" in title.lower() for title in titles or [model.corpus]):
            yield "the model knows drawn faces only: what it says of real ones means little"
    for branch in sorted({"audio", "video"} - model.branches):
        yield f"the model has learned nothing from {branch}: it is left out"
