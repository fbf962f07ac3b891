"""A learning rate that follows from the size of a model and its training tokens."""

import math
from dataclasses import dataclass, field

from glam.config._checks import LARGEST, positive, within
from glam.errors import UserError

MILLION = 1e6
FAR = 2  # times the most of the fit, from where a line says so


@dataclass(kw_only=True)
class RateRule:
    """The peak learning rate of N active parameters (the embedding's left out), D training tokens
    and B tokens a step:

        scale (N / 10^6)^-size_exponent (D / 10^6)^-token_exponent (B / batch_tokens)^(1/2)

    A power law in size and tokens is the form of DeepSeek LLM (arXiv 2401.02954, section 3.1) and
    of Step Law (arXiv 2503.04715); the root of the batch is Adam's scaling rule (Malladi et al.
    2022, arXiv 2205.10287). Beyond the largest size or the most tokens that it was fitted to it
    goes on; below the least it stays, since a rate that grows for ever diverges."""

    scale: float = 0.0122  # the rate of 10^6 active parameters and 10^6 tokens
    size_exponent: float = 0.258  # of active parameters: how fast the rate falls with size
    token_exponent: float = 0.638  # of training tokens: how fast it falls with them
    batch_tokens: int = 1024  # [tokens] of a step in the runs that it was fitted to
    # what it was fitted to, least and most
    sizes: list[int] = field(default_factory=lambda: [19_088, 1_181_312])  # [active parameters]
    tokens: list[int] = field(default_factory=lambda: [500_000, 4_000_000])  # [tokens] of a run
    # what the constants were fitted to; empty: guessed
    source: str = "experiments/learning_rate"

    def __post_init__(self) -> None:
        positive("optimizer.auto.", self, "scale", "batch_tokens")
        within("optimizer.auto.", self, -4, 4, "size_exponent", "token_exponent")
        for name in ("sizes", "tokens"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= LARGEST:
                raise UserError(
                    f"optimizer.auto.{name}={ends} must be the least and the most of the fit, "
                    f"for example {name}=[1000,1000000]"
                )

    def rate(self, active_params: int, tokens: int, tokens_per_step: int) -> float:
        """Rounded to three digits, so that a name and a table say all of it."""
        log_rate = (
            math.log(self.scale)
            - self.size_exponent * math.log(max(active_params, self.sizes[0]) / MILLION)
            - self.token_exponent * math.log(max(tokens, self.tokens[0]) / MILLION)
            + math.log(tokens_per_step / self.batch_tokens) / 2
        )
        return float(f"{math.exp(log_rate):.3g}")

    def beyond(self, active_params: int, tokens: int) -> str | None:
        """How far above what it was fitted to, in words; None up to twice of it."""
        asked = ((active_params, self.sizes, "active parameters"), (tokens, self.tokens, "tokens"))
        said = [
            f"{value:,} {unit} are {value / ends[1]:.2g} times the most, {ends[1]:,}"
            for value, ends, unit in asked
            if value > FAR * ends[1]
        ]
        return " and ".join(said) or None
