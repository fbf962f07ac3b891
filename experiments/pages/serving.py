"""Serving with fewer experts, in fewer bytes and in less memory."""

from experiments.pages.tables import plain
from experiments.pages.words import Claim, markdown
from glam.units import signed

SHOWN_GATE = "0.2"  # the threshold of the sentence
ALL = "all"  # no threshold


def serving() -> Claim:
    """One run: no interval."""
    rows = {(row["experts"], row["threshold"]): row for row in plain("serving/results.csv")}
    fewer, narrow = rows["float32", SHOWN_GATE], rows["int8", ALL]
    more, int8 = (signed(float(row["more_loss"]), 4) for row in (fewer, narrow))
    return Claim(
        "One run, no interval",
        f"A second expert dropped below a gate of {SHOWN_GATE} leaves "
        f"{float(fewer['active_experts']):.2f} active experts for {more} nats per token; int8 "
        f"experts cost {int8}.",
    )


def thresholds() -> str:
    """Loss, FLOPs and bytes by threshold, over those of all experts in float32."""
    rows = plain("serving/results.csv")
    first = rows[0]
    by = {(row["experts"], row["threshold"]): row for row in rows}
    made: list[list[str]] = []
    for threshold in dict.fromkeys(row["threshold"] for row in rows):
        wide, narrow = by["float32", threshold], by["int8", threshold]
        ratio = [
            f"{float(row[name]) / float(first[name]):.2f}"
            for row, name in (
                (wide, "flops_per_token"), (wide, "bytes_per_token"), (narrow, "bytes_per_token"),
            )
        ]  # fmt: skip
        more = [signed(float(row["more_loss"]), 4) for row in (wide, narrow)]
        label = "none" if threshold == ALL else threshold
        made.append([label, f"{float(wide['active_experts']):.2f}", *more, *ratio])
    head = ["threshold", "active experts", "loss more, float32", "int8", "FLOPs"]
    table = markdown([*head, "bytes read, float32", "int8"], made)
    return f"Loss is in nats per token, more than {float(first['loss']):.4f}.\n\n{table}"


def pools() -> str:
    made = [
        [
            row["experts"], f"{float(row['pool_mb']):.3g}", row["seats"],
            f"{float(row['grown_mb']):.0f}", f"{float(row['reads_per_token']):.2f}",
        ]
        for row in plain("serving/memory.csv")
    ]  # fmt: skip
    head = ["experts", "pool, MB", "seats", "RssAnon added, MB", "expert reads a token"]
    return markdown(head, made)
