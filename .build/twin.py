"""Builds the compiled twin of the codec into the wheel, if there is a compiler; if not, the wheel is pure.

``WSSTREAM_PURE=1 pip install ...`` leaves it out. In an editable installation it is built in place.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

NAME = "wsstream.codec._speedups"
SOURCES = [f"wsstream/codec/{name}.c" for name in ("_speedups", "_unread", "_batch")]
HEADERS = ["wsstream/codec/_speedups.h"]


class TwinHook(BuildHookInterface):
    """What hatchling calls before it packs a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the twin, and tell hatchling of it."""
        if self.target_name != "wheel" or os.environ.get("WSSTREAM_PURE"):
            return
        in_place = version == "editable"
        folder = self.root if in_place else tempfile.mkdtemp(prefix="wsstream-")
        try:
            built = compile_twin(self.root, folder)
        except (BaseError, CCompilerError, OSError) as error:
            self.app.display_warning(f"Without the compiled codec, which could not be built: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if not in_place:
            build_data["force_include"][str(built)] = str(built.relative_to(folder))


def compile_twin(root: str, folder: str) -> Path:
    """Compile and link into `folder`, as a package would lie there; return the file."""
    options = [] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"]
    extension = Extension(NAME, SOURCES, depends=HEADERS, extra_compile_args=options)
    command = build_ext(Distribution({"name": "wsstream", "ext_modules": [extension]}))
    with tempfile.TemporaryDirectory() as scratch:
        command.build_lib, command.build_temp = folder, scratch
        before = Path.cwd()
        os.chdir(root)  # the path of the source decides that of the object file
        try:
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(before)
    return Path(folder, command.get_ext_filename(NAME))
