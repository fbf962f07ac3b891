"""GLaM: config-driven Mixture-of-Experts language-model research (arXiv 2112.06905)."""

__version__ = "0.2.0"
