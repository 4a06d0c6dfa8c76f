"""The page as a whole: what it is made of, its sections in order, the document."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cache import index
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from train.page import data, model, origin, worst
from train.page.command import DEFAULTS
from train.page.markup import Markup, element, join, paragraph
from train.page.material import Material, read_audit, read_trained
from train.page.style import STYLE


def gather(arguments: argparse.Namespace) -> Material:
    """Read what a page is made of.

    A cache, model or audit that is named has to be there; one at its default place may be absent.

    Raises
    ------
    InputError
        If there is neither a cache nor a model, or one of them cannot be read.
    """
    if arguments.out.is_dir():
        raise InputError(
            f"expected a file for the page, got the folder {printable(arguments.out)}; name a file"
        )
    places = {name: getattr(arguments, name, default) for name, default in DEFAULTS.items()}
    absent = {
        name
        for name, place in places.items()
        if not hasattr(arguments, name) and not place.exists()
    }
    if {"cache", "model"} <= absent:
        raise InputError(
            f"expected a cache in {places['cache']} or a model in {places['model']}, got neither; "
            "run 'make features' or name one with --cache or --model"
        )
    found = None if "cache" in absent else index.find_cache(places["cache"])
    trained = None if "model" in absent else read_trained(places["model"])
    audit = None if "audit" in absent else read_audit(places["audit"])
    notes = [f"There is no {name} at {places[name]}." for name in sorted(absent)]
    root = None if found is None else found.root
    if audit is not None and root and not hasattr(arguments, "audit") and audit.raw != root:
        notes.append(f"{audit.path} is left out: it is of {audit.raw}, the cache of {root}.")
        audit = None
    if found is not None and trained is not None:
        notes += disagreements(found, trained.description)
    raw = arguments.raw or (Path(root) if root is not None else None)
    return Material(arguments.out, found, trained, audit, raw, notes)


def disagreements(found: index.Index, description: dict) -> list[str]:
    """Say where a model and a cache do not belong together."""
    digest = description.get("spec_digest")
    if digest != found.spec.digest:
        return [
            f"The model was trained on features of another spec ({digest}) than the cache's "
            f"({found.spec.digest})."
        ]
    if description.get("cache") not in ("", None, found.fingerprint):
        return [
            f"The model was trained on a cache of other rows ({description['cache']}) than this "
            f"one's ({found.fingerprint})."
        ]
    return []


def sections(material: Material) -> dict[str, Markup]:
    """Return the sections of a page by their titles, what a reader asks first at the beginning."""
    found: dict[str, Markup] = {}
    trained, has_cache = material.trained, material.index is not None
    tested = trained is not None and "fused" in trained.judged
    if trained is not None:
        found["Result"] = model.headline(trained)
    if has_cache:
        found["Data"] = join([data.facts(material), data.counts(material)])
    if has_cache or material.audit is not None:
        found["Faults"] = data.faults(material)
    if tested:
        found["Worst clips"] = worst.section(material)
        found["Confusion and calibration"] = model.errors(trained.judged)
        found["Actors and emotions"] = model.by_actor(trained.judged)
    if trained is not None:
        found["Learning curves"] = model.curves(trained)
        found["Robustness"] = model.degraded(trained)
    if trained is not None and trained.others:
        found["Other tests"] = model.other_tests(trained)
    if has_cache:
        found["Contact sheet"] = data.contact_sheet(material)
    if trained is not None:
        found["What the model has learned from"] = origin.learned_from(trained)
    found["Spec and versions"] = origin.versions(material)
    return found


def page(material: Material) -> Markup:
    """Write the whole page."""
    name = (material.trained and material.trained.folder) or material.index.folder
    title = f"Emotion recognition: {name}"
    listed = sections(material)
    names = {heading: heading.lower().replace(" ", "-") for heading in listed}
    contents = [
        element("li", element("a", heading, href=f"#{name}")) for heading, name in names.items()
    ]
    body = [
        element(
            "header",
            element("h1", title),
            *(paragraph(note, class_="soft") for note in material.notes),
            element("nav", element("ul", *contents), aria_label="Contents"),
        ),
        element(
            "main",
            *(
                element("section", element("h2", heading, id=names[heading]), content)
                for heading, content in listed.items()
            ),
        ),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    ]
    document = element("html", element("head", *head), element("body", *body), lang="en")
    return join([Markup("<!doctype html>"), document])
