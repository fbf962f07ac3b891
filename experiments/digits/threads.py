"""Whether a step has the same bits with one thread and with two, and with gradients of two passes.

`step`: the loss and all gradients of a model; `accumulated`: gradients of two batches added before
the update; `products`: one of torch's own matrix products, which MKL and oneDNN split among
threads, of a shape whose sums are long. A difference is the largest over the largest entry.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from glam.config import ModelConfig
from glam.kernels.kernel_set import kernel_set
from glam.model import Glam

Row = dict[str, object]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODELS = {
    "default": ModelConfig(),
    "dense twin": ModelConfig(num_experts=1),
    "M 256 E 16": ModelConfig(d_model=256, d_ff=1024, num_experts=16, num_layers=2),
}
ROWS, LENGTH = 8, 128


def measure() -> Iterator[Row]:
    for precision, dtype in TYPES.items():
        for name, config in MODELS.items():
            for what, batches in (("step", 1), ("accumulated", 2)):
                computed = _gradients(config, dtype, batches)
                yield _row(f"{what}, {name}", precision, _by_threads(computed))
        for n, k, m in ((64, 1_000_000, 64), (1024, 64, 2048), (2048, 1024, 2048)):
            torch.manual_seed(0)
            a, b = torch.randn(n, k).to(dtype), torch.randn(k, m).to(dtype)
            what = f"products, [{n}, {k}] [{k}, {m}]"
            yield _row(what, precision, _by_threads(lambda a=a, b=b: [a @ b]))


def _row(what: str, precision: str, found: tuple[bool, float]) -> Row:
    same, difference = found
    return {
        "what": what,
        "precision": precision,
        "kernels": kernel_set(precision),
        "same_bits": same,
        "difference": difference,
    }


def _by_threads(compute: Callable[[], Sequence[Tensor]]) -> tuple[bool, float]:
    made: list[list[Tensor]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append([one.double() for one in compute()])
    torch.set_num_threads(1)
    pairs = list(zip(*made, strict=True))
    worst = max(((a - b).abs().max() / a.abs().max().clamp(min=1e-30)).item() for a, b in pairs)
    return all(torch.equal(a, b) for a, b in pairs), worst


def _gradients(
    config: ModelConfig, dtype: torch.dtype, batches: int
) -> Callable[[], Sequence[Tensor]]:
    model = Glam(config, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    shape = (batches, ROWS, LENGTH + 1)
    tokens = torch.randint(0, config.vocab_size, shape, generator=generator)

    def compute() -> Sequence[Tensor]:
        model.zero_grad()
        losses: list[Tensor] = []
        for batch in tokens:
            torch.manual_seed(0)
            output = model.loss(batch[:, :-1], batch[:, 1:])
            ((output.loss + output.balance_loss) / batches).backward()
            losses.append(output.loss.detach())
        return [*losses, *(w.grad.clone() for w in model.parameters() if w.grad is not None)]

    return compute
