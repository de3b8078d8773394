"""Text that is not our own, made harmless for the place where it is shown.

Names of modules, messages of exceptions, paths and keys of files come from outside. Each function here
writes such a text so that it is read as it is: as no command to a terminal, no HTML and no Markdown; and
without the passwords that stand in URLs.
"""

from __future__ import annotations

import html
import re

# Control characters but tab and line feed; separators of lines; marks and overrides of the direction of
# text, by which what is read differs from what is there; halves of a character, which no file takes.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# As ${NAME} it is no password yet.
_PASSWORD = re.compile(r"(\w://[^\s/:@]*:)(?!\$\{\w+\}@)[^\s/@]+(?=@)")
# What acts anywhere in a line of Markdown: not an underscore in a word, nor a colon before a space.
_PUNCTUATION = re.compile(
    r"[\\`*{}\[\]!|~@$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=[\w/])|(?<=www)\.", re.IGNORECASE
)
_AT_THE_START = re.compile(r"^(\d*)([#+\-.)])(?=\s|$|[#\-])")


def shown(text: str) -> str:
    r"""`text` with everything that steers a terminal written out, and with no password of a URL.

    >>> shown("a\x1b[31mred\r\n\u202etxt")
    'a\\x1b[31mred\n\\u202etxt'
    """
    return _INVISIBLE.sub(
        lambda found: found[0].encode("unicode_escape").decode("ascii"),
        without_passwords(text).replace("\r\n", "\n"),
    )


def without_passwords(text: str) -> str:
    """`text` with *** for the password of every URL in it.

    >>> without_passwords("no answer from http://me:secret@host:5000/api")
    'no answer from http://me:***@host:5000/api'
    """
    return _PASSWORD.sub(r"\1***", text)


def as_html(text: str) -> str:
    """`text` for HTML, also in an attribute, and for plotly, which reads some tags in every label.

    >>> as_html('<a href="x">&')
    '&lt;a href=&quot;x&quot;&gt;&amp;'
    """
    return html.escape(shown(text))


def as_markdown(text: str) -> str:
    r"""`text` in a line of Markdown, or in a cell of a table.

    >>> as_markdown("a|b\n<i> __c__")
    'a\\|b &lt;i&gt; \\_\\_c\\_\\_'
    """
    line = " ".join(shown(text).split())
    line = _AT_THE_START.sub(r"\1\\\2", _PUNCTUATION.sub(r"\\\g<0>", line))
    return html.escape(line, quote=False)


def as_code(text: str) -> str:
    """`text` as code within a line of Markdown, but not in a cell of a table.

    >>> as_code("a`b")
    '`` a`b ``'
    """
    line = " ".join(shown(text).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest or not line else f"{fence}{line}{fence}"


def as_code_block(text: str, language: str = "") -> str:
    """`text` as a block of code in Markdown, whatever stands in it.

    >>> print(as_code_block("a"))
    ```
    a
    ```
    """
    plain = shown(text)
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain}\n{fence}"
