"""Reads a captured model into a `ModelMap`: what may be changed about it, what not, and why."""

from __future__ import annotations

import torch

from paredown.spaces.capture.capturing import Captured, CaptureError
from paredown.spaces.structure.blocks import read_blocks
from paredown.spaces.structure.channels import read_channels
from paredown.spaces.structure.dynamic_values import batch_places
from paredown.spaces.structure.layers import read_layers
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.segments import read_segments
from paredown.spaces.structure.side_values import masked_values
from paredown.spaces.structure.verifying import verified


def read_model_map(captured: Captured) -> ModelMap:
    """Layers, verified channel groups and blocks, and segments of a captured model.

    What cannot be handled, or fails verification, is listed in `left_out` with the reason; the
    rest of the map stays usable.

    Raises:
        CaptureError: The network runs at one batch size only.
    """
    try:
        places = batch_places(captured.graph, captured.tensors)
    except RuntimeError as error:
        raise CaptureError(
            f"the network must run at any batch size, got at another than the example's: "
            f"{str(error).splitlines()[0]}; write x.shape[0] or -1 for the batch in its reshapes"
        ) from error
    layers, layers_left_out = read_layers(captured)
    channels = read_channels(captured, layers)
    model_map = ModelMap(
        graph=captured.graph,
        layers=layers,
        groups=channels.groups,
        blocks=read_blocks(captured.graph, layers),
        segments=read_segments(captured.graph, layers),
        tensor_parts=channels.tensor_parts,
        value_parts=channels.value_parts,
        left_out=(*layers_left_out, *channels.left_out),
        tensor_shapes={name: tuple(t.shape) for name, t in captured.tensors.items()},
        batch_places=places,
        tensor_dtypes={
            name: str(t.dtype).removeprefix("torch.")
            for name, t in captured.tensors.items()
            if t.dtype != torch.float32
        },
        masked=masked_values(captured.graph, captured.tensors),
    )
    with torch.no_grad():
        return verified(model_map, captured.tensors, captured.example)
