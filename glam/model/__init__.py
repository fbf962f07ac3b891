"""GLaM (arXiv 2112.06905, section 4) as a plain `nn.Module`, without mesh, data or trainer.

Names and annotations give shapes by these letters. A parameter's name ends in the letters of its
axes, by which `glam.config.layout` finds its initial values, weight decay and mesh axes.

    B  rows of the batch       M  d_model: width of the model       E  experts
    S  positions in a row      N  attention heads                   K  choices of a token (top_k)
    T  tokens, B * S           D  size of a head                    C  capacity slots of an expert
    V  vocabulary              A  all heads side by side, N * D     H  hidden units, d_ff
    R  buckets of the relative position
"""

from glam.model.glam import Glam, GlamOutput, LossOutput
from glam.model.moe.routing import Routing

__all__ = ["Glam", "GlamOutput", "LossOutput", "Routing"]
