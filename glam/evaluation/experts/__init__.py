"""Inside the experts: which token goes to which expert, measured on held-out text."""

from glam.evaluation.experts.routes import Routes, held_out_routes
from glam.evaluation.experts.token_classes import token_classes

__all__ = ["Routes", "held_out_routes", "token_classes"]
