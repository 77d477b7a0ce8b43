"""Results as annotation tools read them: one module per format, each with ``write``.

::

    write(folder, images, options)

writes the annotations of some :class:`LabeledImage` to a folder, every file whole or not at all.
"""

from .export import EXPORT_FILE, FORMATS, check_export, export_run
from .labeled_image import ExportOptions, LabeledImage

__all__ = ["EXPORT_FILE", "FORMATS", "ExportOptions", "LabeledImage", "check_export", "export_run"]
