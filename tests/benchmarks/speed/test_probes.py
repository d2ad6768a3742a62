"""The parts of training that limits.py measures alone."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks.speed import probes


def test_flops_of_a_matrix_product_are_two_for_each_multiplication():
    plain = (((1,), (0,)), ((), ()))
    assert probes._flops((3, 4), (4, 5), plain) == 2 * 3 * 4 * 5
    batched = (((2,), (1,)), ((0,), (0,)))
    assert probes._flops((2, 3, 4), (2, 4, 5), batched) == 2 * 2 * 3 * 4 * 5


@pytest.mark.slow
def test_all_matrix_products_of_an_update_are_found():
    batch, hidden, observation, action = 8, 16, 17, 6
    agent = probes.SAC(batch_size=batch, hidden_sizes=(hidden, hidden))
    found = sum(probes._flops(*product) for product in probes._products(agent))
    # Weights of each layer, and those whose input's gradient is needed (all but the first layer, or its action part).
    policy = observation * hidden + hidden * hidden + hidden * 2 * action
    critics = 2 * ((observation + action) * hidden + hidden * hidden + hidden)
    critics_behind_first = 2 * (hidden * hidden + hidden)
    policy_behind_first = hidden * hidden + hidden * 2 * action
    target = policy + critics
    critic_step = 2 * critics + critics_behind_first
    policy_step = 2 * policy + policy_behind_first + 2 * critics
    assert found == 2 * batch * (target + critic_step + policy_step)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "seeds"), [("update", 1), ("vmap", 2)])
def test_a_probe_counts_the_updates_of_every_seed(part, seeds, monkeypatch):
    monkeypatch.setattr(probes, "_WARMUP_SECONDS", 0.0)
    args = Namespace(meet=None, seconds=0.001, batch_size=8, hidden_sizes=[8], seeds=seeds)
    points = getattr(probes, part)(args)["points"]
    assert points[0][1] == 0
    assert points[-1][1] > 0
    assert all(done % seeds == 0 for _, done in points)
