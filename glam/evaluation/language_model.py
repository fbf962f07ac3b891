"""Our model as lm-eval's harness asks it: log-likelihoods of continuations, and text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from glam.evaluation.generation import generate
from glam.evaluation.held_out import evaluating
from glam.evaluation.prefixes import chunks
from glam.evaluation.shared_forward import judge
from glam.machine.processes import SINGLE, Processes
from glam.progress import Bar

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from glam.data import Tokenizer
    from glam.model import Glam

CHUNK = 4  # batches whose rows are looked at together for what they share
MOST_NEW_TOKENS = 256  # of a generated answer, where its task does not say


class LogLikelihood(tuple[float, bool]):
    """What lm-eval expects of a continuation, `(nats, is_greedy)`; and the number of its `tokens`,
    by which a task may normalise."""

    tokens: int

    def __new__(cls, nats: float, is_greedy: bool, tokens: int) -> "LogLikelihood":
        made = super().__new__(cls, (nats, is_greedy))
        made.tokens = tokens
        return made


class _Row(NamedTuple):
    """Tokens that the model reads, and those behind them that it is judged on: the last ones of
    `inputs` predict `targets`."""

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


class GlamLM(TemplateLM):
    """A model under lm-eval. Text becomes tokens by the rules of lm-eval's own Hugging Face
    backend (with `add_bos_token=True`): a context begins with the beginning of a document.

    Prompts longer than `max_length` tokens lose their start. `batch_tokens` bounds the tokens that
    are computed together. Several `processes` share the rows of a batch.
    """

    def __init__(
        self,
        model: "Glam",
        tokenizer: "Tokenizer",
        *,
        max_length: int,
        batch_tokens: int = 4096,
        processes: Processes = SINGLE,
    ) -> None:
        super().__init__()
        self.model, self.glam_tokenizer = model, tokenizer
        self.max_length, self.batch_tokens, self.processes = max_length, batch_tokens, processes

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        """The end of a document, which ends an answer."""
        return self.glam_tokenizer.eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.glam_tokenizer.bos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        tokens = self.glam_tokenizer.encode(string)
        return tokens if add_special_tokens is False else [self.prefix_token_id, *tokens]

    def count_tokens(self, text: str) -> int:
        """Of a text in the middle of a document."""
        return len(self.glam_tokenizer.encode(text))

    def loglikelihood(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[LogLikelihood]:
        """Of the continuation of each request's `(context, continuation)`."""
        pairs: list[tuple[tuple[str, str], list[int], list[int]]] = []
        for context, continuation in (request.args for request in requests):
            if context:
                before, after = self._encode_pair(context, continuation)
            else:
                before, after = [self.prefix_token_id], self.glam_tokenizer.encode(continuation)
            pairs.append(((context, continuation), before, after))
        return self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[LogLikelihood]:
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        found = {row: LogLikelihood(0.0, True, 0) for row in rows if not row.targets}
        todo = sorted(set(rows) - set(found))  # equal rows once
        shares = self._shares_prefixes
        batches = self._alike(todo) if shares else self._of_like_length(todo)
        with evaluating(self.model), Bar("log-likelihoods", len(todo), "answers") as bar:
            for batch in batches:
                judged = (
                    judge(self.model, batch, self.batch_tokens) if shares else self._judge(batch)
                )
                for row, (nats, is_greedy) in zip(batch, judged, strict=True):
                    found[row] = LogLikelihood(nats, is_greedy, len(row.targets))
                bar.advance(len(batch))
        return [found[row] for row in rows]

    @property
    def _shares_prefixes(self) -> bool:
        """Whether what rows begin with alike may be computed once: where a token does not depend
        on those beside it (as it does for seats in an expert), and one process has the model."""
        return (
            self.processes.size == 1
            and self.device.type != "xla"
            and not self.model.config.dispatcher_config.static_shapes
        )

    def _alike(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Sorted rows in runs that have much in common."""
        by_inputs: dict[tuple[int, ...], list[_Row]] = {}
        for row in rows:
            by_inputs.setdefault(row.inputs, []).append(row)
        for chunk in chunks(list(by_inputs), CHUNK * self.batch_tokens):
            yield [row for inputs in chunk for row in by_inputs[inputs]]

    def _row(self, context: list[int], continuation: list[int]) -> _Row:
        whole = (context + continuation)[-(self.max_length + 1) :]
        count = min(len(continuation), len(whole) - 1)
        return _Row(tuple(whole[:-1]), tuple(whole[len(whole) - count :]))

    def _of_like_length(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """The longest first, so that a batch that does not fit shows itself at once."""
        order, first = sorted(rows, key=lambda row: -len(row.inputs)), 0
        while first < len(order):
            count = max(1, self.batch_tokens // len(order[first].inputs))
            yield order[first : first + count]
            first += count

    def _judge(self, rows: Sequence[_Row]) -> list[tuple[float, bool]]:
        """Each row by itself: what any model on any engine can do."""
        mine = self.processes.rows(len(rows))
        # At least a row a process: a model whose weights are spread needs all of them at work.
        own = [rows[n] for n in mine] or [rows[0]]
        found = torch.zeros(len(rows), 2, dtype=torch.float64)
        logits = self._logits(own)
        for n, row, last in zip(mine, own, logits, strict=False):
            found[n] = torch.tensor(_score(last, row.targets), dtype=torch.float64)
        return [(nats, bool(greedy)) for nats, greedy in self.processes.sum(found).tolist()]

    def _logits(self, rows: Sequence[_Row]) -> Iterator[Float[Tensor, "T V"]]:
        """At the positions that predict each row's targets."""
        # Padded on the right: attention is causal, so no row sees it.
        length = max(len(row.inputs) for row in rows)
        tokens = torch.full((len(rows), length), self.eot_token_id)
        for n, row in enumerate(rows):
            tokens[n, : len(row.inputs)] = torch.tensor(row.inputs)
        logits = self.model(tokens.to(self.device)).logits
        for n, row in enumerate(rows):
            end = len(row.inputs)
            yield logits[n, end - len(row.targets) : end]

    def loglikelihood_rolling(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[float]:
        """Of each request's whole text; where it is longer than `max_length`, in windows that
        share no judged token."""
        pieces: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for n, request in enumerate(requests):
            tokens = self.glam_tokenizer.encode(request.args[0])
            for window in get_rolling_token_windows(
                tokens, self.prefix_token_id, self.max_length, 1
            ):
                pieces.append((None, *make_disjoint_window(window)))
                owners.append(n)
        totals = [0.0] * len(requests)
        judged = self._loglikelihood_tokens(pieces, disable_tqdm=disable_tqdm)
        for n, (nats, _) in zip(owners, judged, strict=True):
            totals[n] += nats
        return totals

    def generate_until(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[str]:
        """The likeliest continuation of each request's context, token by token, up to one of its
        `until`."""
        found = [""] * len(requests)
        todo: dict[str, list[int]] = {}
        for n, request in enumerate(requests):
            todo.setdefault(repr(request.args), []).append(n)
        with Bar("answers", len(todo), "prompts") as bar:
            for equal in todo.values():
                context, options = requests[equal[0]].args
                text = self._generate(context, options)
                for n in equal:
                    found[n] = text
                bar.advance()
        return found

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or []
        text = generate(
            self.model,
            self.glam_tokenizer,
            context,
            max_tokens=min(options.get("max_gen_toks", MOST_NEW_TOKENS), self.max_length // 2),
            temperature=0,
            top_p=1,
            seed=0,
            context=self.max_length,
        )
        for end in [until] if isinstance(until, str) else until:
            text = text.split(end)[0] if end else text
        return text


def _score(logits: Float[Tensor, "T V"], targets: Sequence[int]) -> tuple[float, float]:
    """Nats of the targets, and 1 where each is the likeliest token."""
    wanted = torch.tensor(targets, dtype=torch.long, device=logits.device)
    logits = logits.float()
    nats = logits.log_softmax(-1).gather(-1, wanted[:, None]).double().sum()
    return nats.item(), float((logits.argmax(-1) == wanted).all())
