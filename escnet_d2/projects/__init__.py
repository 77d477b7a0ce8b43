"""Projects built on the package, as Detectron2 keeps its own: ``escnet_d2.projects.NAME``.

A checkout has each project in a folder of its own, ``projects/NAME``, beside its programs and its
tests; an installation has the package of each in this folder.
"""

from pathlib import Path

__path__.append(str(Path(__file__).resolve().parents[2] / "projects" / "shapes"))

from . import shapes  # noqa: E402
