"""Calibration statistics of the uncompressed networks: collected once, when first needed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from paredown.compressors.statistics.calibration import Calibration, CalibrationData, calibrate
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.storage.shelf import Shelf
from paredown.search.config.schema import Config, CustomTask
from paredown.search.tasks.cache import cache_folder, digest
from paredown.search.tasks.task import Task, UserLoss
from paredown.search.tasks.user_code import code_digest
from paredown.spaces.capture.capturing import Captured, as_inputs
from paredown.spaces.structure.model_map import ModelMap

_BATCH = 64
STATISTICS_BYTES = 4 * 2**30
"""Calibration statistics kept on disk, over all models and runs."""
RESTORED_ROWS = 512
"""Calibration rows that statistics are restored on: more cost time and change little."""


class Collected:
    """Statistics and ranges by architecture, each collected when it is first asked for.

    Args:
        captured: By architecture.
        maps: Likewise.
        device: Where the networks run for it.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        captured: Mapping[str, Captured],
        maps: Mapping[str, ModelMap],
        device: torch.device,
    ) -> None:
        self._config = config
        self._task = task
        self._captured = captured
        self._maps = maps
        self._device = device
        self._found: dict[str, Calibration] = {}

    def of(self, architecture: str) -> Calibration:
        """Those of one network: from this process, from disk, or collected now.

        Raises:
            StatisticsError: The calibration data give nothing to count.
        """
        if architecture not in self._found:
            captured, model_map = self._captured[architecture], self._maps[architecture]
            self._found[architecture] = _collect(
                captured, model_map, self._task, self._config, self._device
            )
        return self._found[architecture]


def _collect(
    captured: Captured, model_map: ModelMap, task: Task, config: Config, device: torch.device
) -> Calibration:
    split = task.splits.calibration.on(device)
    graph = captured.graph
    rows = min(RESTORED_ROWS, len(split))
    batches = [
        (as_inputs(graph, i), t, split.real_positions(i)) for i, t in split.batches(_BATCH, rows)
    ]
    classifies = task.loss_name == "cross_entropy"

    def _summed_loss(outputs: tuple[Tensor, ...], targets: object) -> Tensor:
        size = targets[0].shape[0] if isinstance(targets, tuple) else targets.shape[0]  # type: ignore[attr-defined]
        return task.loss(outputs, targets) * size  # type: ignore[arg-type]

    loss_digest = _loss_digest(task, config)
    return calibrate(
        graph,
        captured.tensors,
        model_map.layers,
        CalibrationData(
            batches=[inputs for inputs, _, _ in batches],
            loss=summed_cross_entropy if classifies else _summed_loss,
            targets=None if classifies else [targets for _, targets, _ in batches],
            loss_digest=loss_digest or "",
            seed=config.search.seed,
            real=[real for _, _, real in batches if real is not None] or None,
            device=device,
        ),
        shelf=Shelf(cache_folder() / "statistics", STATISTICS_BYTES) if loss_digest else None,
    )


def _loss_digest(task: Task, config: Config) -> str | None:
    """Stands for the loss; of the user's own, for all code it may use. None if that is no file."""
    if not isinstance(task.loss, UserLoss) or not isinstance(config.task, CustomTask):
        return digest(task.loss_name)
    return code_digest(task.loss_name, config.task.code_folder)
