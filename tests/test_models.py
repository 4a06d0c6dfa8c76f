"""The branches and their fusion: what each output is made of, and who learns from what."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from pipeline.spec import FeatureSpec
from train import runtime
from train.data.statistics import MfccStatistics
from train.heads import AUGMENTATIONS, INPUTS
from train.models import fusion, layers
from train.settings import Settings

KNOWN = MfccStatistics(np.zeros(40, np.float32), np.ones(40, np.float32), np.ones(40, np.float32))


def rows_of(spec, count=4, seed=0):
    random = np.random.default_rng(seed)
    return {
        "mfcc": random.normal(size=(count, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(1, 256, (count, *spec.frames_shape), dtype=np.uint8),
    }


def build(name, spec, settings=Settings()):  # noqa: B008 - it is frozen
    return fusion.BUILDERS[name](spec, KNOWN, settings)


def answers(model, given):
    """Outputs of a model that is asked with the tensors that it reads."""
    said = model({name: given[name] for name in model.input})
    return {name: np.asarray(value) for name, value in said.items()}


@pytest.fixture(scope="module")
def branches(small_spec):
    keras.utils.set_random_seed(0)
    return {name: build(name, small_spec) for name in INPUTS}


@pytest.fixture(scope="module")
def network(branches):
    """Untrained branches and a fusion whose fitted layers hold made-up values."""
    made = fusion.build(branches, list(INPUTS), Settings())
    for head, temperature in (("audio", 1.5), ("video", 0.7), ("fused", 2.0)):
        made.get_layer(f"{head}_temperature").temperature.assign(temperature)
    random = np.random.default_rng(5)
    correction = made.get_layer("fusion_logits")
    correction.set_weights([random.normal(0, 0.3, value.shape) for value in correction.weights])
    return made


@pytest.fixture(scope="module")
def given(small_spec):
    return rows_of(small_spec)


@pytest.mark.parametrize("name", INPUTS)
def test_a_branch_is_a_classifier_with_an_embedding(branches, given, name):
    assert set(branches[name].input) == {INPUTS[name]}
    said = answers(branches[name], given)
    assert said["logits"].shape == (4, 8) and said["logits"].dtype == np.float32
    assert said["embedding"].shape[0] == 4 and said["embedding"].ndim == 2
    assert np.isfinite(said["embedding"]).all()


def test_the_audio_logits_are_the_mean_of_encoders_that_learn_apart(branches, given):
    audio, mfcc = branches["audio"], {"mfcc": given["mfcc"]}
    said = answers(audio, given)
    encoders = [name for name in said if name.endswith("_logits")]
    mean = np.mean([said[name] for name in encoders], axis=0)
    assert len(encoders) > 1 and said["logits"] == pytest.approx(mean, abs=1e-5)
    with tf.GradientTape(persistent=True) as tape:
        losses = {name: keras.ops.sum(audio(mfcc)[name]) for name in ("logits", *encoders)}
    variables = audio.trainable_variables
    learning = {
        name: {
            place
            for place, gradient in enumerate(tape.gradient(loss, variables))
            if gradient is not None
        }
        for name, loss in losses.items()
    }
    assert learning.pop("logits") == set()
    # Together they are all variables, and no two share one.
    counts = [len(places) for places in learning.values()]
    assert min(counts) > 4 and sum(counts) == len(variables)
    assert set().union(*learning.values()) == set(range(len(variables)))


@pytest.mark.parametrize("name", INPUTS)
def test_a_branch_is_trained_saved_and_loaded_by_itself(small_spec, tmp_path, name):
    keras.utils.set_random_seed(0)
    branch, given = build(name, small_spec), rows_of(small_spec)
    inputs = {INPUTS[name]: given[INPUTS[name]]}
    before = branch.get_weights()
    auxiliary = [output for output in branch.output if output.endswith("_logits")]
    classifier = keras.Model(branch.input, branch.output[[*auxiliary, "logits"][0]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss, jit_compile=False)
    classifier.fit(inputs, np.array([0, 2, 4, 7]), epochs=1, verbose=0)
    moved = [np.abs(a - b).max() > 0 for a, b in zip(before, branch.get_weights(), strict=True)]
    assert any(moved)
    branch.save(tmp_path / "branch.keras")
    loaded = keras.models.load_model(tmp_path / "branch.keras", compile=False, safe_mode=True)
    expected, found = answers(branch, given), answers(loaded, given)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_augmentations_are_layers_that_can_be_left_out(branches, small_spec, name):
    names = AUGMENTATIONS[name]
    assert all(branches[name].get_layer(one) for one in names)
    plain = build(name, small_spec, Settings(without=names))
    assert not {layer.name for layer in plain.layers} & set(names)
    assert plain.count_params() == branches[name].count_params()


def test_everything_random_has_a_state_that_a_checkpoint_holds(branches):
    """Each dropout and each augmentation: a resumed training draws what another would have."""
    for branch in branches.values():
        random = [layer for layer in branch.layers if hasattr(layer, "seed_generator")]
        held = {id(variable) for variable in branch.variables}
        assert len(random) >= 3
        assert all(id(layer.seed_generator.state) in held for layer in random)


# Fusion


def test_outputs_are_probabilities_and_distances(network, given):
    said = answers(network, given)
    heads, distances = {"fused", "audio", "video"}, {"audio_distance", "video_distance"}
    assert said.keys() == heads | distances
    for name, value in said.items():
        assert value.dtype == np.float32
        assert value.shape == ((4, 8) if name in heads else (4, 1))
    for head in heads:
        assert said[head].sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_fused_probabilities_by_hand(network, branches, given):
    """The sum of the branches' calibrated logits and the correction, by a temperature."""
    said, own = answers(network, given), {n: answers(b, given) for n, b in branches.items()}
    temperatures = {"audio": 1.5, "video": 0.7}
    logits = {name: own[name]["logits"] / temperatures[name] for name in own}
    for name, values in logits.items():
        assert said[name] == pytest.approx(special.softmax(values, axis=1), abs=1e-5)
    x = np.concatenate([own[name]["embedding"] for name in INPUTS], axis=1)
    dense, last = network.get_layer("fusion_dense"), network.get_layer("fusion_logits")
    hidden = np.maximum(x @ dense.kernel.numpy() + dense.bias.numpy(), 0)
    correction = hidden @ last.kernel.numpy() + last.bias.numpy()
    fused = special.softmax((logits["audio"] + logits["video"] + correction) / 2.0, axis=1)
    assert said["fused"] == pytest.approx(fused, abs=1e-5)
    pooled = answers(fusion.pooled_logits(network), given)["logits"]
    assert special.softmax(pooled / 2.0, axis=1) == pytest.approx(fused, abs=1e-5)


def test_before_it_is_trained_the_fusion_adds_nothing(branches, given):
    fresh = fusion.build(branches, list(INPUTS), Settings())
    said, own = answers(fresh, given), {n: answers(b, given) for n, b in branches.items()}
    expected = special.softmax(own["audio"]["logits"] + own["video"]["logits"], axis=1)
    assert said["fused"] == pytest.approx(expected, abs=1e-5)


def test_each_branch_reads_its_own_modality(network, given):
    before = answers(network, given)
    after = answers(network, given | {"mfcc": -given["mfcc"]})
    assert np.array_equal(before["video"], after["video"])
    assert not np.array_equal(before["audio"], after["audio"])
    assert not np.array_equal(before["fused"], after["fused"])


def test_without_a_modality_the_fused_logits_are_those_of_the_other_branch(network, given):
    given = {name: tensor.copy() for name, tensor in given.items()}
    given["mfcc"][1] = 0
    given["frames"][2] = 0
    given["frames"][3, :-1] = 0
    said = answers(network, given)
    pooled = answers(fusion.pooled_logits(network), given)["logits"]
    for row, branch in ((1, "video"), (2, "audio")):
        logits = np.log(said[branch][row])
        apart = pooled[row] - logits
        assert apart == pytest.approx(np.full(8, apart[0]), abs=1e-4)
    for row in (0, 3):
        apart = pooled[row] - np.log(said["video"][row])
        assert np.ptp(apart) > 1e-2


@pytest.mark.parametrize("name", INPUTS)
def test_an_untrained_branch_counts_nothing(branches, given, name):
    alone = fusion.build(branches, [name], Settings())
    said = answers(alone, given)
    assert said["fused"] == pytest.approx(said[name], abs=1e-6)


def test_a_branch_that_does_not_know_a_clip_weighs_less(branches, given):
    made = fusion.build(branches, list(INPUTS), Settings())
    before = answers(made, given)
    layer = made.get_layer("video_distance")
    layer.whitening.assign(10 * np.eye(layer.whitening.shape[0]))
    after = answers(made, given)
    assert (after["video_distance"] > 3).all() and not after["audio_distance"].any()
    expected = np.log(before["audio"]) + np.log(before["video"]) / after["video_distance"] ** 2
    assert after["fused"] == pytest.approx(special.softmax(expected, axis=1), abs=1e-4)


def test_fusion_teaches_no_branch(network, branches, given):
    with tf.GradientTape() as tape:
        logits = fusion.pooled_logits(network)(given)["logits"]
        loss = keras.ops.sum(logits[:, 0])
    variables = [*network.get_layer("fusion_dense").weights]
    variables += network.get_layer("fusion_logits").weights
    assert all(gradient is not None for gradient in tape.gradient(loss, variables))
    for branch in branches.values():
        branch.trainable = False
    taught = fusion.pooled_logits(network).trainable_variables
    for branch in branches.values():
        branch.trainable = True
    assert {id(variable) for variable in taught} == {id(variable) for variable in variables}


def test_the_model_is_small():
    """At most 5 MB, with the shapes of the default recipe."""
    spec = FeatureSpec()
    made = fusion.build({name: build(name, spec) for name in INPUTS}, list(INPUTS), Settings())
    assert made.count_params() * 4 < 5e6
    assert {name: tensor.dtype for name, tensor in made.input.items()} == {
        "mfcc": "float32",
        "frames": "uint8",
    }


# Speaker reference


@pytest.mark.parametrize("name", INPUTS)
def test_a_reference_is_one_of_the_means_that_the_model_puts_out(small_spec, name):
    """A clip that is compared with itself differs from it by nothing but its change over time."""
    branch = build(name, small_spec, Settings(speaker_reference="recording"))
    reference = f"{INPUTS[name]}_reference"
    assert set(branch.input) == {INPUTS[name], reference}
    compared = [one for one in branch.layers if isinstance(one, layers.LevelAndChange)]
    level = keras.Model(branch.input, [layer.output for layer in compared])
    given = rows_of(small_spec)
    zero = np.zeros((4, *branch.input[reference].shape[1:]), np.float32)
    own = answers(branch, given | {reference: zero})["average"]
    assert own.shape == zero.shape
    for both in level({INPUTS[name]: given[INPUTS[name]], reference: own}):
        levels, changes = np.split(np.asarray(both), 2, axis=-1)
        assert levels == pytest.approx(changes, abs=1e-3)


def test_a_network_with_a_reference_names_its_inputs_and_averages(small_spec):
    settings = Settings(speaker_reference="neutral")
    made = fusion.build(
        {name: build(name, small_spec, settings) for name in INPUTS}, list(INPUTS), settings
    )
    assert set(made.input) == {"mfcc", "frames", "mfcc_reference", "frames_reference"}
    assert {"mfcc_average", "frames_average"} <= set(made.output)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_probabilities_are_float32_whatever_the_precision(small_spec, given, policy):

    with runtime.precision(policy):
        branches = {name: build(name, small_spec) for name in INPUTS}
        made = fusion.build(branches, list(INPUTS), Settings())
    assert branches["video"].get_layer("time_1").compute_dtype == policy.split("_")[1]
    assert {output.dtype for output in made.output.values()} == {"float32"}
    said = answers(made, given)
    plain = fusion.build({n: build(n, small_spec) for n in INPUTS}, list(INPUTS), Settings())
    plain.set_weights(made.get_weights())
    for head, value in answers(plain, given).items():
        assert said[head] == pytest.approx(value, abs=0.03)


def test_coefficients_are_standardised_before_they_are_rounded_to_half_precision(small_spec):
    settings = Settings(without=("vocal_tract", "speaker"))
    with runtime.precision("mixed_float16"):
        branch = build("audio", small_spec, settings)
    near = np.full((1, *small_spec.mfcc_shape), -500.0, np.float32)
    near[0, 0, :, 0] += np.linspace(0, 0.2, small_spec.mfcc_shape[1], dtype=np.float32)
    standardised = keras.Model(branch.input, branch.get_layer("standardization").output)
    first, *_, last = standardised({"mfcc": near})[0, :, 0, 0].numpy()
    assert last - first == pytest.approx(0.2 / np.sqrt(KNOWN.variance[0]), rel=1e-3)
