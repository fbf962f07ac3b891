"""A trained run as a folder that Hugging Face's libraries load.

`modeling_glam.py` is copied into every folder and runs there without this package: it needs torch
and transformers alone.
"""

from glam.export.folder import check_free, export_model

__all__ = ["check_free", "export_model"]
