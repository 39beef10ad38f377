"""Compiles the module; everything else about the project is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastws

module = Extension(
    "fastws_relay._relay",
    ["fastws_relay/_relay.pyx"],
    # The headers in C that fastws/_codec.pxd includes; Cython finds the .pxd by itself.
    include_dirs=[fastws.get_include()],
)

setup(ext_modules=cythonize([module], language_level=3))
