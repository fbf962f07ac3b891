"""A Mixtral of drawn weights as a GGUF file, which llama.cpp reads.

Our own architecture has no name there: no decoder of llama.cpp has a learned position bias, experts
with a GELU, and a GEGLU between them, so an exported folder cannot be converted. The peer is a
Mixtral with the same layers, width, heads, experts and vocabulary, with experts in every layer and
as many active FLOPs. It has no tokenizer: it is given tokens.
"""

from pathlib import Path

import numpy as np

from glam.config import ModelConfig

ARCHITECTURE = "llama"  # llama.cpp's name for Mixtral too
STEP = 32  # of the experts' width: the block of its quantised types


def hidden(config: ModelConfig) -> int:
    """Of a SwiGLU expert, so that a token has the FLOPs of ours: 8 d_ff d_model in a layer with two
    experts, 6 in one with a GEGLU, against 12 times this width."""
    moe = config.num_moe_layers
    units = (8 * moe + 6 * (config.num_layers - moe)) * config.d_ff / (12 * config.num_layers)
    return int(units) // STEP * STEP


def write(config: ModelConfig, file: Path, kind: str) -> None:
    """`kind` of the matrices: `F32`, `BF16` or `Q8_0`, as gguf names them."""
    import gguf

    writer = gguf.GGUFWriter(str(file), ARCHITECTURE)
    M, H, E = config.d_model, hidden(config), config.num_experts
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(1024)
    writer.add_embedding_length(M)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(H)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_heads)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_expert_count(E)
    writer.add_expert_used_count(config.top_k)
    writer.add_tokenizer_model("none")
    draw = np.random.default_rng(0)
    chosen = gguf.GGMLQuantizationType[kind]

    def matrix(name: str, *shape: int, exact: bool = False) -> None:
        values = draw.standard_normal(shape, dtype=np.float32) * shape[-1] ** -0.5
        if exact or kind == "F32":
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, chosen), raw_dtype=chosen)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(M, np.float32))

    matrix("token_embd.weight", config.vocab_size, M)
    ones("output_norm.weight")
    for layer in range(config.num_layers):
        at = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            ones(f"{at}{name}.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{at}{name}.weight", M, M)
        matrix(f"{at}ffn_gate_inp.weight", E, M, exact=True)
        for name in ("ffn_gate_exps", "ffn_up_exps"):
            matrix(f"{at}{name}.weight", E, H, M)
        matrix(f"{at}ffn_down_exps.weight", E, M, H)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
