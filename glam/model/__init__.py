"""GLaM as a pure `nn.Module`: shapes in, tensors out, no mesh, no data, no trainer.

Shapes stand in names and annotations, by these letters. A parameter's letters are its logical
axes, so a layout table can be read off its name.

    B  rows of the batch       M  d_model: width of the model       E  experts
    S  positions in a row      N  attention heads                   K  choices of a token (top_k)
    T  tokens, B * S           D  size of a head                    C  seats at an expert
    V  vocabulary              A  all heads side by side, N * D     H  hidden units, d_ff
    R  buckets of the relative position
"""

from glam.model.glam import Glam, GlamOutput, LossOutput
from glam.model.moe.routing import Routing

__all__ = ["Glam", "GlamOutput", "LossOutput", "Routing"]
