"""The command line's pages, made from its parser: ``python docs/cli_pages.py`` writes them.

One is the part of docs/reference/cli.md that lists commands and options, the other is the manual page.
Neither has anything from argparse's own formatting, which differs from one version of Python to the next.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from wsstream import __version__
from wsstream.cli.exits import MEANINGS
from wsstream.cli.parser import make_parser

DOCS = Path(__file__).parent
PAGE = DOCS / "reference" / "cli.inc"
MANUAL = DOCS / "man" / "wsstream.1"


def commands(parser: argparse.ArgumentParser, before: str = "") -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands by their names, such as ``echo`` and ``serve files``."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= commands(inner, f"{before}{name} ") or {before + name: inner}
    return found


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, list[argparse.Action]]]:
    """Title, description and arguments of each group, the command's own first and without a title."""
    own: list[argparse.Action] = []
    titled = []
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if not isinstance(each, argparse._SubParsersAction)]
        actions = [each for each in actions if not isinstance(each, argparse._HelpAction)]
        if group.title in ("positional arguments", "options"):
            own += actions
        elif actions:
            titled.append((group.title or "", group.description or "", actions))
    yield "", "", own
    yield from titled


def value(action: argparse.Action) -> str:
    """What follows an option: ``SIZE``, ``{lines,raw}``, or nothing."""
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return str(action.metavar)
    return "{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper()


def forms(action: argparse.Action) -> list[str]:
    """How an argument is written: ``["-n N", "--count N"]``."""
    if not action.option_strings:
        return [{"?": "[{}]", "+": "{}..."}.get(str(action.nargs), "{}").format(value(action))]
    return [f"{name} {value(action)}".strip() for name in action.option_strings]


def usage(name: str, parser: argparse.ArgumentParser) -> str:
    arguments = [forms(each)[0] for each in parser._actions if not each.option_strings]
    return " ".join([f"wsstream {name} [OPTION]...", *arguments])


def sentence(text: str | None) -> str:
    """A help text as a sentence."""
    text = " ".join((text or "").split())
    if text and not text.startswith(("ws:", "(", "'")):
        text = text[0].upper() + text[1:]
    return text + "." * (bool(text) and not text.endswith("."))


def paragraphs(text: str | None) -> list[str]:
    return (text or "").strip().split("\n\n")


# -- the page ------------------------------------------------------------------------------------


def page() -> str:
    """The part of the reference page, in Markdown."""
    lines = []
    for name, parser in commands(make_parser()).items():
        lines += [f"## wsstream {name}", "", "```text", usage(name, parser), "```", ""]
        for paragraph in paragraphs(parser.description):
            lines += ["```text", paragraph, "```", ""] if "\n  " in paragraph else [paragraph, ""]
        for title, description, actions in groups(parser):
            if title:
                lines += [f"**{title[0].upper()}{title[1:]}.** {sentence(description)}".strip(), ""]
            for action in actions:
                names = ", ".join(f"`{form}`" for form in forms(action))
                lines += [names, f": {sentence(action.help)}", ""]
    lines += ["## Exit status", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {status.value} | {meaning} |" for status, meaning in MEANINGS.items()]
    lines += ["| 128 + n | ended by signal n |"]
    return "\n".join(lines) + "\n"


# -- the manual page -----------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text for troff: no line is a request by accident, and a hyphen stays one that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def manual() -> str:
    """The manual page, in troff with the man macros."""
    parser = make_parser()
    lines = [f'.TH WSSTREAM 1 "" "wsstream {__version__}" "User Commands"', ".SH NAME"]
    lines += [escape("wsstream - WebSockets as streams: messages of any size in bounded memory")]
    lines += [".SH SYNOPSIS"]
    for name, command in commands(parser).items():
        lines += [".B " + escape(usage(name, command)), ".br"]
    lines += [".SH OPTIONS"]
    for _, _, actions in groups(parser):
        lines += described(actions)
    lines += [".SH COMMANDS"]
    for name, command in commands(parser).items():
        lines += [f".SS wsstream {escape(name)}"]
        for paragraph in paragraphs(command.description):
            lines += [
                ".PP",
                *([".nf", escape(paragraph), ".fi"] if "\n  " in paragraph else [escape(paragraph)]),
            ]
        for title, description, actions in groups(command):
            lines += [".PP", f".I {escape(title)}:", escape(sentence(description))] if title else []
            lines += described(actions)
    lines += [".SH EXIT STATUS"]
    for status, meaning in MEANINGS.items():
        lines += [".TP", f".B {status.value}", escape(sentence(meaning))]
    lines += [".TP", ".B 128+n", "Ended by signal n.", ".SH ENVIRONMENT"]
    lines += [".TP", ".B WSSTREAM_TOKEN", escape("The token that clients send and servers ask for, unless")]
    lines += [escape("--token-file is given."), ".TP", ".B NO_COLOR", "No colours."]
    return "\n".join(line for line in lines if line) + "\n"


def described(actions: list[argparse.Action]) -> Iterator[str]:
    for action in actions:
        yield from (".TP", ".B " + escape(", ".join(forms(action))), escape(sentence(action.help)))


def write() -> None:
    MANUAL.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    MANUAL.write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    write()
