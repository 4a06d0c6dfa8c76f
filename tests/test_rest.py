import dataclasses

import keras
import numpy as np
import pytest
from conftest import tone, write_wav

from infer import predict, recording
from pipeline import index
from pipeline.errors import InputError
from train import artefact, model, rest, table
from train.heads import HEADS
from train.protocol import Split


def softmax(scores):
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_a_persons_deviation_is_taken_away():
    random = np.random.default_rng(0)
    scores, deviation = random.normal(size=(5, 8)), random.normal(size=8)
    general = {"fused": np.log(softmax(random.normal(size=8))).tolist()}
    person = {"fused": np.asarray(general["fused"]) + deviation}
    given = {"fused": softmax(scores).astype(np.float32), "audio": np.full((5, 8), 0.125)}
    related = rest.relate(given, person, general)
    assert related["fused"] == pytest.approx(softmax(scores - rest.SHARE * deviation), abs=1e-6)
    assert related["audio"] is given["audio"]
    alike = rest.relate(given, {"fused": np.array(general["fused"])}, general)
    assert alike["fused"] == pytest.approx(given["fused"], abs=1e-6)


def test_each_actor_is_read_against_the_own_neutral_clips(cache):
    """Actor 4's network sees happiness everywhere: that is taken away, and only for actor 4."""
    rows = table.select_rows(index.find_cache(cache), (2, 3, 4))
    scores = np.zeros((len(rows), 8))
    scores[rows.actor == 4, 2] += 3.0
    given = {head: softmax(scores).astype(np.float32) for head in HEADS}
    others = rows.actor < 4
    general = rest.reference(
        rows.where(others), {head: values[others] for head, values in given.items()}
    )
    assert general["audio"] == pytest.approx([np.log(1 / 8)] * 8)
    scored, related = rest.relate_actors(rows, given, general)
    assert np.array_equal(scored, rows.label != 0)
    assert related["fused"][others] == pytest.approx(given["fused"][others], abs=1e-6)
    expected = softmax((1 - rest.SHARE) * scores[~others])
    assert related["fused"][~others] == pytest.approx(expected, abs=1e-6)


def test_without_neutral_clips_there_is_no_reference_and_nothing_to_score(cache):
    rows = table.select_rows(index.find_cache(cache), (2, 3))
    acted = rows.where(rows.label != 0)
    given = dict.fromkeys(HEADS, np.full((len(acted), 8), 0.125))
    assert len(acted) == 6 and acted.clip.shape == (6,)
    assert rest.reference(acted, given) == {}
    scored, _ = rest.relate_actors(acted, given, {})
    assert not scored.any()


def test_inference_reads_a_recording_against_the_person_at_rest(tmp_path, spec):
    keras.utils.set_random_seed(0)
    network = model.build_fusion_cnn(spec, np.zeros(40, np.float32), np.ones(40, np.float32))
    plain = artefact.Artefact(network, spec, Split((1,), (2,), (3,)), {})
    take = recording.open_recording(write_wav(tmp_path / "a.wav", tone(0.4)), None, spec)
    with pytest.raises(InputError, match="knows people at rest"):
        predict.at_rest(take, plain)
    trained = dataclasses.replace(
        plain, rest={head: [np.log(1 / 8)] * 8 for head in HEADS}, temperatures={"audio": 2.0}
    )
    person = predict.at_rest(take, trained)
    before = predict.predict(take, plain).windows[0].probabilities
    # Sound alone: only the voice's head learns, from the network's own answers.
    assert person.keys() == {"audio"} and person["audio"] == pytest.approx(np.log(before))
    said = predict.predict(take, trained, person=person).windows[0].probabilities
    expected = before ** ((1 - rest.SHARE) / 2)
    assert said == pytest.approx(expected / expected.sum(), abs=1e-5)
