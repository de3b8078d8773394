"""Whatever is printed on the terminal is text: no markup, no control sequence, no password."""

import ast
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from paredown.search.cli.live import Display
from paredown.search.report.terminal import Terminal, plain_text, styled
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import front_of

SEARCH = Path(__file__).resolve().parents[3] / "search"
HOSTILE = "cannot open [/data/x.bin] [bold]b[/bold] :smile: \x1b[31mred\x1b]0;title\x07"
PLAIN = "cannot open [/data/x.bin] [bold]b[/bold] :smile: \\x1b[31mred\\x1b]0;title"


def in_a_table(text):
    table = Table(text, title=text)
    table.add_row(text)
    table.add_row(styled(text, "red"))
    return table


@pytest.mark.parametrize(
    "make",
    [str, Text, lambda t: styled(t, "red"), lambda t: Text.assemble((t, "bold")), in_a_table],
)
def test_text_is_printed_as_it_is_in_everything_that_holds_text(make):
    told = plain_text(make(HOSTILE))
    assert PLAIN in told
    assert "\x1b" not in told


def test_colours_of_our_own_still_reach_the_terminal():
    terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard")
    terminal.print(Text.assemble(("ours", "red"), " \x1b[32mtheirs"))
    assert terminal.file.getvalue() == "\x1b[31mours\x1b[0m \\x1b[32mtheirs\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_failure_whose_message_looks_like_markup_ends_no_search(
    goals, make_evaluations, is_terminal
):
    first, *_ = make_evaluations(1)
    failed = replace(
        first,
        number=1,
        label="",
        kind="search",
        metrics={},
        failure=Failure.of_text(FailureKind.RAISED, f"E: {HOSTILE}"),
    )
    terminal = Terminal(
        file=io.StringIO(), width=250, force_terminal=is_terminal, color_system=None
    )
    with Display(terminal) as display:
        display.started(2)
        front = front_of([first], goals)
        display.told(first, front, 0.1, 1)
        display.told(failed, front, 0.1, 2)
        panel = plain_text(display._panel())
        display.stage(HOSTILE)
    assert "cannot open [/data/x.bin]" in panel
    if not is_terminal:
        assert f"failed: E: {PLAIN}" in terminal.file.getvalue()


def test_nothing_of_ours_prints_past_the_terminal():
    # A console of rich's own would read markup, `print` would let control characters through.
    past = []
    for path in SEARCH.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                is_print = name == "print" and not any(k.arg == "file" for k in node.keywords)
                if name in ("Console", "rich.print", "Text.from_markup") or is_print:
                    past.append(f"{path.name}:{node.lineno}")
    assert past == []
