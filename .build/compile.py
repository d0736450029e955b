"""Compiles the hot paths into the wheel. Without a C compiler the wheel is pure Python.

``WSSTREAM_PURE=1 pip install ...`` leaves the compiled parts out. An editable installation compiles in place.
``CFLAGS`` and ``LDFLAGS`` may name another zlib than the system's, such as zlib-ng with zlib's interface.

A table for setuptools in pyproject.toml could do the same, but setuptools builds in the checkout: modules
deleted since the last build come back in the next wheel, and a wheel without the compiled part still gets the
tag of one Python and one platform.
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

OPTIONS = [] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"]

# Each is left out if it cannot be built, and its version in Python is used.
EXTENSIONS = [
    Extension(
        "wsstream.codec._speedups",
        [
            f"wsstream/codec/{name}.c"
            for name in ("_speedups", "_unread", "_iterator", "_batch", "_read_step")
        ],
        depends=["wsstream/codec/_speedups.h"],
        extra_compile_args=OPTIONS,
    ),
    Extension(
        "wsstream.protocol._inflate",
        ["wsstream/protocol/_inflate.c"],
        libraries=["z"],
        # The functions of a static zlib are this module's own, whatever zlib the interpreter has loaded.
        extra_link_args=["-Wl,--exclude-libs,ALL"] if sys.platform == "linux" else [],
        extra_compile_args=OPTIONS,
    ),
]


class CompileHook(BuildHookInterface):
    """The hook that hatchling calls before and after it packs a wheel."""

    scratch: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add the results to the wheel."""
        if self.target_name != "wheel" or os.environ.get("WSSTREAM_PURE"):
            return
        self.scratch = tempfile.TemporaryDirectory(prefix="wsstream-")
        in_place = version == "editable"
        folder = self.root if in_place else self.scratch.name
        for extension in EXTENSIONS:
            try:
                built = compile_extension(extension, self.root, folder, self.scratch.name)
            except (BaseError, CCompilerError, OSError) as error:
                self.app.display_warning(f"{extension.name} is left out: {error}")
                continue
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            if not in_place:
                build_data["force_include"][str(built)] = str(built.relative_to(folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the object files."""
        if self.scratch is not None:
            self.scratch.cleanup()


def compile_extension(extension: Extension, root: str, folder: str, scratch: str) -> Path:
    """Compile the sources in `root` into the folder of their package in `folder`, and return the file.

    Object files go to `scratch`.
    """
    command = build_ext(Distribution({"name": "wsstream", "ext_modules": [extension]}))
    command.build_lib, command.build_temp = folder, str(Path(scratch, "objects"))
    before = Path.cwd()
    os.chdir(root)  # the sources are relative paths, which decide where the object files go
    try:
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return Path(folder, command.get_ext_filename(extension.name))
