"""The `task` section of the config: which model, which data, which metric."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from paredown.search.config.qualities import ACCURACY, F1, PERPLEXITY, TASK_QUALITIES, Quality
from paredown.search.config.schema_section import Section, resolved

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LOSSES = ("cross_entropy", "sequence_cross_entropy", "mse")


def _resolve(path: Path, info: ValidationInfo) -> Path:
    return resolved(path, (info.context or {}).get("folder", Path()))


def _existing_file(path: Path, info: ValidationInfo) -> Path:
    found = _resolve(path, info)
    if not found.is_file():
        raise ValueError(f"must be a file that exists; there is none at {found}")
    return found


def _existing_folder(path: Path, info: ValidationInfo) -> Path:
    found = _resolve(path, info)
    if not found.is_dir():
        raise ValueError(f"must be a folder that exists; there is none at {found}")
    return found


def _is_import_path(value: str) -> str:
    if not IMPORT_PATH.fullmatch(value):
        raise ValueError("must be package.module:name; write for example my_project.model:make")
    return value


def _metric_or_import_path(value: str) -> str:
    if value not in TASK_QUALITIES and not IMPORT_PATH.fullmatch(value):
        raise ValueError(
            f"must be one of {', '.join(TASK_QUALITIES)} or your package.module:function"
        )
    return value


def _loss_or_import_path(value: str) -> str:
    if value not in LOSSES and not IMPORT_PATH.fullmatch(value):
        raise ValueError(f"must be one of {', '.join(LOSSES)} or your package.module:function")
    return value


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
ExistingFolder = Annotated[Path, AfterValidator(_existing_folder)]
ImportPath = Annotated[str, AfterValidator(_is_import_path)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class DigitsTask(Section):
    """scikit-learn's 8x8 digits and a small residual network, trained here once and cached."""

    name: Literal["digits"]
    seed: Seed = Field(0, description="Seed of the splits and of the training.")
    calibration_images: int = Field(
        512, ge=16, le=898, description="Images of the train split that statistics are taken from."
    )

    @property
    def metric_name(self) -> str:
        """Name of the quality metric: always accuracy."""
        return ACCURACY.name


class ParquetFiles(Section):
    """A data set as two local parquet files in the layout of the Hugging Face hub."""

    train: ExistingFile = Field(description="Parquet file with the training rows.")
    test: ExistingFile = Field(description="Parquet file with the test rows.")


def is_written_as_path(value: object) -> bool:
    """Whether text names a path, as on a command line; a hub id never begins like one."""
    return str(value).startswith((".", "/", "~"))


def _source_kind(value: object) -> str:
    return "folder" if is_written_as_path(value) else "hub"


def _dataset_kind(value: object) -> str:
    return _source_kind(value) if isinstance(value, str | Path) else "files"


HubSource = Annotated[
    Annotated[str, Tag("hub")] | Annotated[ExistingFolder, Tag("folder")],
    Discriminator(_source_kind),
]
HubKind = Literal[
    "text-classification", "token-classification", "image-classification", "causal-lm"
]
QUALITY_OF_KIND: Mapping[HubKind, Quality] = {
    "text-classification": ACCURACY,
    "token-classification": F1,
    "image-classification": ACCURACY,
    "causal-lm": PERPLEXITY,
}
"""How good a model of each kind is."""


class Cifar10Task(Section):
    """CIFAR-10 and one of the published ResNets for it (option A shortcuts)."""

    name: Literal["cifar10"]
    dataset: Annotated[
        Annotated[str, Tag("hub")]
        | Annotated[ExistingFolder, Tag("folder")]
        | Annotated[ParquetFiles, Tag("files")],
        Discriminator(_dataset_kind),
    ] = Field(
        "uoft-cs/cifar10",
        description="A Hugging Face hub id; a folder with a copy of such a repository, written as "
        "a path (./cifar10); or {train: path, test: path} of two parquet files. Columns img (or "
        "image) and label.",
    )
    model: Literal["resnet20", "resnet56"] = Field("resnet20", description="The network.")
    weights: ExistingFile = Field(description="Trained weights, a safetensors file.")
    search_rows: int = Field(
        5000,
        ge=1,
        le=9999,
        description="Rows 0..n-1 of the test file are the search split, the others the test one.",
    )
    seed: Seed = Field(0, description="Seed that shuffles the calibration images.")
    calibration_images: int = Field(
        1024, ge=16, le=50000, description="Training images that statistics are taken from."
    )

    @property
    def metric_name(self) -> str:
        """Name of the quality metric: always accuracy."""
        return ACCURACY.name


def _listed(value: object) -> object:
    """A list of one where a single text is given."""
    return [value] if isinstance(value, str) else value


class CustomTask(Section):
    """Your own model and data, named by import path."""

    name: Literal["custom"]
    code_folder: ExistingFolder = Field(
        Path(),
        validate_default=True,
        description="Folder that your packages are imported from; the config's own by default.",
    )
    model: ImportPath = Field(description="package.module:factory that returns the nn.Module.")
    kwargs: dict[str, Any] = Field({}, description="Keyword arguments of the model factory.")
    weights: ExistingFile | None = Field(
        None, description="Trained weights, a safetensors file; null if the factory loads them."
    )
    data: ImportPath = Field(description="package.module:factory that returns the splits.")
    data_kwargs: dict[str, Any] = Field({}, description="Keyword arguments of the data factory.")
    metric: Annotated[str, AfterValidator(_metric_or_import_path)] = Field(
        ACCURACY.name,
        description="accuracy, mean_iou, mse, perplexity, or package.module:function of "
        "(outputs, targets) over a whole split, whose name is then the goal's metric.",
    )
    loss: Annotated[str, AfterValidator(_loss_or_import_path)] | None = Field(
        None,
        description="cross_entropy, sequence_cross_entropy (batch, time, classes), mse, or "
        "package.module:function of (outputs, targets); null takes the metric's usual one, and a "
        "metric of your own needs it.",
    )
    outputs: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Outputs that the task needs, by their paths in what the model returns, such as "
        "logits or hidden_states.0. Without it all tensors in tuples, lists and dicts are outputs, and "
        "of a record of another class the first tensor.",
    )
    seed: Seed = Field(0, description="Seed that shuffles the calibration rows.")
    calibration_images: int = Field(
        1024, ge=1, description="Training rows for statistics, if the data name no calibration."
    )

    @property
    def metric_name(self) -> str:
        """Name of the quality metric; for an import path, that of its function."""
        return self.metric.rpartition(":")[2]

    @model_validator(mode="after")
    def _own_metric_needs_a_loss(self) -> CustomTask:
        if ":" in self.metric and self.loss is None:
            raise ValueError(
                f"a metric of your own ({self.metric}) has no usual loss; set task.loss"
            )
        return self


SplitSource = Annotated[
    Annotated[ExistingFile, Tag("folder")] | Annotated[str, Tag("hub")],
    Discriminator(_source_kind),
]


class HubColumns(Section):
    """Which columns of the data are read."""

    input: str | None = Field(
        None,
        description="Texts, lists of words or images; null: text, of token-classification tokens, "
        "of image-classification image.",
    )
    pair: str | None = Field(None, description="Second texts, for text-classification of pairs.")
    label: str | None = Field(None, description="Classes, by name or number; null: label.")


class HubData(Section):
    """Rows from the Hugging Face hub, or from files of this machine."""

    dataset: HubSource | None = Field(
        None,
        description="A hub id, or a folder with files (csv, json, parquet, images), written as a path "
        "(./rows). Not needed where all splits are files.",
    )
    subset: str | None = Field(
        None, description="The data set's configuration, if it has several."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of the data set.")
    train: SplitSource = Field(
        "train",
        description="A split by its name, also cut as train[:90%], or a file (csv, json, parquet) "
        "written as a path.",
    )
    search: SplitSource = Field("validation", description="Likewise: candidates are scored on it.")
    test: SplitSource = Field("test", description="Likewise: read by verification and at the end.")
    columns: HubColumns = Field(HubColumns(), description="Names of the columns.")
    max_length: int = Field(
        128, ge=2, description="Tokens of a row: shorter ones are padded, longer ones cut."
    )

    @model_validator(mode="after")
    def _splits_have_a_source(self) -> HubData:
        named = [n for n in ("train", "search", "test") if isinstance(getattr(self, n), str)]
        if named and self.dataset is None:
            raise ValueError(
                f"`dataset` must say what {', '.join(named)} are splits of; set it, or write the path "
                f"of a file, such as {named[0]}: ./{named[0]}.csv"
            )
        return self


class HuggingFaceTask(Section):
    """A trained model of the Hugging Face libraries, by folder or name."""

    name: Literal["hf"]
    kind: HubKind = Field(description="What the model does: its head, its data and its metric.")
    model: HubSource = Field(
        description="A hub id, or a folder written as a path (./model), with config.json, weights as "
        "safetensors, and the files of its tokenizer or image processor."
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of the model on the hub."
    )
    data: HubData = Field(description="Rows that it is compressed and scored on.")
    seed: Seed = Field(0, description="Seed that shuffles the calibration rows.")
    calibration_rows: int = Field(
        512, ge=1, description="Training rows that statistics are taken from."
    )

    @property
    def metric_name(self) -> str:
        """Name of the quality metric that the kind has."""
        return QUALITY_OF_KIND[self.kind].name

    @model_validator(mode="after")
    def _columns_are_of_the_kind(self) -> HuggingFaceTask:
        read = {"pair": self.kind == "text-classification", "label": self.kind != "causal-lm"}
        for column, is_read in read.items():
            if getattr(self.data.columns, column) is not None and not is_read:
                raise ValueError(f"`data.columns.{column}` is not for kind {self.kind}; delete it")
        return self


TaskSection = Annotated[
    DigitsTask | Cifar10Task | CustomTask | HuggingFaceTask, Field(discriminator="name")
]
