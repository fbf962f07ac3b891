"""Our model as lm-eval's harness asks it: log-likelihoods of continuations, and text."""
# lm-eval has types in part, and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from glam.evaluation.answers import Answers
from glam.evaluation.held_out import evaluating
from glam.evaluation.journal import Journal, key_of
from glam.evaluation.padded_forward import PaddedForward
from glam.evaluation.prefixes import Tokens, chunks
from glam.evaluation.shared_forward import Target, judge
from glam.machine.processes import SINGLE, Processes
from glam.model.decoding.continue_tokens import cache_serves
from glam.progress import Bar

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from glam.data import Tokenizer
    from glam.model import Glam

CHUNK = 4  # batches whose rows are looked at together for what they share


class LogLikelihood(tuple[float, bool]):
    """What lm-eval expects of a continuation, `(nats, is_greedy)`; and the number of its `tokens`,
    by which a task may normalise."""

    tokens: int

    def __new__(cls, nats: float, is_greedy: bool, tokens: int) -> "LogLikelihood":
        made = super().__new__(cls, (nats, is_greedy))
        made.tokens = tokens
        return made


class GlamLM(TemplateLM):
    """A model under lm-eval. Text becomes tokens by the rules of lm-eval's own Hugging Face
    backend (with `add_bos_token=True`): a context begins with the beginning of a document.

    Prompts longer than `max_length` tokens lose their start; `check_lengths` is told, by task, how
    many tokens each has before anything is computed. `batch_tokens` bounds the tokens that are
    computed together. Several `processes` share the rows of a batch. What the `journal` knows is
    not computed again.
    """

    def __init__(
        self,
        model: "Glam",
        tokenizer: "Tokenizer",
        *,
        max_length: int,
        batch_tokens: int = 4096,
        processes: Processes = SINGLE,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        self.journal = journal
        self.model, self.glam_tokenizer = model, tokenizer
        self.max_length, self.batch_tokens, self.processes = max_length, batch_tokens, processes
        self._device = next(model.parameters()).device
        self.check_lengths: Callable[[dict[str, list[int]]], None] = lambda _: None

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
    ) -> list[tuple[float, bool]]:
        """Of the continuation of each request's `(context, continuation)`; LogLikelihoods."""
        pairs: list[tuple[tuple[str, str], list[int], list[int]]] = []
        lengths: dict[str, list[int]] = {}
        for request in requests:
            context, continuation = cast(tuple[str, str], request.args)
            if context:
                before, after = self._encode_pair(context, continuation)
            else:
                before, after = [self.prefix_token_id], self.glam_tokenizer.encode(continuation)
            pairs.append(((context, continuation), before, after))
            lengths.setdefault(request.task_name or "", []).append(len(before) + len(after) - 1)
        self.check_lengths(lengths)
        return self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        found = {row: LogLikelihood(0.0, True, 0) for row in rows if not row[1]}
        found |= self._known(rows)
        todo = sorted(set(rows) - set(found))  # equal rows once
        if not todo:
            return [found[row] for row in rows]
        with evaluating(self.model), Bar("log-likelihoods", len(todo), "answers") as bar:
            for batch, judged in self._judged(todo):
                for row, (nats, is_greedy) in zip(batch, judged, strict=True):
                    found[row] = LogLikelihood(nats, is_greedy, len(row[1]))
                if self.journal is not None:
                    self.journal.add({key_of(row): found[row] for row in batch})
                bar.advance(len(batch))
        return [found[row] for row in rows]

    def _known(self, rows: Sequence[Target]) -> dict[Target, LogLikelihood]:
        if self.journal is None or not self.journal.known:
            return {}
        known = {row: self.journal.known.get(key_of(row)) for row in set(rows)}
        return {
            row: LogLikelihood(one[0], one[1], len(row[1])) for row, one in known.items() if one
        }

    def _row(self, context: list[int], continuation: list[int]) -> Target:
        whole = (context + continuation)[-(self.max_length + 1) :]
        count = min(len(continuation), len(whole) - 1)
        return tuple(whole[:-1]), tuple(whole[len(whole) - count :])

    def _judged(
        self, rows: Sequence[Target]
    ) -> Iterator[tuple[Sequence[Target], list[tuple[float, bool]]]]:
        """Rows in batches, and what was found of each. What rows begin with alike is computed once
        where a single process has a model whose keys and values can be kept."""
        if self.processes.size == 1 and cache_serves(self.model):
            for batch in self._alike(rows):
                yield batch, judge(self.model, batch, self.batch_tokens)
            return
        padded = PaddedForward(self.model, self.max_length, self.batch_tokens, self.processes)
        for batch in padded.batches(rows):
            yield batch, padded.judge(batch)

    def _alike(self, rows: Sequence[Target]) -> Iterator[list[Target]]:
        """Sorted rows in runs that have much in common."""
        by_inputs: dict[Tokens, list[Target]] = {}
        for row in rows:
            by_inputs.setdefault(row[0], []).append(row)
        for chunk in chunks(list(by_inputs), CHUNK * self.batch_tokens):
            yield [row for inputs in chunk for row in by_inputs[inputs]]

    def loglikelihood_rolling(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[float]:
        """Of each request's whole text; where it is longer than `max_length`, in windows that
        share no judged token. (lm-eval's Hugging Face backend with `add_bos_token=True` puts the
        beginning of a document twice, and judges the second.)"""
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
        """The continuation of each request's context, up to one of its `until`."""
        lengths: dict[str, list[int]] = {}
        for request in requests:
            length = 1 + len(self.glam_tokenizer.encode(request.args[0]))
            lengths.setdefault(request.task_name or "", []).append(length)
        self.check_lengths(lengths)
        answers = Answers(self.model, self.glam_tokenizer, self.max_length, self.journal)
        prompts = [cast(tuple[str, dict[str, Any]], request.args) for request in requests]
        return answers.of(prompts)
