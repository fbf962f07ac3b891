"""What a doubling of the experts brings, on losses that fall by a known amount."""

import itertools

import pytest

from experiments.expert_scaling.trend import main

HEAD = "model,model.num_experts,seed,id,run,status,loss/mean,loss/tweets"


def test_the_slope_is_that_of_the_losses_and_no_seed_without_all_experts_counts(tmp_path):
    file, lines = tmp_path / "study.csv", [HEAD]
    for seed, (doublings, experts) in itertools.product(range(3), enumerate((1, 2, 4, 8))):
        mean = 5 + seed - (0.010 + 0.001 * seed) * doublings
        tweets = 6 + 0.5 * (experts == 4)  # no slope of its own beyond that of one point
        lines.append(f"a,{experts},{seed},x,x,done,{mean},{tweets}")
    lines.append("a,1,3,x,x,done,0,0")
    file.write_text("\n".join(lines))
    *_, row = main([str(file)]).splitlines()
    name, seeds, mean, tweets, steps = (text.strip() for text in row.strip("|").split("|"))
    assert (name, seeds, steps) == ("a", "3", "3 of 3")
    half = 4.302653 * 0.001 / 3**0.5  # Student's t of two degrees of freedom
    assert mean == f"−0.0110 (−{0.011 + half:.4f}, −{0.011 - half:.4f})"
    # By hand: the sum of (x - 1.5)(y - mean of y) over that of (x - 1.5) squared.
    assert float(tweets.split()[0].replace("−", "-")) == pytest.approx(0.25 / 5, abs=1e-4)


def test_one_number_of_experts_makes_no_line(tmp_path, capsys):
    file = tmp_path / "study.csv"
    file.write_text(f"{HEAD}\na,1,0,x,x,done,5,6\n")
    with pytest.raises(SystemExit):
        main([str(file)])
    assert "has one number of experts for a" in capsys.readouterr().err
