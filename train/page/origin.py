"""Sections about what cache and model are made of: training data, spec, versions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.corpora.actors import format_actors
from train.page.markup import Markup, details, element, join
from train.page.material import Material, Trained


def definitions(pairs: Sequence[tuple[object, object]]) -> Markup:
    """Write names with what they stand for."""
    return element(
        "dl",
        *(
            element(name, text)
            for pair in pairs
            for name, text in zip(("dt", "dd"), pair, strict=True)
        ),
    )


def learned_from(trained: Trained) -> Markup:
    """Say what the model was trained on, and how."""
    described = trained.description
    sides, seen = described.get("actors", {}), described.get("seen", [])
    settings = described.get("settings", {})
    return join(
        [
            definitions(
                [
                    ("corpus", described.get("corpus") or "not named"),
                    *((f"{side} actors", format_actors(own)) for side, own in sides.items()),
                    ("recordings seen", f"{len(seen):,} files, by SHA-256 in model.json"),
                    ("branches", ", ".join(described.get("learned", [])) or "not named"),
                    ("cache", described.get("cache") or "not named"),
                ]
            ),
            details("Settings of the training", element("pre", json.dumps(settings, indent=1))),
        ]
    )


def versions(material: Material) -> Markup:
    """Spec of the features, and versions of what made cache and model."""
    pairs: list[tuple[object, object]] = []
    spec = None
    if material.index is not None:
        index = material.index
        spec = json.loads(index.spec.to_json())
        made = {json.dumps(shard.libraries, sort_keys=True): shard for shard in index.shards}
        finished = sorted(shard.finished for shard in index.shards)
        pairs += [
            ("cache", index.folder),
            ("cache fingerprint", index.fingerprint),
            ("spec digest", index.spec.digest),
            ("raw folder", index.root),
            (
                "extracted",
                " to ".join(dict.fromkeys(time[:10] for time in (finished[0], finished[-1]))),
            ),
            *(("extracted with", listed(shard.libraries)) for shard in made.values()),
        ]
    if material.trained is not None:
        described = material.trained.description
        spec = spec or described.get("spec")
        pairs += [
            ("model", material.trained.folder),
            ("model's spec digest", described.get("spec_digest", "not named")),
            ("trained with", listed(described.get("libraries", {}))),
            ("commit", described.get("git_commit") or "not named"),
        ]
    text = json.dumps(spec, indent=1)
    return join([definitions(pairs), details("The whole spec", element("pre", text))])


def listed(libraries: dict[str, str]) -> str:
    """Write versions in a line."""
    return ", ".join(f"{name} {version}" for name, version in libraries.items()) or "not named"
