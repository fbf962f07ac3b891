"""What the data recipe and the command line cost: the other tables of experiments/benchmarks."""

from experiments.pages.speeds import table_of, told, written
from experiments.pages.words import listed, markdown

OURS = "ours"


def copies() -> str:
    """Throughput of every way to find copies, by task."""
    rows = table_of("copies")
    candidates = list(dict.fromkeys(row["candidate"] for row in rows))
    made = []
    for task in dict.fromkeys(row["task"] for row in rows):
        there = {row["candidate"]: row for row in rows if row["task"] == task}
        cells = [_throughput(there[one]) if one in there else "" for one in candidates]
        made.append([task, *cells])
    first = rows[0]
    words = f"MB/s of a core, {first['megabytes']} MB in {int(first['documents']):,} documents:"
    return f"{words}\n\n{markdown(['task', *candidates], made)}"


def _throughput(row: dict[str, str]) -> str:
    value = float(row["MB/s"])
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def recipe() -> str:
    """From files to tokens, by task and candidate."""
    rows = [
        [row["task"], row["candidate"], _throughput(row), written(float(row["ratio"]))]
        for row in table_of("recipe")
    ]
    return markdown(["task", "by", "MB/s of a core", "of our time"], rows)


def scoring() -> str:
    """The kernel's share of the time of what was used before, by length of the n-grams."""
    rows = table_of("scores")
    shares = [told([float(r["ratio"])]) for r in rows if r["candidate"] == "kernel"]
    others = [told([float(r["ratio"])]) for r in rows if r["candidate"] == "without kernels"]
    return (
        f"Scoring pages by their quality takes {listed(shares)} of scikit-learn's time for n-grams "
        f"of 1, 2 and 3 words, and {listed(others)} where there is no compiler, with the same "
        "scores (`scores`)."
    )


def cutting() -> str:
    """Text into tokens, by the size of the vocabulary."""
    rows = table_of("tokens")
    pieces = list(dict.fromkeys(row["vocabulary"] for row in rows))
    by = {
        name: listed(written(float(r["ratio"])) for r in rows if r["candidate"] == name)
        for name in ("kernel", "without kernels", "tokenizers")
    }
    speed = listed(f"{float(r['mb_per_cpu_s']):.0f}" for r in rows if r["candidate"] == "kernel")
    return (
        f"Cutting text into tokens takes the kernel {by['kernel']} of SentencePiece's time, whose "
        f"tokens it gives, for {listed(pieces)}: {speed} MB a second of a core. Without a compiler "
        f"it is SentencePiece with its own arrays, {by['without kernels']}; Hugging Face's "
        f"`tokenizers` takes {by['tokenizers']} (`tokens`)."
    )


def overhead() -> str:
    """Starting, refusing, skipping, and the loop around the steps."""
    rows = [
        [r["what"], f"{float(r['value']):.3g} {r['unit']}", r["note"]] for r in table_of("overhead")
    ]
    return markdown(["what", "took", ""], rows)


def stages() -> str:
    """The preparation of the embedded corpora, by stage."""
    rows = [
        [
            row["stage"],
            f"{float(row['cpu_s']):.2f}",
            f"{float(row['tokens_per_cpu_s']) / 1e6:,.1f} M",
        ]
        for row in table_of("pipeline")
    ]
    peak = max(float(row["process_peak_mb"]) for row in table_of("pipeline"))
    return (
        f"{markdown(['stage', 'seconds of a core', 'tokens a second'], rows)}\n\n"
        f"At most {peak:,.0f} MB are resident."
    )


def avx2() -> str:
    """Every row of the table that is no baseline."""
    rows = [
        [row["size"], row["candidate"], row["against"], written(float(row["ratio"]))]
        for row in table_of("avx2")
        if row["candidate"] != row["against"]
    ]
    return markdown(["a step", "with", "over", "ratio"], rows)
