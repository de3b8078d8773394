"""The terminal as everything of ours is printed on it: text is text, whatever stands in it.

A string is never read as markup: what is ours takes its style from `styled` or `Text.assemble`.
Characters that would steer the terminal are written out, and passwords of URLs left out, wherever they
come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from paredown.spaces.system.foreign_text import shown


class Terminal(Console):
    """rich's console without markup, emoji names and highlighting, and with `shown` text alone."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False, **more: Any) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False, **more
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is written: every segment but rich's own control codes passes here."""
        # Before the layout, so that a character written out has its width.
        clean = shown(renderable) if isinstance(renderable, str) else renderable
        for segment in super().render(clean, options):
            text, style, control = segment
            yield segment if control else Segment(shown(text), style)

    @contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner beside `text` while something is done; yields what replaces the text."""
        with self.status(Text(text)) as status:
            yield lambda news: status.update(Text(news))


def styled(text: str, style: str) -> Text:
    """`text`, whatever stands in it, in one style."""
    return Text(shown(text), style)


def plain_text(renderable: RenderableType, width: int = 200, file: IO[str] | None = None) -> str:
    """What `renderable` is without colours."""
    terminal = Terminal(width=width, color_system=None, file=file)
    with terminal.capture() as captured:
        terminal.print(renderable)
    return captured.get()
