import dataclasses

import pytest

from pipeline.spec import FeatureSpec, variant_names


def test_shapes_are_the_users():
    for spec in (FeatureSpec(), FeatureSpec.as_published()):
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


def test_every_field_changes_the_digest():
    spec = FeatureSpec()
    changed = {int: 7, float: 1.5, str: "other", tuple: ("noise",)}
    digests = {
        dataclasses.replace(spec, **{field.name: changed[type(field.default)]}).digest
        for field in dataclasses.fields(spec)
    }
    assert len(digests | {spec.digest}) == len(dataclasses.fields(spec)) + 1


def test_json_round_trip_and_refusals():
    spec = FeatureSpec.as_published(variants=variant_names(5))
    assert FeatureSpec.from_json(spec.to_json()) == spec
    for text in (
        "{}",
        "[]",
        spec.to_json().replace('"crop":"whole"', '"crop":1'),
        spec.to_json().replace('"crop"', '"crop_box"'),
        "not json",
    ):
        with pytest.raises(ValueError):
            FeatureSpec.from_json(text)


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
