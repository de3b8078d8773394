"""The task that a bundle is checked on, and whether the code that its card names may run.

A card is a file that may have come from anywhere. The import paths on it are code to run, and the id of
a data set is a request to a hub. So both are followed only where someone on this machine vouches for
them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paredown.search.config.reading import ConfigError, card_config, load_config
from paredown.search.config.schema import Cifar10Task, Config, CustomTask, HuggingFaceTask
from paredown.search.study.run_record import CONFIG
from paredown.search.tasks.task import Task, load_task
from paredown.spaces.system.bounded import parse_yaml
from paredown.spaces.system.errors import ParedownError


class NoTaskError(ParedownError):
    """A bundle's task is not to be had here; what needs it stays unchecked."""


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """Where tasks come from: `config`, the user's own, or else each bundle's card.

    `trusts_cards` lets code run, and a hub be asked, that a card alone names.
    """

    config: Config | None = None
    trusts_cards: bool = False

    def load(self, folder: Path, config_yaml: str) -> Task:
        """The task of the bundle in `folder`, whose card holds `config_yaml`.

        Raises:
            NoTaskError: The card's config does not fit this machine, or names code that nobody vouches
                for.
            TaskError, DataError, UserCodeError: `config` names what cannot be used.
        """
        if self.config is not None:
            return load_task(self.config)
        try:
            return load_task(self.card_config(folder, config_yaml))
        except NoTaskError:
            raise
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise NoTaskError(
                f"the task on the card cannot be loaded here ({type(error).__name__}: {reason}); "
                "give its config with --config FILE, and paths of this machine with --set"
            ) from error

    def card_config(self, folder: Path, config_yaml: str, overrides: Sequence[str] = ()) -> Config:
        """The config on the card of the bundle in `folder`, with settings that replace some of it.

        Raises:
            NoTaskError: It names code that nobody vouches for.
            ConfigError: It does not fit this machine.
        """
        config = _read(config_yaml, overrides)
        if (asked := _beyond_built_in(config)) is not None:
            self._check_vouched(folder, config_yaml, asked)
        return config

    def _check_vouched(self, folder: Path, config_yaml: str, asked: str) -> None:
        if self.trusts_cards or run_around(folder, config_yaml) is not None:
            return
        raise NoTaskError(
            f"the card names {asked}, and "
            "no run folder around the bundle has this config; give your own with --config FILE, "
            "or --trust if you know where the bundle is from"
        )


def _beyond_built_in(config: Config) -> str | None:
    """What the task needs beyond paredown and files of this machine: code of a user's, or a hub."""
    task = config.task
    if isinstance(task, CustomTask):
        return f"code to run ({task.data}, {task.model} from {task.code_folder})"
    if isinstance(task, Cifar10Task) and isinstance(task.dataset, str):
        return f"a data set to get from a hub ({task.dataset})"
    if isinstance(task, HuggingFaceTask):
        asked = [each for each in (task.model, task.data.dataset) if isinstance(each, str)]
        return f"what to get from a hub ({', '.join(asked)})" if asked else None
    return None


def _read(config_yaml: str, overrides: Sequence[str]) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG
        path.write_text(config_yaml, encoding="utf-8")
        # No variable of this machine goes into what a card may send to a data hub.
        return load_config(path, overrides, environment={})


def run_around(folder: Path, config_yaml: str) -> Path | None:
    """RUN of a bundle in RUN/bundles/KEY, where RUN/config.yaml says what the card does; else None."""
    run = folder.resolve().parent.parent
    return run if _is_of(run, config_yaml) else None


def _is_of(run: Path, config_yaml: str) -> bool:
    path = run / CONFIG
    if not path.is_file():
        return False
    try:
        own = card_config(load_config(path))
    except ConfigError:
        return False
    # The config on the card has been read within bounds, or its task would be none.
    return bool(parse_yaml(own) == parse_yaml(config_yaml))
