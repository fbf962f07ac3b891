"""FLOP/s that a GPU reaches at most, by its name, and the share of them that a model's FLOPs are.

Dense, bfloat16 with sums in float32. (Lightning's table has some cards with NVIDIA's figure for
sparse matrices, which is twice as high, and others without their tensor cores.)
"""

from glam.config import RunConfig
from glam.log import log
from glam.machine.resources import Resources, device_name

BACKWARD = 3  # forward once, backward twice

# TFLOP/s by words that the driver's name of a card has, and the maker's page that says so. The
# first row whose words are all there counts: narrower names stand before wider ones. Of H100, H200,
# B200 and A100 the figures were looked up; the others have yet to be held against their pages.
PEAKS: tuple[tuple[str, float, str], ...] = (
    ("GB200", 2500, "NVIDIA GB200 NVL72 specifications, 5 PFLOP/s sparse"),
    ("B200", 2250, "NVIDIA HGX B200 specifications, 4.5 PFLOP/s sparse"),
    ("H200 NVL", 835, "NVIDIA H200 datasheet, 1,671 sparse"),
    ("H200", 989, "NVIDIA H200 datasheet, 1,979 sparse"),
    ("GH200", 989, "NVIDIA GH200 datasheet, 1,979 sparse"),
    ("H100 NVL", 835, "NVIDIA H100 datasheet, 1,671 sparse"),
    ("H100 PCIe", 756, "NVIDIA H100 datasheet, 1,513 sparse"),
    ("H100", 989, "NVIDIA H100 datasheet, 1,979 sparse"),
    ("A100", 312, "NVIDIA A100 datasheet"),
    ("A40", 149.7, "NVIDIA A40 datasheet"),
    ("A30", 165, "NVIDIA A30 datasheet"),
    ("A10", 125, "NVIDIA A10 datasheet"),
    ("L40S", 362, "NVIDIA L40S datasheet"),
    ("L40", 181, "NVIDIA L40 datasheet"),
    ("L4", 121, "NVIDIA L4 datasheet, 242 sparse"),
    ("RTX 4090", 165.2, "NVIDIA Ada GPU architecture, table of the RTX 4090"),
    ("RTX 3090", 71, "NVIDIA Ampere GA102 GPU architecture, table of the RTX 3090"),
)


def peak_tflops(name: str) -> float | None:
    """Of the card that the driver calls `name`; None where it is not in the table."""
    words = name.replace("-", " ").split()
    for card, tflops, _ in PEAKS:
        if set(card.split()) <= set(words):
            return tflops
    return None


def peak_flops(config: RunConfig, resources: Resources) -> float | None:
    """FLOP/s of all devices of a run: as its hardware's file says, else by the table. None where
    neither knows; for a GPU that is said in one line."""
    hardware = config.hardware
    if hardware.peak_tflops is not None:
        return 1e12 * hardware.peak_tflops * hardware.devices
    if resources.device != "cuda":
        return None
    name = device_name("cuda")
    found = peak_tflops(name) if resources.precision == "bfloat16" else None
    if found is None:
        kind = name if resources.precision == "bfloat16" else f"{name} in {resources.precision}"
        log.warning(
            f"the peak of {kind} is not in the table, so no share of it is shown; "
            f"hardware.peak_tflops=<TFLOP/s> says it"
        )
        return None
    return 1e12 * found * hardware.devices


def utilization(config: RunConfig, tokens_per_second: float, peak: float | None) -> float | None:
    """MFU: the training FLOPs of these tokens, without what is computed twice to save memory, over
    the peak of all devices (PaLM, arXiv 2204.02311, appendix B)."""
    if not peak:
        return None
    return tokens_per_second * BACKWARD * config.flops_per_token / peak
