import math

import numpy as np
import pytest
from scipy import stats

from experiments import equal_loss
from experiments.moe_vs_dense import compare


def test_what_is_spent_lies_on_the_curve():
    budgets = [1e6, 2e6, 4e6]
    losses = [5 - 0.3 * math.log2(budget / 1e6) for budget in budgets]
    assert equal_loss.spent(losses[1], budgets, losses) == pytest.approx(2e6)
    assert equal_loss.spent(4.85, budgets, losses) == pytest.approx(1e6 * 2**0.5)
    with pytest.raises(ValueError, match="is not between"):
        equal_loss.spent(4.3, budgets, losses)


def test_ratios_are_averaged_in_the_logarithm():
    ratios = [0.5, 0.8, 1.25]
    middle, low, high = equal_loss.geometric(ratios)
    assert middle == pytest.approx(stats.gmean(ratios))
    expected = stats.t.interval(0.95, 2, np.mean(np.log(ratios)), stats.sem(np.log(ratios)))
    np.testing.assert_allclose(np.log([low, high]), expected)
    assert all(math.isnan(end) for end in equal_loss.geometric([0.5])[1:])


@pytest.fixture
def study(tmp_path):
    """Sixteen experts with the loss that the dense twin has at twice the tokens, at 1.25 times the
    seconds of a token."""
    names = ["mean", "speeches", "scripture", "reviews"]
    columns = ["seed", "model.num_experts", "status", "tokens", "joules"]
    lines = [",".join([*columns, *(f"loss/{name}" for name in names)])]
    for seed in range(3):
        for tokens in (1_000_000, 2_000_000, 4_000_000):
            for experts, worth, throughput in ((1, 1, 1.0), (16, 2, 1.25)):
                loss = 5 + 0.1 * seed - 0.3 * math.log2(worth * tokens / 1e6)
                row = [
                    seed,
                    experts,
                    "done",
                    tokens,
                    throughput * tokens / 1e3,
                    *[loss] * len(names),
                ]
                lines.append(",".join(map(str, row)))
    file = tmp_path / "results.csv"
    file.write_text("\n".join(lines))
    return file


def test_a_model_worth_twice_the_tokens_spends_half_of_them(study):
    runs = compare.read(study)
    tokens, flops, seconds = (compare.ratios(runs, "all domains", measure) for measure in range(3))
    np.testing.assert_allclose(tokens, [0.5] * 3)
    np.testing.assert_allclose(seconds, [0.625] * 3)
    assert all(0.5 < ratio < 0.51 for ratio in flops)  # the router
