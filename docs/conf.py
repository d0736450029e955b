"""Sphinx builds the documentation with this: ``sphinx-build -W --keep-going -b html docs OUT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sphinx.addnodes import pending_xref
from sphinx.pycode import ModuleAnalyzer

import wsstream
import wsstream.testing

dir(wsstream)  # loads the public names, which then call themselves so

project = "wsstream"
author = "The wsstream developers"
copyright = author
version = release = wsstream.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"wsstream {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "literal"  # what docstrings put in single backticks are names of arguments and attributes
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
autodoc_class_signature = "mixed"
autodoc_default_options = {"member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
nitpick_ignore_regex = [
    # Other packages: there is no inventory of them here.
    (
        "py:.*",
        r"(anyio|asyncio|collections|contextlib|dataclasses|enum|io|os|pathlib|socket|ssl|types|typing)\..*",
    ),
    ("py:.*", r"(ssl|time|trio|anyio|AbstractAsyncContextManager|ByteStream)"),
    ("py:class", r"wsstream\.opening\.headers\.HeaderItems"),  # "a mapping", in the words of its users
    ("py:class", r"wsstream\.streams\.only\.Payload"),  # "str or bytes"
    ("py:class", r"wsstream\.sync\.readable\.Only"),  # said in words
    ("py:class", r"wsstream\.streams\.file_writer\.Hash"),  # "such as hashlib.sha256()"
    ("py:class", r"wsstream\.files\.server\.FileHandler"),  # "a handler"
    ("py:class", r"wsstream\.files\.web\.login\.Login"),  # made by web_page of its token
    ("py:class", r"wsstream\.routing\.router\._AnyHandler"),  # "the async function below it"
    ("py:class", r"wsstream\.streams\.typed\.(R|S)"),  # "your type"
    ("py:class", r"wsstream\.upgrade\.route_options\.RouteOptions"),  # the options that the text lists
    ("py:class", r"wsstream\.driver\.options\.ServerKeywords"),  # the options that the text lists
    ("py:class", r"wsstream\.testing\.Literal"),  # in an annotation that is shown as it is written
    ("py:class", r"wsstream\.opening\.peer\.Forwarded"),  # "what a trusted proxy said"
    ("py:class", r"wsstream\.opening\.http\._(T|Default)"),  # the type of an attribute, or of a default
]


def _read_sources() -> None:
    """Let autodoc find the attributes' docs and the order of members.

    It looks for them in the module that an object names as its own. For public objects that is the package,
    and their source is elsewhere.
    """
    for package in ("wsstream", "wsstream.testing"):
        found = ModuleAnalyzer.for_module(package)
        found.analyze()
        for path in Path(wsstream.__file__).parent.rglob("*.py"):
            source = ModuleAnalyzer.for_file(path, package)
            source.analyze()
            found.attr_docs.update(source.attr_docs)
            found.tagorder.update(source.tagorder)


def _without_private_bases(app: Any, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    bases[:] = [base.__base__ if base.__name__.startswith("_") else base for base in bases]


def _name_streams(app: Any, tree: Any) -> None:
    """An unqualified ``WebSocketStream`` is wsstream's; only `wsstream.sync` has one of its own."""
    for reference in tree.findall(pending_xref):
        if reference.get("reftarget") == "WebSocketStream" and reference.get("py:module") != "wsstream.sync":
            reference["reftarget"] = "wsstream.WebSocketStream"


def setup(app: Any) -> None:
    app.connect("doctree-read", _name_streams)
    app.connect("autodoc-process-bases", _without_private_bases)
    _read_sources()
