"""Predictions as files: JSON for programs, CSV for tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.answers import Prediction, named, notes
from infer.recording import Recording
from pipeline import atomic
from pipeline.spec import EMOTIONS


def write_predictions(
    prediction: Prediction, recording: Recording, stem: Path, neutral: Path | None = None
) -> list[Path]:
    """Write the prediction as ``<stem>.json`` and ``<stem>.csv``.

    Parameters
    ----------
    prediction, recording
        What was said of what.
    stem
        Path of both files without the suffix.
    neutral
        The person at rest, whom the recording was read against; None for a model that knows nobody.

    Returns
    -------
    list of Path
        The two files.
    """
    least = prediction.min_confidence
    content = {
        "file": recording.path.name,
        "duration_seconds": round(recording.duration_seconds, 3),
        "min_confidence": least,
        "read_against": neutral and neutral.name,
        **answered(prediction.probabilities, least),
        "basis": prediction.basis,
        "voice": answered(prediction.mean("voice"), least),
        "face": answered(prediction.mean("face"), least),
        "notes": list(notes(recording, prediction.windows)),
        "windows": [
            {
                "start_seconds": round(window.start_seconds, 3),
                "end_seconds": round(window.end_seconds, 3),
                **answered(window.probabilities, least),
                "basis": window.basis,
                "voice": answered(window.voice, least),
                "face": answered(window.face, least),
                "face_box": None if window.box is None else [round(side) for side in window.box],
                "weight": round(window.weight, 3),
            }
            for window in prediction.windows
        ],
    }
    json_path, csv_path = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.csv")
    atomic.write_durably(json_path, json.dumps(content, indent=1).encode())
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(
        ["start_seconds", "end_seconds", "emotion", *EMOTIONS, "voice", "face", "basis"]
    )
    for window in prediction.windows:
        parts = [
            None if part is None else named(part, least) for part in (window.voice, window.face)
        ]
        writer.writerow(
            [
                f"{window.start_seconds:.3f}",
                f"{window.end_seconds:.3f}",
                named(window.probabilities, least),
                *(f"{value:.4f}" for value in window.probabilities),
                *parts,
                window.basis,
            ]
        )
    atomic.write_durably(csv_path, stream.getvalue().encode())
    return [json_path, csv_path]


def answered(probabilities: NDArray[np.float32] | None, min_confidence: float = 0.0) -> dict | None:
    """Emotion or ``UNSURE``, the highest probability and all of them, ready for JSON."""
    if probabilities is None:
        return None
    return {
        "emotion": named(probabilities, min_confidence),
        "probability": round(float(probabilities.max()), 4),
        "probabilities": {
            name: round(float(value), 4)
            for name, value in zip(EMOTIONS, probabilities, strict=True)
        },
    }
