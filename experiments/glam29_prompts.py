"""`python -m experiments.glam29_prompts`: writes docs/glam29-benchmarks.md, where every prompt of
`evaluation=glam29` is shown on documents of the tests, from the code that judges them."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from glam.config import EvaluationConfig
from glam.evaluation.harness import quiet
from glam.evaluation.suites.glam29.benchmark import Benchmark, Chosen, Generated
from glam.evaluation.suites.glam29.catalogue import BENCHMARKS
from glam.evaluation.suites.glam29.published import SETTINGS, published, published_file
from glam.evaluation.suites.glam29.suite import load_benchmark

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "glam29-benchmarks.md"
DOCUMENTS = ROOT / "tests" / "evaluation" / "suites" / "glam29" / "documents.yaml"
SEED = 1234
INTRODUCTION = """# The 29 benchmarks of GLaM

What `evaluation=glam29` judges a model on, and by which prompts; [how to run it](glam29.md) is a
page of its own. This page is written by `python -m experiments.glam29_prompts`.

## Data, demonstrations, scores

K is the number of demonstrations in the few-shot setting: GPT-3's (arXiv 2005.14165, table H.1),
which the paper follows. A choice is made *per token* (log-likelihood over the number of tokens), by
the *sum*, or by the likelihood *over that after* `Answer:`.
"""
PUBLISHED = """## Published figures

In per cent, as public copies of the papers print them: zero-, one- and few-shot. None was read
from a PDF of ours. **?** marks a figure that another copy contradicts, or that only one copy was
found of; the notes say which. A dash: no public copy gives it. In brackets: GLaM's demonstrations
where the copy says them.
"""
PROMPTS = """## Prompts

With one demonstration, on documents that were made for the tests. A frame shows what the model is
given, character by character; below it are the answers as they follow, the right one first where
they are to choose from.
"""


def page() -> str:
    parts = [INTRODUCTION, *_table(), "", PUBLISHED, *_figures(), "", PROMPTS]
    with tempfile.TemporaryDirectory() as folder:
        _write_documents(Path(folder))
        for benchmark in BENCHMARKS.values():
            parts += _prompt(benchmark, Path(folder))
    return "\n".join(parts).rstrip() + "\n"


def _table() -> Iterator[str]:
    yield "| benchmark | category | data | judged split | demonstrations | K | scores | answer |"
    yield "| --- " * 8 + "|"
    for one in BENCHMARKS.values():
        data = one.data
        name = f"`{data.dataset}`" + (f" `{data.config}`" if data.config else "")
        cells = (one.title, one.category, name, data.split, data.demonstrations, one.shots)
        yield f"| {' | '.join(map(str, cells))} | {', '.join(one.metrics)} | {_answer(one)} |"


def _answer(one: Benchmark) -> str:
    if isinstance(one, Generated):
        return f"written, at most {one.tokens} tokens"
    assert isinstance(one, Chosen)
    return f"chosen: {one.rule}"


def _figures() -> Iterator[str]:
    file = published_file()
    models = list(file.models.values())
    yield f"| benchmark | score | {' | '.join(models)} |"
    yield "| --- " * (2 + len(models)) + "|"
    rows = [(one.title, name, metric) for name, one in BENCHMARKS.items() for metric in one.metrics]
    rows += [(f"mean, {name}", name, "mean") for name in ("all", "NLG", "NLU")]
    for title, task, metric in rows:
        cells = [_cell(task, metric, model) for model in models]
        if any(cell.strip("– /") for cell in cells):
            yield f"| {title} | {metric} | {' | '.join(cells)} |"
    yield ""
    for row in (*file.figures, *file.averages):
        for setting, why in row.doubt.items():
            title = BENCHMARKS[row.task].title
            yield f"- {title} {row.metric}, {file.models[row.model]}, {setting}-shot: {why}"
    yield "\nSources:\n"
    yield from (f"- {name}: {source}" for name, source in file.sources.items())


def _cell(task: str, metric: str, model: str) -> str:
    found = {
        one.setting: one
        for one in published()
        if (one.task, one.metric, one.model) == (task, metric, model)
    }
    return " / ".join(_figure(found.get(setting)) for setting in SETTINGS)


def _figure(one: Any) -> str:
    if one is None:
        return "–"
    shots = f" ({one.shots})" if one.shots else ""
    return f"{100 * one.value:.1f}{'?' if one.doubt else ''}{shots}"


def _write_documents(folder: Path) -> None:
    for split, rows in yaml.safe_load(DOCUMENTS.read_text(encoding="utf-8")).items():
        file = folder / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _prompt(benchmark: Benchmark, folder: Path) -> Iterator[str]:
    with quiet():
        task, _ = load_benchmark(benchmark, EvaluationConfig(data_dir=str(folder)))
        task.set_config("num_fewshot", 1)
        task.set_fewshot_seed(SEED)
        task.build_all_requests()
    document: Any = next(iter(task.eval_docs))
    requests: list[Any] = [one.args for one in task.instances if one.doc_id == 0]
    yield f"### {benchmark.title}\n"
    if isinstance(benchmark, Chosen):
        options = requests[: len(benchmark.options(document))]
        gold = benchmark.gold(document)
        order = [gold, *(n for n in range(len(options)) if n != gold)]
        yield from _frame(options[gold][0])
        yield from _choices([options[n] for n in order])
    else:
        yield from _frame(requests[0][0])
        yield f"- `{json.dumps(f' {benchmark.right(document).answer}', ensure_ascii=False)}`"
    yield ""


def _choices(options: list[tuple[str, str]]) -> Iterator[str]:
    """Answers; where the prompts differ, the last line of each with its answer."""
    are_contexts = len({prompt for prompt, _ in options}) > 1
    for prompt, answer in options:
        last = prompt.splitlines()[-1] if are_contexts else ""
        after = f"`{json.dumps(last, ensure_ascii=False)}` then " if are_contexts else ""
        yield f"- {after}`{json.dumps(answer, ensure_ascii=False)}`"


def _frame(prompt: str) -> Iterator[str]:
    yield "```text"
    yield prompt
    yield "```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
