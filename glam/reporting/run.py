"""The page of a run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from glam.reporting import bias, curves, experts, funnel, layout, overlap, specialisation
from glam.reporting.page import render
from glam.reporting.reproduce import command
from glam.reporting.tasks import suites_on_page
from glam.runs.folder import RunFolder, write_atomically
from glam.runs.record import Json, Record, mapping, why_diverged
from glam.units import DASH, counted, duration, energy, fixed, si, whole

LONGEST_TEXT = 700  # characters of a sample of the data; generated text stands in full


def write(run: Path) -> Path:
    """Write `report.html` into the folder `run`; returns its path."""
    record = Record.read(run)
    report = RunFolder(run).report_file
    write_atomically(report, render("run.html.j2", **content(record)))
    return report


def content(record: Record) -> dict[str, Any]:
    """What the template shows: text is made here, markup there."""
    found = funnel.sources(record.data.get("funnel", []))
    return {
        "name": record.name,
        "sentence": sentence(record),
        "status": record.status,
        "trouble": trouble(record),
        "headline": headline(record),
        "domains": domains(record),
        "curves": [p for p in (curves.held_out(record), curves.training(record)) if p],
        "gauges": curves.gauges(record.metrics),
        "suites": suites_on_page(record.suites),
        "load": experts.load_over_time(record),
        "by_domain": experts.by_domain(record),
        "layers": experts.layers(record),
        "load_legend": experts.LEGEND,
        "inside": specialisation.section(record.analysis),
        "bias": bias.section(record.bias, record.correction),
        "funnel": funnel.table(found),
        "funnel_amounts": funnel.amounts(found),
        "funnel_figures": funnel.figures(found),
        "funnel_notes": funnel.notes(record.data.get("funnel", [])),
        "overlap": overlap.section(record.overlap),
        "epochs": epochs(record),
        "samples": samples(record.data.get("samples") or {}),
        "generated": [{key: str(text) for key, text in one.items()} for one in record.generated],
        "rollbacks": rollbacks(record),
        "cost": cost(record),
        "layout": layout.rows(record.layout),
        "mesh": " x ".join(f"{a} {n}" for a, n in mapping(record.setting("hardware.mesh")).items()),
        "hardware": record.setting("hardware.name"),
        "provenance": list(flat(provenance(record))),
        "configuration": yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True),
        "command": command(record),
        "commit": str(record.summary.get("git") or ""),
    }


def sentence(record: Record) -> str:
    """The experiment in a line."""
    layers = record.setting("model.num_layers")
    num_experts, every = record.setting("model.num_experts"), record.setting("model.moe_every")
    if not (layers and num_experts):
        return "No configuration was found in this folder."
    shape = f"{counted(layers, 'layer')} of width {record.setting('model.d_model')}"
    if num_experts > 1 and every:
        top_k = record.setting("model.top_k")
        shape += f"; {num_experts} experts in every {_ordinal(every)} layer, {top_k} a token"
    else:
        shape += ", dense"
    kept = record.setting("data.filter.name")
    text = "unfiltered text" if kept == "none" else "filtered text"
    tokens = si(record.summary.get("tokens") or record.setting("training.tokens"))
    return f"{shape}. {tokens} tokens of {text}, seed {record.setting('seed')}."


def _ordinal(number: int) -> str:
    return {1: "single", 2: "second", 3: "third", 4: "fourth"}.get(number, f"{number}th")


def trouble(record: Record) -> str:
    """Why the page is not that of a finished run; empty where it is."""
    if record.status == "diverged":
        skipped = record.summary.get("skipped_steps")
        return (
            f"This run diverged: {why_diverged(record.summary)}, and it was ended early. "
            f"Steps skipped: {whole(skipped)}. The figures show what happened until then."
        )
    if record.status == "failed":
        return f"This run failed: {record.failure.get('error', 'no reason was recorded')}"
    if record.status == "unfinished":
        return "This run is not finished: run the same command again and it goes on."
    return ""


def headline(record: Record) -> list[dict[str, str]]:
    """The numbers of the first screen: label, value, and a note under it."""
    loss, bits = record.part("loss"), record.part("bits_per_byte")
    size, used = record.part("parameters"), record.part("energy")
    tokens = si(record.summary.get("tokens"))
    return [
        _tile("Held-out loss", fixed(loss.get("mean")), "nats per token, mean of the domains"),
        _tile("Bits per byte", fixed(bits.get("mean")), "held-out text, mean of the domains"),
        _tile(
            "Tokens per second",
            whole(record.summary.get("tokens_per_second")),
            f"{tokens} tokens in {duration(record.summary.get('train_seconds'))}",
        ),
        _tile(
            "Parameters",
            si(size.get("total")),
            f"{si(size.get('active'))} active per token; embedding {si(size.get('embedding'))} "
            "apart",
        ),
        _tile("Energy", si(used.get("joules"), "J"), str(used.get("source") or "not recorded")),
    ]


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def domains(record: Record) -> list[dict[str, str]]:
    """Final held-out loss by domain, the mean last."""
    loss, clean = record.part("loss"), record.part("clean_loss")
    bits = record.part("bits_per_byte")
    return [
        {
            "domain": name,
            "loss": fixed(loss.get(name)),
            "clean": fixed(clean.get(name)) if clean else "",
            "bits": fixed(bits.get(name)),
        }
        for name in ([*record.domains, "mean"] if loss else [])
    ]


def epochs(record: Record) -> list[str]:
    """How often training saw each component."""
    seen: Json = record.data.get("epochs") or {}
    return [f"{name} {fixed(times, 2)}" for name, times in seen.items()]


def samples(found: Json) -> list[dict[str, Any]]:
    """Text kept and text thrown away."""
    titles = {"kept": "Kept", "dropped": "Thrown away"}
    return [
        {
            "title": title,
            "kind": kind,
            "texts": [
                {
                    "source": str(sample.get("source", "")),
                    "score": fixed(sample.get("score"), 2),
                    "text": shortened(str(sample.get("text", ""))),
                }
                for sample in found[kind]
            ],
        }
        for kind, title in titles.items()
        if found.get(kind)
    ]


def shortened(text: str) -> str:
    """At most `LONGEST_TEXT` characters, with an ellipsis where more were cut off."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rstrip() + " …"


def rollbacks(record: Record) -> list[dict[str, str]]:
    """Each return to a healthy checkpoint, as a row of text."""
    found = cast(list[Any], record.summary.get("rollbacks") or [])
    return [
        {
            "step": whole(one.get("step")),
            "reason": str(one.get("reason") or DASH),
            "loss": fixed(one.get("loss")),
            "limit": fixed(one.get("limit")),
            "restored": whole(one.get("restored_step")),
            "batches": f"{whole(one.get('first_batch'))} to {whole(one.get('last_batch'))}",
            "lost": duration(one.get("lost_seconds")),
        }
        for one in map(mapping, found)
    ]


def cost(record: Record) -> list[tuple[str, str]]:
    """What the run took, with the units beside the numbers."""
    summary, used = record.summary, record.part("energy")
    forward = record.part("flops_per_token").get("forward")
    speed, tokens = summary.get("tokens_per_second"), summary.get("tokens")
    joules = used.get("joules")
    training = 3 * forward if forward else None
    rows = [
        ("Training time", duration(summary.get("train_seconds"))),
        ("Tokens", whole(tokens)),
        ("Energy", f"{energy(joules)}, {used.get('source') or 'source not recorded'}"),
        ("Energy of evaluation, apart", energy(used.get("evaluation_joules"))),
        ("Energy of preparing the text, apart", energy(used.get("preparation_joules"))),
        ("Energy per million tokens", energy(used.get("joules_per_million_tokens"))),
        ("Energy per nat gained over ln(vocabulary)", energy(used.get("joules_per_nat"))),
        ("FLOPs per token, forward", si(forward, "FLOP")),
        ("FLOPs per token, training (3 × forward)", si(training, "FLOP")),
        ("Speed reached", si(training * speed if training and speed else None, "FLOP/s")),
        *(
            [("Share of the devices' peak (MFU)", f"{mfu:.1%}")]
            if (mfu := summary.get("mfu"))
            else []
        ),
        ("Steps skipped", whole(summary.get("skipped_steps"))),
        ("Peak learning rate", _rate(summary)),
        ("Device", str(summary.get("device") or DASH)),
        ("Threads", whole(summary.get("threads"))),
        ("Precision", str(summary.get("precision") or DASH)),
    ]
    return rows if summary else []


def _rate(summary: Mapping[str, Any]) -> str:
    """The number, and whether a rule gave it."""
    if (rate := summary.get("learning_rate")) is None:
        return DASH
    return f"{rate:g}" + " (auto)" * (summary.get("learning_rate_by") == "auto")


def provenance(record: Record) -> Json:
    """What one needs to know to trust a comparison: fingerprints, commit, versions."""
    names = ("id", "study", "seed", "git", "config_fingerprint", "data_fingerprint", "versions")
    found = {name: record.summary[name] for name in names if record.summary.get(name) is not None}
    labels = {"git": "commit", "versions": ""}
    return {labels.get(name, name.replace("_", " ")): value for name, value in found.items()}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings, by their names from the top."""
    if not isinstance(value, dict):
        yield name, str(value)
        return
    for key, part in mapping(value).items():
        yield from flat(part, f"{name} {key}".strip())
