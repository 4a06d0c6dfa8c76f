"""A training step of each branch, against the same layers in PyTorch.

PyTorch is an opponent, not a dependency: ``pip install -r bench/requirements.txt`` where it is
wanted; without it the part says so and measures nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from bench.timing import medians
from pipeline.spec import EMOTIONS, FeatureSpec
from train import runtime
from train.data.statistics import MfccStatistics
from train.heads import INPUTS
from train.loop import stage
from train.models import audio, fusion, layers, video
from train.models.layers import shared
from train.settings import Settings

BATCH = 16
STEPS = 8
ROUNDS = 5
CELL = 4
FAINT = 0.02
SETTINGS = Settings(without=("vocal_tract", "speaker", "view"))
"""Both sides do the layers of inference and their gradients, no augmentation."""


def keras_steps(name: str, inputs: dict, labels: np.ndarray) -> Callable[[], None]:
    """Return some training steps of one of the project's own branches."""
    spec = FeatureSpec()
    zeros = np.zeros(spec.mfcc_count, np.float32)
    branch = fusion.BUILDERS[name](spec, MfccStatistics(zeros, zeros + 1, zeros), SETTINGS)
    model = stage.trainer_of(branch, SETTINGS, (1 / len(EMOTIONS),) * len(EMOTIONS)).model

    def train() -> None:
        for _ in range(STEPS):
            model.train_on_batch(inputs, labels)

    return train


def torch_branches() -> dict[str, Callable]:
    """Return the layers of both branches in PyTorch, by name."""
    import torch
    from torch import nn

    momentum = 1 - shared.BATCH_NORMALIZATION_MOMENTUM
    spec = FeatureSpec()

    def normalized(kind: type, channels: int) -> list:
        return [kind(channels, eps=1e-3, momentum=momentum), nn.ReLU()]

    class Summary(nn.Module):
        """The end of each encoder, as :func:`train.models.layers.summarize`, and its logits."""

        def __init__(self, features: int) -> None:
            super().__init__()
            self.instant = nn.Linear(features, shared.INSTANT_FEATURES, bias=False)
            self.instant_norm = nn.BatchNorm1d(shared.INSTANT_FEATURES, 1e-3, momentum)
            self.dense = nn.Linear(2 * shared.INSTANT_FEATURES, shared.EMBEDDING, bias=False)
            self.norm = nn.BatchNorm1d(shared.EMBEDDING, 1e-3, momentum)
            self.first, self.last = nn.Dropout(0.2), nn.Dropout(0.4)
            self.logits = nn.Linear(shared.EMBEDDING, len(EMOTIONS))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Take (batch, time, features) to (batch, 8)."""
            x = self.instant(self.first(x)).transpose(1, 2)
            x = torch.relu(self.instant_norm(x))
            x = torch.cat([x.mean(2), x.amax(2)], 1)
            return self.logits(self.last(torch.relu(self.norm(self.dense(x)))))

    class Encoders(nn.Module):
        """The convolutional and the recurrent encoder of an image of some height."""

        def __init__(self, height: int) -> None:
            super().__init__()
            channels, *_ = audio.CNN_FILTERS
            cnn = [
                nn.Conv2d(2, channels, 5, 2, 2, bias=False),
                *normalized(nn.BatchNorm2d, channels),
            ]
            for depth, filters in enumerate(audio.CNN_FILTERS):
                cnn += [nn.MaxPool2d(2)] if depth else []
                for _ in range(1 + min(depth, 1)):
                    cnn.append(nn.Conv2d(channels, filters, 3, 1, 1, bias=False))
                    cnn += normalized(nn.BatchNorm2d, filters)
                    channels = filters
                cnn.append(nn.Dropout2d(0.1))
            self.cnn, self.cnn_end = nn.Sequential(*cnn), Summary(height // 8 * channels)
            self.stem = nn.Sequential(
                nn.Conv1d(2 * height, audio.GRU_FILTERS, 5, 2, 2, bias=False),
                *normalized(nn.BatchNorm1d, audio.GRU_FILTERS),
                nn.Dropout1d(0.1),
            )
            self.gru = nn.GRU(
                audio.GRU_FILTERS, audio.GRU_UNITS, batch_first=True, bidirectional=True
            )
            self.gru_end = Summary(2 * audio.GRU_UNITS)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            """Take (batch, 1, height, time) to the logits of both."""
            image = torch.cat([image, image - image.mean(3, keepdim=True)], 1)
            x = self.cnn(image).permute(0, 3, 2, 1).flatten(2)
            y = self.gru(self.stem(image.flatten(1, 2)).transpose(1, 2))[0]
            return [self.cnn_end(x), self.gru_end(y)]

    class Audio(nn.Module):
        """The audio branch: encoders of the coefficients and of the mel bands behind them."""

        def __init__(self) -> None:
            super().__init__()
            bands = layers.MelBands([0.0] * spec.mfcc_count, [1.0] * spec.mfcc_count)
            self.register_buffer(
                "to_bands", torch.tensor(np.array(bands(np.eye(spec.mfcc_count)[:, None, None])))
            )
            height = self.to_bands.shape[-1]
            self.encoders = nn.ModuleList([Encoders(spec.mfcc_count), Encoders(height)])

        def forward(self, mfcc: torch.Tensor) -> list[torch.Tensor]:
            """Give the logits of all four encoders."""
            image = mfcc.permute(0, 3, 1, 2)
            matrix = self.to_bands.flatten(0, 2)
            bands = torch.einsum("nkct,cb->nkbt", image, matrix)
            views = zip(self.encoders, (image, bands), strict=True)
            return [logits for encode, view in views for logits in encode(view)]

    class Video(nn.Module):
        """The video branch."""

        def __init__(self) -> None:
            super().__init__()
            cnn, channels = [], 8
            for depth, filters in enumerate(video.FILTERS):
                cnn += [nn.MaxPool3d(2)] if depth else []
                for size, pad in (((1, 3, 3), (0, 1, 1)), ((3, 1, 1), (1, 0, 0))):
                    cnn.append(nn.Conv3d(channels, filters, size, 1, pad, bias=False))
                    cnn += normalized(nn.BatchNorm3d, filters)
                    channels = filters
            self.cnn = nn.Sequential(*cnn)
            side = spec.frame_size_px // 2 // CELL // 2
            self.end = Summary(side * side * channels)

        def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
            """Give the logits."""
            x = nn.functional.avg_pool3d(frames.float().permute(0, 4, 1, 2, 3), (1, 2, 2))
            x = x.mean(1) / 255
            x = edges(nn.functional.layer_norm(filled(x), x.shape[1:]))
            change = (x - x.mean(2, keepdim=True)) * video.CHANGE_GAIN
            x = self.cnn(torch.cat([x, change], 1))
            return [self.end(x.permute(0, 2, 3, 4, 1).flatten(2))]

    def filled(x: torch.Tensor) -> torch.Tensor:
        """Do what ``FillMissingFrames`` does."""
        count = x.shape[1]
        missing = (x == 0).all(3).all(2)
        instants = torch.arange(count)
        apart = (instants[:, None] - instants).abs()
        chosen = nn.functional.one_hot((apart + count * missing[:, None]).argmin(2), count)
        return (chosen.float() @ x.flatten(2)).view(x.shape)

    def edges(x: torch.Tensor) -> torch.Tensor:
        """Do what ``OrientedGradients`` does, directions as channels."""
        across = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
        down = x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
        root = 2**0.5
        gradients = torch.stack([across, (across + down) / root, down, (down - across) / root], 1)
        strength = gradients.abs()
        strength = nn.functional.pad(torch.relu(strength - strength.roll(2, 1)), (1, 1, 1, 1))
        return torch.log(1 + nn.functional.avg_pool3d(strength, (1, CELL, CELL)) / FAINT)

    return {"audio": Audio(), "video": Video()}


def torch_steps(name: str, inputs: dict, labels: np.ndarray) -> Callable[[], None]:
    """Return the same steps of the same layers in PyTorch."""
    import torch
    from torch import nn

    network = torch_branches()[name].train()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    (tensor,) = (torch.from_numpy(value) for value in inputs.values())
    target = torch.from_numpy(labels)

    def train() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            losses = [nn.functional.cross_entropy(logits, target) for logits in network(tensor)]
            (sum(losses) / len(losses)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return train


def measure() -> Iterator[dict]:
    """Yield one result a branch; needs PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("training step: PyTorch is not installed (bench/requirements.txt); not measured")
        return
    runtime.make_reproducible(0)
    spec, random = FeatureSpec(), np.random.default_rng(0)
    rows = {
        "mfcc": random.normal(size=(BATCH, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (BATCH, *spec.frames_shape), dtype=np.uint8),
    }
    labels = random.integers(0, len(EMOTIONS), BATCH)
    for name, tensor in INPUTS.items():
        inputs = {tensor: rows[tensor]}
        works = {
            "ours": keras_steps(name, inputs, labels),
            "torch": torch_steps(name, inputs, labels),
        }
        for work in works.values():
            work()
        took = medians(ROUNDS, **works)
        per_row = {key: 1000 * value / (STEPS * BATCH) for key, value in took.items()}
        yield {
            "what": f"training step of the {name} branch, batch {BATCH}: ms a row",
            "ours": per_row["ours"],
            "against": "the same layers in PyTorch",
            "theirs": per_row["torch"],
            "ratio": per_row["torch"] / per_row["ours"],
            "target": ">= 1",
        }
