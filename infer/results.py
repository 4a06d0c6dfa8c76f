"""Predictions as files: JSON for programs, CSV for tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.predict import Prediction
from infer.recording import Recording
from pipeline.spec import EMOTIONS


def write_predictions(prediction: Prediction, recording: Recording, stem: Path) -> list[Path]:
    """Write the prediction as ``<stem>.json`` and ``<stem>.csv``.

    Returns
    -------
    list of Path
        The two files.
    """
    answer = prediction.probabilities
    content = {
        "file": recording.path.name,
        "duration_seconds": round(recording.duration_seconds, 3),
        **answered(answer),
        "basis": prediction.basis,
        "voice": answered(prediction.mean("voice")),
        "face": answered(prediction.mean("face")),
        "notes": prediction.notes,
        "windows": [
            {
                "start_seconds": round(window.start_seconds, 3),
                "end_seconds": round(window.end_seconds, 3),
                **answered(window.probabilities),
                "basis": window.basis,
                "voice": answered(window.voice),
                "face": answered(window.face),
                "face_box": None if window.box is None else [round(side) for side in window.box],
                "weight": round(window.weight, 3),
            }
            for window in prediction.windows
        ],
    }
    json_path, csv_path = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.csv")
    json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    with csv_path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["start_seconds", "end_seconds", "emotion", *EMOTIONS, "voice", "face", "basis"]
        )
        for window in prediction.windows:
            parts = [
                part and part["emotion"] for part in map(answered, (window.voice, window.face))
            ]
            writer.writerow(
                [
                    f"{window.start_seconds:.3f}",
                    f"{window.end_seconds:.3f}",
                    window.emotion,
                    *(f"{value:.4f}" for value in window.probabilities),
                    *parts,
                    window.basis,
                ]
            )
    return [json_path, csv_path]


def answered(probabilities: NDArray[np.float32] | None) -> dict | None:
    """Emotion, its probability and all probabilities, ready for JSON."""
    if probabilities is None:
        return None
    best = int(probabilities.argmax())
    return {
        "emotion": EMOTIONS[best],
        "probability": round(float(probabilities[best]), 4),
        "probabilities": {
            name: round(float(value), 4)
            for name, value in zip(EMOTIONS, probabilities, strict=True)
        },
    }
