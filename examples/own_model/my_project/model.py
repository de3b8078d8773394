"""A network with two named inputs."""

import torch
from torch import Tensor, nn


class SensorNet(nn.Module):
    """A signal (n, 2, 64) and settings (n, 4) to one figure per row, (n, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.signal = nn.Sequential(
            nn.Conv1d(2, channels, 5, padding=2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
        )
        self.settings = nn.Sequential(nn.Linear(4, channels), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(2 * channels, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, signal: Tensor, settings: Tensor) -> Tensor:
        seen = self.signal(signal).mean(2)
        return self.head(torch.cat([seen, self.settings(settings)], 1))


def make_model(channels: int) -> nn.Module:
    """The network; its trained weights are the file that the config names."""
    return SensorNet(channels)
