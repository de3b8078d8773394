"""How metrics and candidates are written for people: units, names and a candidate in short."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paredown.search.config.qualities import measured_quality
from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.ranks import WHOLE
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import ModelMap

_Ladder = tuple[tuple[float, str], ...]
_BYTES: _Ladder = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_JOULES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_PLAIN: _Ladder = ((1.0, ""),)
_LADDERS = (
    ("_bytes", _BYTES),
    ("_s", _SECONDS),
    ("_j", _JOULES),
    ("macs", _COUNTS),
    ("bops", _COUNTS),
)
_NAMES = {
    "onnx_bytes": "ONNX file",
    "packed_bytes": "packed file",
    "latency_s": "latency",
    "macs": "MACs",
    "bops": "BOPs",
}


@dataclass(frozen=True)
class Unit:
    """A display unit: a value in SI times `factor` is a number of `symbol`."""

    factor: float
    symbol: str


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What pictures need of a model: weights per layer, segments, channels per group.

    `blocks` names the layers, segments and groups that lie in each block, and go with it. Where a
    search chooses between networks, the outline holds what any of them has, and `architectures`
    that of each.
    """

    layer_weights: Mapping[str, int]
    segments: tuple[str, ...] = ()
    widths: Mapping[str, int]
    blocks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    architectures: Mapping[str, Outline] = field(default_factory=dict)

    @classmethod
    def of_space(cls, space: Space) -> Outline:
        """The outline of all networks of a search."""
        owns = {each.name: cls.of(each.model_map) for each in space.architectures}
        first, *others = owns.values()
        if not others:
            return first
        everything = [first, *others]
        return cls(
            layer_weights=dict(ChainMap(*(dict(own.layer_weights) for own in everything))),
            segments=tuple(dict.fromkeys(name for own in everything for name in own.segments)),
            widths=dict(ChainMap(*(dict(own.widths) for own in everything))),
            architectures=owns,
        )

    def of_candidate(self, candidate: Candidate) -> Outline:
        """What `candidate` has: that of its architecture, without the blocks it drops."""
        own = self.architectures.get(candidate.architecture, self)
        return own.without(candidate.dropped)

    @classmethod
    def of(cls, model_map: ModelMap) -> Outline:
        """The outline of one network."""
        return cls(
            layer_weights={layer.name: layer.weight_count for layer in model_map.layers},
            segments=tuple(segment.name for segment in model_map.segments),
            widths={group.name: group.channels for group in model_map.groups},
            blocks={
                block.name: _inside(model_map, frozenset(block.layers))
                for block in model_map.blocks
            },
        )

    def without(self, dropped: Sequence[str]) -> Outline:
        """What is left of the model without these blocks."""
        gone = frozenset(n for block in dropped for n in self.blocks.get(block, ()))
        return Outline(
            layer_weights={n: w for n, w in self.layer_weights.items() if n not in gone},
            segments=tuple(name for name in self.segments if name not in gone),
            widths={n: w for n, w in self.widths.items() if n not in gone},
            blocks=self.blocks,
        )


def _inside(model_map: ModelMap, layers: frozenset[str]) -> frozenset[str]:
    segments = {s.name for s in model_map.segments if s.layers and layers.issuperset(s.layers)}
    groups = {g.name for g in model_map.groups if layers.issuperset(g.producers)}
    return layers | segments | groups


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A candidate in a few numbers: means over weights, shares in [0, 1].

    `grouped_share` is that of weights in layers whose outputs have several scales.
    """

    weight_bits: float
    sparsity: float
    rank_fraction: float
    grouped_share: float
    int8_share: float
    width_share: float
    dropped: int


def unit_of(metric: str, largest: float) -> Unit:
    """The unit in which values of `metric` up to `largest` (SI) read best."""
    kind, _, _ = metric.partition("@")
    if measured_quality(kind).in_percent:
        return Unit(100.0, "%")
    ladder = next((steps for ending, steps in _LADDERS if kind.endswith(ending)), _PLAIN)
    size, symbol = next((step for step in ladder if largest >= step[0]), ladder[-1])
    return Unit(1 / size, symbol)


def units_of(metric: str) -> Mapping[str, float]:
    """Every unit in which values of `metric` may be given, and what one of it is in SI.

    >>> units_of("onnx_bytes")["kB"], units_of("onnx_bytes")["KiB"], units_of("latency_s")["us"]
    (1000.0, 1024.0, 1e-06)
    """
    kind, _, _ = metric.partition("@")
    ladder = next((steps for ending, steps in _LADDERS if kind.endswith(ending)), _PLAIN)
    sizes = {symbol: size for size, symbol in ladder if symbol}
    if ladder is _BYTES:
        sizes |= {"KB": 1e3, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
    return sizes | {symbol.replace("µ", "u"): size for symbol, size in sizes.items()}


def title_of(metric: str, unit: Unit | None = None) -> str:
    """A metric's name for people, with its unit.

    >>> title_of("peak_memory_bytes", Unit(0.001, "kB"))
    'peak memory (kB)'
    >>> title_of("latency_s@rpi5-a76-ort")
    'latency on rpi5-a76-ort'
    """
    plain, _, device = metric.partition("@")
    kind = plain
    for ending in ("_bytes", "_s", "_j"):
        plain = plain.removesuffix(ending)
    name = _NAMES.get(kind, plain.replace("_", " ")) + (f" on {device}" if device else "")
    return f"{name} ({unit.symbol})" if unit and unit.symbol else name


def show(metric: str, value: float, unit: Unit | None = None) -> str:
    """`value` (SI) with four digits in `unit`, by default the one in which it reads best.

    >>> show("onnx_bytes", 285_900.0), show("accuracy", 0.8811)
    ('285.9 kB', '88.11 %')
    """
    unit = unit or unit_of(metric, abs(value))
    number = value * unit.factor
    digits = 2 if unit.symbol == "%" else max(0, 4 - len(str(int(abs(number)))))
    return f"{number:.{digits}f} {unit.symbol}".strip()


def summarize(candidate: Candidate, outline: Outline) -> Summary:
    """`candidate` in a few numbers; what went with dropped blocks does not count."""
    outline = outline.of_candidate(candidate)
    total = sum(outline.layer_weights.values()) or 1
    choices = [(candidate.layer(n), count / total) for n, count in outline.layer_weights.items()]
    kept = dict(candidate.widths)
    channels = sum(outline.widths.values()) or 1
    eight = sum(candidate.segment(name).activation_bits == 8 for name in outline.segments)
    return Summary(
        weight_bits=sum(c.weight_bits * share for c, share in choices),
        sparsity=sum(c.zeros.share * share for c, share in choices),
        rank_fraction=sum(c.rank.mean_share * share for c, share in choices),
        grouped_share=sum(share for c, share in choices if c.group_size),
        int8_share=eight / (len(outline.segments) or 1),
        width_share=sum(kept.get(n, full) for n, full in outline.widths.items()) / channels
        if outline.widths
        else 1.0,
        dropped=len(candidate.dropped),
    )


def describe(candidate: Candidate, outline: Outline) -> str:
    """`candidate` in one line: layers per bit width, then what else is done.

    >>> outline = Outline(layer_weights={"a": 10, "b": 30}, widths={})
    >>> describe(Candidate(), outline)
    'weights 32 bit (all 2 layers)'
    """
    summary = summarize(candidate, outline)
    left = outline.of_candidate(candidate)
    bits = Counter(candidate.layer(name).weight_bits for name in left.layer_weights)
    parts = [candidate.architecture] if candidate.architecture else []
    parts.append(f"weights {summary.weight_bits:.3g} bit{_ladder(bits)}")
    if summary.int8_share:
        parts.append(f"8-bit activations in {summary.int8_share:.0%} of segments")
    if summary.sparsity >= 0.005:
        parts.append(f"{summary.sparsity:.0%} sparse")
    if summary.rank_fraction < 0.995:
        parts.append(f"rank {summary.rank_fraction:.0%}{_forms(candidate, left)}")
    if summary.grouped_share >= 0.005:
        parts.append(f"scales by group in {summary.grouped_share:.0%} of weights")
    if summary.width_share < 0.995:
        parts.append(f"width {summary.width_share:.0%}")
    if candidate.dropped:
        parts.append(f"without {', '.join(candidate.dropped)}")
    return "; ".join(parts)


def _ladder(layers_by_bits: Mapping[int, int]) -> str:
    """How many layers have which width: " on average (5 layers at 4, 2 at 8)", " (all 7 layers)"."""
    widths = sorted(layers_by_bits)
    if len(widths) <= 1:
        return "".join(f" (all {_layers(layers_by_bits[width])})" for width in widths)
    first, *others = widths
    counts = [f"{_layers(layers_by_bits[first])} at {first}"]
    counts += [f"{layers_by_bits[width]} at {width}" for width in others]
    return f" on average ({', '.join(counts)})"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _forms(candidate: Candidate, outline: Outline) -> str:
    """How many layers take each low-rank form, where any takes another than the default."""
    choices = [candidate.layer(name) for name in outline.layer_weights]
    forms = Counter(c.rank.form for c in choices if c.rank.share < 1)
    if set(forms) <= {WHOLE.form}:
        return ""
    return f" ({', '.join(f'{form} × {forms[form]}' for form in sorted(forms))})"


def name_of(evaluation: Evaluation) -> str:
    """The label of a reference, the key of any other."""
    return evaluation.label or evaluation.key
