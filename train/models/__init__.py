"""The network: a branch for each modality, and their fusion."""

from train.models import augmentation, layers

__all__ = ["augmentation", "layers"]
