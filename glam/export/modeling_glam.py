"""GLaM (arXiv 2112.06905), a decoder whose every other layer is a mixture of experts.

Needs torch and transformers alone. Parameters are named as in the model that was trained, by the
letters of their axes: M width, A heads side by side, N heads, R buckets of distance, E experts,
H hidden units.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

EPSILON = 1e-6


class GlamConfig(PretrainedConfig):
    """The shape of the model. `num_experts=1` has feed-forwards in the place of experts."""

    model_type = "glam_moe"
    attribute_map = {  # names that other tools ask for
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
    }

    def __init__(
        self,
        vocab_size=2048,
        num_layers=4,
        d_model=64,
        d_ff=256,
        num_heads=4,
        head_dim=16,
        num_experts=16,
        num_experts_per_tok=2,
        moe_every=2,
        normalize_gates=True,
        biased_choice=False,
        position_buckets=32,
        position_max_distance=128,
        logit_cap=None,
        max_position_embeddings=128,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.num_layers = num_layers
        self.d_model = d_model
        self.d_ff = d_ff
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.moe_every = moe_every
        self.normalize_gates = normalize_gates
        self.biased_choice = biased_choice  # whether experts are chosen by logits plus a bias
        self.position_buckets = position_buckets
        self.position_max_distance = position_max_distance
        self.logit_cap = logit_cap
        self.max_position_embeddings = max_position_embeddings  # trained on; no limit
        kwargs.setdefault("tie_word_embeddings", False)  # one weight, used twice: nothing to tie
        super().__init__(**kwargs)


def at_least_float32(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def bucket_of_distance(config):
    """The bucket of every distance up to `position_max_distance`, from which all share the last."""
    num, furthest = config.position_buckets, config.position_max_distance
    exact = num // 2
    buckets = list(range(exact))
    for distance in range(exact, furthest):
        octaves = math.log(distance / exact) / math.log(furthest / exact)
        buckets.append(exact + int(octaves * (num - exact)))
    return [*buckets, num - 1]


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale_M = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = at_least_float32(x)
        inverse = (wide.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        return (wide * inverse * at_least_float32(self.scale_M)).to(x.dtype)


class PositionBias(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bias_NR = nn.Parameter(torch.empty(config.num_heads, config.position_buckets))

    def forward(self, bucket):
        return self.bias_NR[:, bucket]


class Attention(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.index, self.num_heads, self.head_dim = index, config.num_heads, config.head_dim
        M, A = config.d_model, config.num_heads * config.head_dim
        self.w_query_MA = nn.Parameter(torch.empty(M, A))
        self.w_key_MA = nn.Parameter(torch.empty(M, A))
        self.w_value_MA = nn.Parameter(torch.empty(M, A))
        self.w_out_AM = nn.Parameter(torch.empty(A, M))
        self.position = PositionBias(config)

    def forward(self, x, bucket, hidden, cache):
        heads = (*x.shape[:2], self.num_heads, self.head_dim)
        q, k, v = (
            (x @ w).view(heads).transpose(1, 2)
            for w in (self.w_query_MA, self.w_key_MA, self.w_value_MA)
        )
        if cache is not None:
            k, v = cache.update(k, v, self.index)
        logits = at_least_float32((q * self.head_dim**-0.5) @ k.mT) + self.position(bucket)
        # The lowest number, not -inf: a row of padding sees nothing at all.
        logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
        y = logits.softmax(-1).to(v.dtype) @ v
        return y.transpose(1, 2).flatten(2) @ self.w_out_AM


class GatedFeedForward(nn.Module):
    """Of the layers without experts: GEGLU."""

    def __init__(self, d_model, hidden):
        super().__init__()
        self.w_gate_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_in_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_out_HM = nn.Parameter(torch.empty(hidden, d_model))

    def forward(self, x):
        return (functional.gelu(x @ self.w_gate_MH) * (x @ self.w_in_MH)) @ self.w_out_HM


class FeedForward(nn.Module):
    """In the place of experts where `num_experts=1`."""

    def __init__(self, d_model, hidden):
        super().__init__()
        self.w_in_MH = nn.Parameter(torch.empty(d_model, hidden))
        self.w_out_HM = nn.Parameter(torch.empty(hidden, d_model))

    def forward(self, x):
        return functional.gelu(x @ self.w_in_MH) @ self.w_out_HM


class Router(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.top_k, self.normalize = config.num_experts_per_tok, config.normalize_gates
        self.w_ME = nn.Parameter(torch.empty(config.d_model, config.num_experts))
        self.bias_E = nn.Parameter(torch.empty(config.num_experts))
        moved = nn.Parameter(torch.empty(config.num_experts), requires_grad=False)
        self.bias_of_choice_E = moved if config.biased_choice else None

    def forward(self, x):
        """The experts of every token, and their gates."""
        logits = at_least_float32(x) @ at_least_float32(self.w_ME) + at_least_float32(self.bias_E)
        if self.bias_of_choice_E is None:
            top, experts = logits.topk(self.top_k)
        else:  # for the choice alone: gates are of the logits
            experts = (logits + at_least_float32(self.bias_of_choice_E)).topk(self.top_k).indices
            top = logits.gather(-1, experts)
        gates = top.softmax(-1) if self.normalize else logits.softmax(-1).gather(-1, experts)
        return experts, gates.to(x.dtype)


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        E, M, H = config.num_experts, config.d_model, config.d_ff
        self.w_in_EMH = nn.Parameter(torch.empty(E, M, H))
        self.w_out_EHM = nn.Parameter(torch.empty(E, H, M))

    def forward(self, x, expert):
        return functional.gelu(x @ self.w_in_EMH[expert]) @ self.w_out_EHM[expert]


class MixtureOfExperts(nn.Module):
    """Every token is sent to `num_experts_per_tok` experts; none is dropped."""

    def __init__(self, config):
        super().__init__()
        self.router, self.experts = Router(config), Experts(config)

    def forward(self, x):
        tokens = x.flatten(0, 1)
        experts, gates = self.router(tokens)
        y = torch.zeros_like(tokens)
        for expert in experts.unique().tolist():
            token, choice = torch.where(experts == expert)
            gated = gates[token, choice, None] * self.experts(tokens[token], expert)
            y = y.index_add(0, token, gated)
        return y.view_as(x)


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config, index)
        self.ffn_norm = RMSNorm(config.d_model)
        every = config.moe_every
        if every == 0 or (index + 1) % every:
            self.ffn = GatedFeedForward(config.d_model, config.d_ff)
        elif config.num_experts > 1:
            self.ffn = MixtureOfExperts(config)
        else:
            self.ffn = FeedForward(config.d_model, config.num_experts_per_tok * config.d_ff)

    def forward(self, x, bucket, hidden, cache):
        x = x + self.attention(self.attention_norm(x), bucket, hidden, cache)
        return x + self.ffn(self.ffn_norm(x))


class GlamForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = GlamConfig
    base_model_prefix = ""
    _no_split_modules = ["Layer"]

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.d_model)
        self.post_init()

    def _init_weights(self, module):
        """Weights are loaded, not drawn."""

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        cache=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        past_key_values=None,
        **kwargs,
    ):
        """`attention_mask` is 0 at padding, on either side. Positions are relative: they need no
        ids, and there is no longest text."""
        cache = cache if cache is not None else past_key_values  # its name before 5.24
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        x = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        x = x * self.config.d_model**0.5
        seen = cache.get_seq_length() if cache is not None else 0
        keys = max(seen + x.shape[1], cache.get_max_length() if cache is not None else 0)
        bucket, hidden = self._positions(int(seen), x.shape[1], int(keys), attention_mask, x.device)
        for layer in self.layers:
            x = layer(x, bucket, hidden, cache)
        x = self.norm(x[:, -logits_to_keep:] if logits_to_keep else x)
        logits = at_least_float32(functional.linear(x, self.embedding.weight))
        if self.config.logit_cap:
            logits = self.config.logit_cap * torch.tanh(logits / self.config.logit_cap)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        output = CausalLMOutputWithPast(loss=loss, logits=logits)
        fields = type(output).__dataclass_fields__
        output["cache" if "cache" in fields else "past_key_values"] = cache
        return output

    def _positions(self, seen, length, keys, attention_mask, device):
        """The bucket of every query and key, `[length, keys]`, and what is hidden from a query:
        later keys and padding."""
        query = torch.arange(seen, seen + length, device=device)
        distance = query[:, None] - torch.arange(keys, device=device)
        table = torch.tensor(bucket_of_distance(self.config), device=device)
        bucket = table[distance.clamp(0, self.config.position_max_distance)]
        hidden = distance < 0
        if attention_mask is None:
            return bucket, hidden
        if attention_mask.dim() == 4:  # of a static cache: True or 0 at what is seen
            is_bool = attention_mask.dtype == torch.bool
            return bucket, hidden | (~attention_mask if is_bool else attention_mask < 0)
        padding = functional.pad(attention_mask == 0, (0, keys - attention_mask.shape[1]))
        return bucket, hidden | padding[:, None, None]
