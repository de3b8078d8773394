"""A trained model of the Hugging Face libraries, with what prepares its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from safetensors import SafetensorError
from torch import Tensor, nn

from paredown.search.config.schema import HuggingFaceTask
from paredown.search.tasks.hub import KEPT_FILES, WEIGHTS, hub_folder
from paredown.search.tasks.own_module import check_values, fit_module
from paredown.search.tasks.splits import DataError
from paredown.spaces.system.errors import ParedownError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_HEADS = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "image-classification": "AutoModelForImageClassification",
    "causal-lm": "AutoModelForCausalLM",
}
_FAULTS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)
"""What the library raises where files do not hold what they should."""
_SHOWN = 4


class PretrainedError(ParedownError):
    """A model of the Hugging Face libraries cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network that returns {"logits": ...}, and what its folder holds beside the weights.

    One of `tokenizer` and `image_processor` is None. `files` are those of `KEPT_FILES`, by name.
    """

    module: nn.Module
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase | None
    image_processor: BaseImageProcessor | None
    files: Mapping[str, bytes]
    notices: tuple[str, ...]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by their numbers."""
        names: dict[int, str] = {int(n): name for n, name in (self.config.id2label or {}).items()}
        return [names[number] for number in sorted(names)]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a model, and how a column of data names them.

    Args:
        named: The column, in words.
        names: Those of the model, by their numbers.
        theirs: Those of the data where they number them too, maybe in another order; else empty.

    Raises:
        DataError: Data and model name different classes.
    """

    named: str
    names: Sequence[str]
    theirs: Sequence[str] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.theirs if self._number(name) is None]
        if unknown and not self._are_unnamed:
            raise DataError(
                f"{self.named} must hold classes of the model, {_few(self.names)}, got "
                f"{_few(unknown)}; name them alike in id2label and label2id of the model's config.json"
            )

    @property
    def _are_unnamed(self) -> bool:
        """Whether the model's classes were never named, and have the library's LABEL_0 and on."""
        return list(self.names) == [f"LABEL_{i}" for i in range(len(self.names))]

    def _number(self, name: str) -> int | None:
        known = {each.casefold(): number for number, each in enumerate(self.names)}
        return known.get(name.casefold())

    def number(self, label: str | int, row: int) -> int:
        """The model's number of the class that a row gives by name or number.

        Raises:
            DataError: The model has no such class.
        """
        number = label if isinstance(label, int) else None
        if number is not None and 0 <= number < len(self.theirs) and not self._are_unnamed:
            label = self.theirs[number]
        if isinstance(label, str):
            number = self._number(label)
        if number is None or not 0 <= number < len(self.names):
            raise DataError(
                f"{self.named} must hold classes of the model, {_few(self.names)} or "
                f"0..{len(self.names) - 1}, got {label!r:.40} in row {row}; correct the row, or set "
                "task.data.columns.label"
            )
        return int(number)


class _WithLogits(Protocol):
    logits: Tensor


class _Logits:
    """A forward hook: the logits alone, under the name that files of such models give them."""

    def __call__(
        self, module: nn.Module, inputs: tuple[Tensor, ...], returned: _WithLogits
    ) -> dict[str, Tensor]:
        return {"logits": returned.logits}


def load_pretrained(section: HuggingFaceTask) -> Pretrained:
    """The model that the section names, in float32, with all its weights.

    Raises:
        PretrainedError: The extra is missing, or the folder lacks config, safetensors or tokenizer.
        DataError: There is no such model on the hub.
        ModuleError: Weights are no numbers.
    """
    named = f"task.model: {section.model}"
    _check_installed()
    folder = _folder(section)
    _check_files(folder, named)
    network = _network(folder, section.kind, named)
    config = network.config
    config.use_cache, config.return_dict = False, True
    network.register_forward_hook(_Logits())
    module, notices = fit_module(network, named)
    check_values(module, named)
    is_of_images = section.kind == "image-classification"
    return Pretrained(
        module=module,
        config=config,
        tokenizer=None if is_of_images else _tokenizer(folder, named),
        image_processor=_image_processor(folder, named) if is_of_images else None,
        files={n: (folder / n).read_bytes() for n in KEPT_FILES if (folder / n).is_file()},
        notices=tuple(notices),
    )


def _check_installed() -> None:
    try:
        import seqeval  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise PretrainedError(
            f"task.name: hf needs the library {error.name}, which is not installed; run "
            "pip install 'paredown[hf]'"
        ) from error


def _folder(section: HuggingFaceTask) -> Path:
    if isinstance(section.model, str):
        return hub_folder(section.model, section.revision)
    if section.revision is not None:
        raise PretrainedError(
            f"task.revision: is of a model on the hub, got {section.revision} for a folder; delete it"
        )
    return section.model


def _check_files(folder: Path, named: str) -> None:
    if not (folder / "config.json").is_file():
        raise PretrainedError(
            f"{named}: must be a folder with config.json, got none in {folder}; write it with the "
            "model's save_pretrained"
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        others = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".h5"))
        raise PretrainedError(
            f"{named}: must hold its weights as {WEIGHTS[0]}, got {', '.join(others) or 'none'} in "
            f"{folder}; other files may run code when they are read, so load them where you trust "
            "them and write them with the model's save_pretrained"
        )


def _network(folder: Path, kind: str, named: str) -> PreTrainedModel:
    import transformers

    head = getattr(transformers, _HEADS[kind])
    network: PreTrainedModel
    with _read(f"{named}: must hold a model for {kind}"):
        network, found = head.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype="auto",
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise PretrainedError(
            f"{named}: must hold all weights of {type(network).__name__}, got none for "
            f"{_few(missing)}; name a model trained for {kind}, or set task.kind"
        )
    return network


def _tokenizer(folder: Path, named: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with _read(f"{named}: must hold a tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    # Without files the library makes one that knows its special tokens and nothing else.
    if len(tokenizer) <= len(tokenizer.all_special_tokens) or not tokenizer.is_fast:
        raise PretrainedError(
            f"{named}: must hold the tokenizer as tokenizer.json, got none in {folder}; write it "
            "there with the tokenizer's save_pretrained"
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise PretrainedError(
                f"{named}: the tokenizer must have a token for padding, got none; set pad_token in "
                f"{folder / 'tokenizer_config.json'}"
            )
        # Masked and left out of the loss, so any token will do.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _image_processor(folder: Path, named: str) -> BaseImageProcessor:
    from transformers import AutoImageProcessor

    with _read(f"{named}: must hold an image processor (preprocessor_config.json)"):
        return AutoImageProcessor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )


@contextmanager
def _read(rule: str) -> Iterator[None]:
    """What the library raises comes out as one sentence; its own lines and bars are kept back."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except _FAULTS as error:
        reason = " ".join(str(error).split())
        raise PretrainedError(f"{rule}, got {type(error).__name__}: {reason[:400]}") from error
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
