"""Training of the bundled models with PyTorch on one CPU thread: ordinary layers, ordinary initialisation, Adam."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from samples import SEED, T_MAX, damped_sine
from torch import Tensor, nn
from torch.nn import functional

Arrays = dict[str, NDArray[np.float32]]


def seed() -> None:
    """The same numbers in every run on the same machine: one thread, fixed seed, deterministic kernels."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)


def mlp(width: int, depth: int) -> nn.Sequential:
    """64 pixels, `depth` hidden ReLU layers of `width`, 10 logits; He initialisation."""
    sizes = [64, *[width] * depth]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


class Block(nn.Module):
    """One pre-norm encoder layer: attention, then a Gelu perceptron, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_attention(x)
        query, key, value = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
        x = x + self.output((weights @ value).transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x))))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.position
        for block in self.blocks:
            h = block(h)
        pooled: Tensor = self.norm(h).mean(dim=1)
        return torch.as_tensor(self.head(pooled))


class Residual(nn.Module):
    """(batch, 3) to two logits. The stem is drawn wide: sin(45 pi t) turns nine times on |t| <= 0.2."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        nn.init.normal_(self.stem.weight, std=60.0)
        nn.init.normal_(self.stem.bias, std=7.0)
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(blocks))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            inner, outer = block.children()
            h = h + outer(torch.tanh(inner(h)))
        return torch.as_tensor(self.head(h))


def train_digits(network: nn.Module, pixels: NDArray[np.float32], labels: NDArray[np.int64], epochs: int, decay: float) -> Arrays:
    """Cross-entropy, AdamW with a cosine schedule, batches of 64."""
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
    return arrays(network)


def fit_residual(network: nn.Module, steps: int) -> Arrays:
    """Mean square error of the logit difference on 801 points of [-T_MAX, T_MAX], L-BFGS in float64; weights are rounded once, at the end.

    softmax gives p0 = (1 + s)/2 where the logits differ by 2 artanh(s), so the target is exact, and better conditioned than p0 itself.
    """
    network.double()
    t = np.linspace(-T_MAX, T_MAX, 801)
    x = torch.from_numpy(np.stack([t, 0 * t, 0 * t], axis=1))
    margin = torch.from_numpy(2.0 * np.arctanh(2.0 * damped_sine(t) - 1.0))
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=steps, history_size=30, line_search_fn="strong_wolfe", tolerance_grad=0.0, tolerance_change=0.0
    )

    def closure() -> Any:
        optimizer.zero_grad()
        logits = network(x)
        loss = functional.mse_loss(logits[:, 0] - logits[:, 1], margin)
        loss.backward()
        return loss

    optimizer.step(closure)
    return arrays(network)


def arrays(network: nn.Module) -> Arrays:
    return {name: value.detach().numpy().astype(np.float32) for name, value in network.state_dict().items()}
