"""Channels along one dimension: runs of a group's channels, each repeated, one after the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A run of channels along one dimension: `channels` of `group`, each repeated `repeat` times.

    `group` None marks channels that never change. `repeat` is above 1 after flattening, and where a
    channel is an attention head of several entries.
    """

    group: str | None
    channels: int
    repeat: int = 1

    @property
    def size(self) -> int:
        """Entries, repeats counted."""
        return self.channels * self.repeat


Parts = tuple[Part, ...]


def size_of(parts: Parts) -> int:
    """Entries along the dimension that the parts describe."""
    return sum(part.size for part in parts)


def cut(parts: Parts, start: int, end: int) -> Parts | None:
    """The parts of the entries from `start` to `end`; None where that cuts a group or a channel.

    >>> cut((Part("a", 2, 3), Part(None, 4)), 6, 8)
    (Part(group=None, channels=2, repeat=1),)
    """
    found: list[Part] = []
    position = 0
    for part in parts:
        low, high = max(start, position), min(end, position + part.size)
        if high - low == part.size:
            found.append(part)
        elif high > low and part.group is None:
            found.append(Part(None, high - low))
        elif high > low:
            return None
        position += part.size
    return tuple(found)
