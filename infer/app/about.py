"""What the page says of its model: what it was trained on, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infer.prediction.model import Model
from pipeline.spec import EMOTIONS

HEAD_NAMES = {"fused": "voice and face", "audio": "voice alone", "video": "face alone"}


def summary(model: Model) -> str:
    """Say in one paragraph what the model was trained on, and how well it did, as Markdown."""
    corpus = model.corpus or "a corpus that its `model.json` does not name"
    heads = {
        name: metrics
        for name in HEAD_NAMES
        if (metrics := model.description["metrics"].get(name)) and name in model.learned
    }
    if not heads:
        return f"The model was trained on {corpus}. How well it does was not tested."
    recalls = ", ".join(
        f"{HEAD_NAMES[name]} **{100 * metrics['uar']:.0f} %**" for name, metrics in heads.items()
    )
    recall = next(iter(heads.values()))["recall"]
    chance = 1 / sum(value is not None for value in recall.values())
    return (
        f"The model was trained on {corpus}. Average recall on {tested_on(model.description)}: "
        f"{recalls}; chance is {100 * chance:.1f} %."
    )


def tested_on(description: Mapping[str, Any]) -> str:
    """Name what the metrics were measured on."""
    metrics = description["metrics"]
    clips, actors = metrics.get("clips"), metrics.get("actors")
    if clips is None or actors is None:
        return "its test set"
    plural = "actor" if len(actors) == 1 else "actors"
    return f"{clips} clips of {len(actors)} {plural} that it had not seen"


def table(model: Model) -> list[list[str]]:
    """Return the recall of each emotion, a row each: emotion, then a column for each head."""
    metrics = model.description["metrics"]
    return [
        [name, *(percent(metrics.get(head, {}).get("recall", {}).get(name)) for head in HEAD_NAMES)]
        for name in EMOTIONS
    ]


def percent(part: float | None) -> str:
    """Write a part of one; a dash where there was nothing to measure."""
    return "-" if part is None else f"{100 * part:.0f} %"
