"""The model over texts side by side, each whole: what any model on any engine can do."""
# torch's stubs leave some results untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glam.evaluation.shared_forward import Target
from glam.machine.processes import Processes
from glam.model import Glam

LOGITS_AT_ONCE = 2**28  # 1 GB in float32


class PaddedForward:
    """Judges batches of rows. A model that wants one shape (`Glam.one_shape`) gets batches of
    `max_length` tokens. Several `processes` share the rows of a batch."""

    def __init__(
        self, model: Glam, max_length: int, batch_tokens: int, processes: Processes
    ) -> None:
        self.model, self.max_length, self.processes = model, max_length, processes
        self.device = next(model.parameters()).device
        self.one_shape = model.one_shape
        self.batch_tokens = min(batch_tokens, LOGITS_AT_ONCE // model.config.vocab_size)

    def batches(self, rows: Sequence[Target]) -> Iterator[list[Target]]:
        """Rows of like length, the longest first, so that a batch that does not fit shows itself
        at once."""
        order, first = sorted(rows, key=lambda row: -len(row[0])), 0
        while first < len(order):
            count = self._rows_of(self._length(order[first:]))
            yield order[first : first + count]
            first += count

    def _length(self, rows: Sequence[Target]) -> int:
        """Tokens of a row, in a batch whose longest row is the first."""
        return self.max_length if self.one_shape else max(1, len(rows[0][0]))

    def _rows_of(self, length: int) -> int:
        """How many rows of `length` tokens are computed together."""
        return max(1, self.batch_tokens // length)

    def judge(self, rows: Sequence[Target]) -> list[tuple[float, bool]]:
        """Nats of each row's targets, and whether each is the likeliest token."""
        mine = self.processes.rows(len(rows))
        # At least a row a process: a model whose weights are spread needs all of them at work.
        own = [rows[n] for n in mine] or [rows[0]]
        found = torch.zeros(len(rows), 2, dtype=torch.float64)
        found[mine.start : mine.stop] = self._scores(own)[: len(mine)]
        return [(nats, bool(greedy)) for nats, greedy in self.processes.sum(found).tolist()]

    def _scores(self, rows: Sequence[Target]) -> Float[Tensor, "R 2"]:
        tokens, targets, judged = self._padded(rows)
        logits = self.model(tokens.to(self.device)).logits.flatten(0, 1).float()
        # Where shapes may differ, the judged positions alone are looked at.
        wanted = targets.flatten() if self.one_shape else targets[judged]
        if not self.one_shape:
            logits = logits[judged.flatten().to(self.device)]
        wanted = wanted.to(self.device)
        nats = logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0].cpu()
        is_likeliest = (logits.argmax(-1) == wanted).cpu()
        if self.one_shape:
            nats, is_likeliest = nats[judged.flatten()], is_likeliest[judged.flatten()]
        sizes = [len(targets) for _, targets in rows]
        found = [
            (each.double().sum().item(), float(every.all()))
            for each, every in zip(nats.split(sizes), is_likeliest.split(sizes), strict=True)
        ]
        return torch.tensor(found, dtype=torch.float64)

    def _padded(self, rows: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, targets and whether they are judged, `[rows, length]` each."""
        length = self._length(rows)
        count = self._rows_of(length) if self.one_shape else len(rows)
        tokens = np.zeros((count, length), np.int64)
        targets, judged = np.zeros_like(tokens), np.zeros_like(tokens, bool)
        for n in range(count):
            # Attention is causal, so no row sees what stands behind it. Filled up with tokens of
            # its own, a row asks for the experts that it asks for anyway.
            inputs, of_row = rows[n % len(rows)]
            tokens[n] = np.resize(inputs, length)
            if n < len(rows):
                part = slice(len(inputs) - len(of_row), len(inputs))
                targets[n, part], judged[n, part] = of_row, True
        return torch.tensor(tokens), torch.tensor(targets), torch.tensor(judged)
