"""A training step, against the same layers in PyTorch.

PyTorch is an opponent, not a dependency: ``pip install -r bench/requirements.txt`` where it is
wanted; without it the part says so and measures nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from bench.timing import medians
from pipeline.spec import EMOTIONS, FeatureSpec
from train import audio_branch, cepstrum, heads, layers, model, runtime, stage, video_branch
from train.settings import Settings

BATCH = 16
STEPS = 8
ROUNDS = 5


def keras_steps(inputs: dict, labels: np.ndarray) -> Callable[[], None]:
    """Return some training steps of the project's own network."""
    spec = FeatureSpec()
    zeros = np.zeros(spec.mfcc_count, np.float32)
    network = model.build_fusion_cnn(spec, zeros, zeros + 1)
    lessons = stage.compiled(network, Settings())
    targets = dict.fromkeys(lessons.output, labels)

    def train() -> None:
        for _ in range(STEPS):
            lessons.train_on_batch(inputs, targets)

    return train


def torch_steps(inputs: dict, labels: np.ndarray) -> Callable[[], None]:
    """Return the same steps of the same layers in PyTorch."""
    import torch
    from torch import nn

    momentum = 1 - layers.BATCH_NORMALIZATION_MOMENTUM
    spec = FeatureSpec()

    def normalized(kind: type, channels: int) -> list:
        return [kind(channels, eps=1e-3, momentum=momentum), nn.ReLU()]

    class Embedding(nn.Module):
        """The end of each branch, as :func:`train.layers.embedded`."""

        def __init__(self, features: int) -> None:
            super().__init__()
            self.instant = nn.Linear(features, layers.INSTANT, bias=False)
            self.instant_norm = nn.BatchNorm1d(layers.INSTANT, eps=1e-3, momentum=momentum)
            self.dense = nn.Linear(2 * layers.INSTANT, layers.EMBEDDING, bias=False)
            self.norm = nn.BatchNorm1d(layers.EMBEDDING, eps=1e-3, momentum=momentum)
            self.first, self.last = nn.Dropout(0.2), nn.Dropout(0.4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Take (batch, time, features) to (batch, EMBEDDING)."""
            x = self.instant(self.first(x)).transpose(1, 2)
            x = torch.relu(self.instant_norm(x))
            x = torch.cat([x.mean(2), x.amax(2)], 1)
            return self.last(torch.relu(self.norm(self.dense(x))))

    class Recurrent(nn.Module):
        """The reader of :func:`train.audio_branch.hear_in_order`."""

        def __init__(self, features: int) -> None:
            super().__init__()
            filters = audio_branch.GRU_FILTERS
            self.stem = nn.Sequential(
                nn.Conv1d(features, filters, 5, 2, 2, bias=False),
                *normalized(nn.BatchNorm1d, filters),
                nn.Dropout1d(0.1),
            )
            self.gru = nn.GRU(filters, audio_branch.GRU_UNITS, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Take (batch, features, time) to (batch, time, 2 * GRU_UNITS)."""
            return self.gru(self.stem(x).transpose(1, 2))[0]

    class Picture(nn.Sequential):
        """The reader of :func:`train.audio_branch.hear_as_picture`."""

        def __init__(self) -> None:
            first, *_ = audio_branch.CNN_FILTERS
            hear = [nn.Conv2d(2, first, 5, 2, 2, bias=False), *normalized(nn.BatchNorm2d, first)]
            channels = first
            for depth, filters in enumerate(audio_branch.CNN_FILTERS):
                hear += [nn.MaxPool2d(2)] if depth else []
                for _ in range(1 + min(depth, 1)):
                    hear.append(nn.Conv2d(channels, filters, 3, 1, 1, bias=False))
                    hear += normalized(nn.BatchNorm2d, filters)
                    channels = filters
                hear.append(nn.Dropout2d(0.1))
            super().__init__(*hear)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Take (batch, 2, height, time) to (batch, time, features)."""
            return super().forward(x).permute(0, 3, 2, 1).flatten(2)

    class Network(nn.Module):
        """The fusion network, as :func:`train.model.build_fusion_cnn`."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bands", torch.rand(spec.mfcc_count, cepstrum.READ_BANDS))
            heights = {"cepstrum": spec.mfcc_count, "bands": cepstrum.READ_BANDS}
            readers, ends = {}, {}
            for reader in heads.READERS:
                view, kind = reader.split("_")
                if kind == "cnn":
                    readers[reader] = Picture()
                    features = heights[view] // 8 * audio_branch.CNN_FILTERS[-1]
                else:
                    readers[reader] = Recurrent(2 * heights[view])
                    features = 2 * audio_branch.GRU_UNITS
                ends[reader] = Embedding(features)
            self.hear, self.heard = nn.ModuleDict(readers), nn.ModuleDict(ends)
            kernel = torch.from_numpy(video_branch.directions()).float()
            self.register_buffer("slopes", kernel.permute(4, 3, 0, 1, 2).contiguous())
            see, channels = [], 2 * kernel.shape[-1]
            for depth, filters in enumerate(video_branch.FILTERS):
                see += [nn.MaxPool3d(2)] if depth else []
                for size, pad in (((1, 3, 3), (0, 1, 1)), ((3, 1, 1), (1, 0, 0))):
                    see.append(nn.Conv3d(channels, filters, size, 1, pad, bias=False))
                    see += normalized(nn.BatchNorm3d, filters)
                    channels = filters
            self.see = nn.Sequential(*see)
            side = spec.frame_size_px // 2 // video_branch.CELL_PX // 2
            self.seen = Embedding(side * side * video_branch.FILTERS[-1])
            self.fusion = nn.Sequential(
                nn.Linear((len(readers) + 1) * layers.EMBEDDING, layers.EMBEDDING),
                nn.ReLU(),
                nn.Dropout(0.4),
            )
            self.heads = nn.ModuleList(
                nn.Linear(layers.EMBEDDING, len(EMOTIONS)) for _ in range(len(readers) + 2)
            )

        def edge_cells(self, x: torch.Tensor) -> torch.Tensor:
            """Do what :func:`train.video_branch.edge_cells` does."""
            x = nn.functional.pad(nn.functional.conv3d(x, self.slopes), (1, 1, 1, 1)).abs()
            x = torch.relu(x - x.roll(2, 1))
            side = video_branch.CELL_PX
            return nn.functional.avg_pool3d(x, (1, side, side))

        def nearest_shown(self, x: torch.Tensor) -> torch.Tensor:
            """Do what :func:`train.video_branch.nearest_shown` does."""
            count = x.shape[2]
            missing = (x == 0).all(4).all(3).all(1)
            instants = torch.arange(count)
            apart = (instants[:, None] - instants).abs()
            chosen = nn.functional.one_hot((apart + count * missing[:, None]).argmin(2), count)
            return (chosen.float() @ x.flatten(3)[:, 0]).view(x.shape)

        def forward(self, mfcc: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
            """Give the scores of the fused head, the video's, and each reader of the voice."""
            image = mfcc.permute(0, 3, 1, 2)
            bands = (image.transpose(2, 3) @ self.bands).transpose(2, 3)
            views = {
                name: torch.cat([x, x - x.mean(3, keepdim=True)], 1)
                for name, x in (("cepstrum", image), ("bands", bands))
            }
            heard = []
            for reader, read in self.hear.items():
                x = views[reader.split("_")[0]]
                x = read(x if isinstance(read, Picture) else x.flatten(1, 2))
                heard.append(self.heard[reader](x))
            y = frames.float().permute(0, 4, 1, 2, 3)
            y = nn.functional.avg_pool3d(y, (1, 2, 2)).mean(1, keepdim=True) / 255
            y = self.nearest_shown(y)
            y = self.edge_cells(nn.functional.layer_norm(y, y.shape[1:]))
            y = torch.log1p(y / video_branch.FAINT)
            change = (y - y.mean(2, keepdim=True)) * video_branch.CHANGE_GAIN
            y = torch.cat([y, change], 1)
            seen = self.seen(self.see(y).permute(0, 2, 3, 4, 1).flatten(2))
            both = self.fusion(torch.cat([told.detach() for told in (*heard, seen)], 1))
            fused, video, *audio = (
                head(told) for head, told in zip(self.heads, (both, seen, *heard), strict=True)
            )
            voice = torch.stack(audio).mean(0)
            return [fused + voice.detach() + video.detach(), video, *audio]

    network = Network().train()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    target = torch.from_numpy(labels)

    def train() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = sum(nn.functional.cross_entropy(scores, target) for scores in network(**tensors))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return train


def measure() -> Iterator[dict]:
    """Yield one result a claim; needs PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("training step: PyTorch is not installed (bench/requirements.txt); not measured")
        return
    runtime.make_reproducible(0)
    spec, random = FeatureSpec(), np.random.default_rng(0)
    inputs = {
        "mfcc": random.normal(size=(BATCH, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (BATCH, *spec.frames_shape), dtype=np.uint8),
    }
    labels = random.integers(0, len(EMOTIONS), BATCH)
    works = {"ours": keras_steps(inputs, labels), "torch": torch_steps(inputs, labels)}
    for work in works.values():
        work()
    took = medians(ROUNDS, **works)
    per_row = {name: 1000 * value / (STEPS * BATCH) for name, value in took.items()}
    yield {
        "what": f"training step, batch {BATCH}: ms a row",
        "ours": per_row["ours"],
        "against": "the same layers in PyTorch",
        "theirs": per_row["torch"],
        "ratio": per_row["torch"] / per_row["ours"],
        "target": ">= 1",
    }
