"""``model.json``: what a trained model is, read without Keras."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

KERAS_NAME, DESCRIPTION_NAME, ONNX_NAME = "model.keras", "model.json", "model.onnx"
FORMAT_VERSION = 2
TRAIN_AGAIN = "use the code that trained it, or train again"

KINDS = {"actors": dict, "settings": dict, "metrics": dict, "seen": list, "cache": str}
ACTOR_PATTERN = re.compile(r"[^:]+:\d+")
"""An actor of one of several corpora."""


def read(folder: Path) -> tuple[dict, FeatureSpec]:
    """Read the description of a model, and the spec in it.

    Raises
    ------
    InputError
        If it or ``model.keras`` is missing, or it describes something this code cannot serve.
    """
    path = folder / DESCRIPTION_NAME
    if not path.is_file() or not (folder / KERAS_NAME).is_file():
        raise InputError(
            f"expected {KERAS_NAME} and {DESCRIPTION_NAME} in {folder}, got neither or one; run "
            "'make train' first, or 'make demo' for a model of drawn faces"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, emotions = content["format_version"], tuple(content["emotions"])
        if version != FORMAT_VERSION or emotions != EMOTIONS:
            raise ValueError(f"format {version} for {', '.join(map(str, emotions))}")
        spec = FeatureSpec.from_json(json.dumps(content["spec"]))
        known = FeatureSpec().revision
        if spec.revision != known:
            raise ValueError(f"revision {spec.revision} of the features, this code makes {known}")
        refuse_other_kinds(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"expected a model this code can serve in {folder}, got: {reason}; {TRAIN_AGAIN}"
        ) from error
    return content, spec


def refuse_other_kinds(content: dict) -> None:
    """Compare the parts of a description with what :func:`train.artefact.save` writes.

    Raises
    ------
    KeyError, TypeError
        If one is missing, or of another kind.
    """
    for name, kind in KINDS.items():
        if not isinstance(content[name], kind):
            raise TypeError(f"expected {kind.__name__} for {name}, got {content[name]!r}")
    named = [actor for actors in content["actors"].values() for actor in actors]
    if not all(type(actor) is int or ACTOR_PATTERN.fullmatch(str(actor)) for actor in named):
        raise TypeError(f"expected numbers of actors, got {named!r}")
    for corpus in content.get("corpora", ()):
        if not set(corpus["emotions"]) <= set(EMOTIONS) or not isinstance(corpus["name"], str):
            raise TypeError(f"expected a corpus and its emotions, got {corpus!r}")
    if not all(isinstance(sha256, str) for sha256 in content["seen"]):
        raise TypeError("expected hashes of the recordings seen, got something else")
