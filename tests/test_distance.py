"""Normal distributions of embeddings, against what they are drawn from."""

import numpy as np
import pytest

from train.evaluation import distance


@pytest.fixture(scope="module")
def drawn():
    """Embeddings of three classes that share a covariance; also their means and the covariance."""
    random = np.random.default_rng(0)
    mixing = np.eye(5) + random.normal(0, 0.15, (5, 5))
    label = random.choice([0, 2, 5], 6000)
    means = random.normal(0, 4, (8, 5))
    embedding = means[label] + random.normal(size=(6000, 5)) @ mixing
    return embedding.astype(np.float32), label, means, mixing.T @ mixing


def test_distances_are_those_of_mahalanobis_to_the_nearest_class(drawn):
    embedding, label, means, covariance = drawn
    whitening, centres = distance.fit_gaussians(embedding, label)
    found = distance.nearest_mean(embedding, whitening, centres)
    apart = embedding[:, np.newaxis] - means[[0, 2, 5]]
    inverse = np.linalg.inv(covariance)
    squares = np.einsum("nci,ij,ncj->nc", apart, inverse, apart)
    assert found == pytest.approx(np.sqrt(squares.min(axis=1)), rel=0.1, abs=0.2)
    assert (whitening.dtype, centres.shape) == (np.float32, (8, 5))


def test_whitened_embeddings_vary_alike_in_every_direction(drawn):
    embedding, label, _, _ = drawn
    whitening, centres = distance.fit_gaussians(embedding, label)
    white = embedding @ whitening - centres[label]
    assert np.cov(white.T) == pytest.approx(np.eye(5), abs=0.1)


def test_a_class_without_clips_lies_in_the_middle_of_all(drawn):
    embedding, label, _, _ = drawn
    whitening, centres = distance.fit_gaussians(embedding, label)
    middle = embedding.mean(axis=0, dtype=np.float64) @ whitening
    for absent in (1, 3, 4, 6, 7):
        assert centres[absent] == pytest.approx(middle, abs=1e-3)


def test_fewer_clips_than_features_and_features_that_never_change_stay_finite():
    random = np.random.default_rng(1)
    embedding = random.normal(size=(6, 20)).astype(np.float32)
    embedding[:, 3] = 0
    whitening, centres = distance.fit_gaussians(embedding, np.array([0, 0, 0, 1, 1, 1]))
    found = distance.nearest_mean(embedding + 1, whitening, centres)
    assert np.isfinite(whitening).all() and np.isfinite(found).all() and (found > 0).all()
