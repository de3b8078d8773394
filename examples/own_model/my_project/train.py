"""Trains the network once and writes trained.safetensors: `python -m my_project.train`."""

import torch
from safetensors.torch import save_file

from my_project.data import draw
from my_project.model import make_model


def main() -> None:
    torch.manual_seed(0)
    net = make_model(channels=32)
    inputs, target = draw(1200, seed=0)
    steps = 40 * 12
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        rows = torch.randperm(len(target))[:100]
        predicted = net(**{name: values[rows] for name, values in inputs.items()})
        loss = torch.nn.functional.mse_loss(predicted, target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    save_file(net.state_dict(), "trained.safetensors")


if __name__ == "__main__":
    main()
