"""TQ and SACo by the paper's numbers, their limits, and what is reported beside them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.data import quality
from maxent_rl.data.dataset import Dataset
from maxent_rl.data.findings import favoured
from maxent_rl.data.returns import Distribution, record_episodes
from maxent_rl.errors import DataError, InvalidSettingError


def dataset(reward, terminated=(), truncated=(), action=None, observation=None, **more):
    size = len(reward)
    observation = np.arange(size) % 7 if observation is None else np.asarray(observation)
    observation = observation.reshape(size, -1).astype(np.float32)
    action = np.zeros(size, np.int32) if action is None else action
    ends = [np.isin(np.arange(size), where) for where in (terminated, truncated)]
    return Dataset(observation, action, np.asarray(reward, np.float32), observation, *ends, **more)


def random_data(size, seed=0, bound=30, discrete=True, **more):
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 3, size).astype(np.int32) if discrete else rng.uniform(-1, 1, (size, 2)).astype(np.float32)
    observation = rng.integers(0, bound, (size, 2))
    return dataset(rng.normal(size=size), [size // 2, size - 1], [size // 3], action, observation, **more)


@pytest.mark.parametrize(
    ("mean", "random", "expert", "tq"),
    [
        (-159.69, -200.0, -99.78, 0.402215),
        (-118.90, -200.0, -99.78, 0.809220),
        (109.23, 22.05, 500.0, 0.182404),
        (-200.0, -200.0, -99.78, 0.0),
        (-99.78, -200.0, -99.78, 1.0),
        (-250.0, -200.0, -100.0, -0.5),
        (0.0, -200.0, -100.0, 2.0),
    ],
)
def test_tq_by_hand(mean, random, expert, tq):
    assert quality.trajectory_quality(mean, random, expert) == pytest.approx(tq, abs=1e-6)


@pytest.mark.parametrize("numbers", [(1.0, 5.0, 5.0), (math.nan, 0.0, 1.0), (1.0, math.inf, 2.0)])
def test_an_undefined_tq_is_nan_with_a_warning(numbers):
    with pytest.warns(RuntimeWarning, match="TQ is undefined"):
        assert math.isnan(quality.trajectory_quality(*numbers))


def test_saco_by_hand():
    """MountainCar, run 1 of the paper: random, expert and noisy data beside the replay's 13,740 pairs."""
    assert quality.coverage_ratio(3315, 13_740) == pytest.approx(0.241266, abs=1e-6)
    assert quality.coverage_ratio(2947, 13_740) == pytest.approx(0.214483, abs=1e-6)
    assert quality.coverage_ratio(14_669, 13_740) == pytest.approx(1.067613, abs=1e-6)
    assert quality.log_coverage_ratio(3315, 13_740) == pytest.approx(0.850772, abs=1e-6)
    assert math.isnan(quality.log_coverage_ratio(1, 1))


def test_returns_are_undiscounted_sums_of_complete_episodes():
    data = dataset([1, 2, 4, 8, 16], terminated=[1], truncated=[3])
    found = record_episodes(data)
    assert found.returns.tolist() == [3, 12] == data.returns.tolist()
    assert found.lengths.tolist() == [2, 2] and (found.time_limits, found.tail, found.size) == (1, 1, 5)
    assert found.mean_return == 7.5
    assert record_episodes(data, discount=0.5).returns.tolist() == [2, 8]


@given(st.lists(st.booleans(), min_size=1, max_size=25), st.lists(st.integers(0, 25), max_size=4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_episodes_may_span_chunks(ends, cuts, discounted):
    size, discount = len(ends), 0.9 if discounted else 1.0
    data = dataset(np.random.default_rng(size).normal(size=size), terminated=np.flatnonzero(ends))
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [data.part(a, b) for a, b in itertools.pairwise(bounds)]
    whole, found = record_episodes(data, discount), record_episodes(parts, discount)
    np.testing.assert_allclose(found.returns, whole.returns, atol=1e-12)
    np.testing.assert_array_equal(found.lengths, whole.lengths)
    assert (found.tail, found.size) == (whole.tail, size) and found.tail == size - whole.lengths.sum()
    start, length, complete = data.episodes
    by_hand = [
        sum(discount**t * float(data.reward[first + t]) for t in range(steps))
        for first, steps in zip(start[complete], length[complete], strict=True)
    ]
    np.testing.assert_allclose(whole.returns, by_hand, atol=1e-9)


def test_tq_knows_no_scale_of_reward_where_episodes_are_of_one_length():
    reward = np.array([1.0, 2.0, 3.0, 0.0, 5.0, 5.0])
    plain = quality.measure(dataset(reward, [1, 3, 5]), random_return=0.0, expert_return=20.0)
    mapped = quality.measure(dataset(3 * reward - 1, [1, 3, 5]), random_return=-2.0, expert_return=58.0)
    assert plain.tq == pytest.approx(mapped.tq) == pytest.approx((16 / 3) / 20)


def test_data_as_good_as_the_expert_has_tq_one_and_as_the_random_policy_zero():
    data = dataset([3.0, 2.0, 5.0], [1, 2])
    assert quality.measure(data, random_return=1.0, expert_return=5.0).tq == 1.0
    assert quality.measure(data, random_return=5.0, expert_return=9.0).tq == 0.0


def test_references_may_stand_in_the_file():
    data = dataset([3.0], [0], about={"random_return": 1, "expert_return": 5.0})
    assert quality.measure(data).tq == 0.5
    assert quality.measure(data, expert_return=3.0).tq == 1.0


@pytest.mark.parametrize(
    ("data", "references", "note"),
    [
        (dataset([1.0, 2.0]), {"random_return": 0.0, "expert_return": 1.0}, "no complete episode"),
        (dataset([1.0], [0]), {"random_return": 0.0}, "an expert's return is not known"),
        (dataset([1.0], [0]), {}, "a random policy's and an expert's return is not known"),
        (dataset([1.0], [0]), {"random_return": 4.0, "expert_return": 4.0}, "are both 4"),
    ],
)
def test_without_tq_the_rest_is_there_and_the_reason(data, references, note):
    found = quality.measure(data, data, **references)
    assert math.isnan(found.tq) and found.saco == 1.0
    assert any(note in line for line in found.notes)
    assert "of BC nothing can be said" in found.verdict


def test_a_reference_that_is_no_number_is_refused():
    with pytest.raises(InvalidSettingError, match="finite number, got nan"):
        quality.measure(dataset([1.0], [0]), random_return=math.nan)


def test_a_data_set_covers_itself():
    data = random_data(400)
    found = quality.measure(data, data)
    assert found.saco == found.coverage.log_saco == 1.0
    assert found.overlap == (1.0, 1.0, 0.0)
    assert (found.coverage.draws, found.coverage.spread, found.coverage.standard_error) == (0, 0.0, 0.0)


def test_limits_are_the_references():
    """The data set's own would tell its two values apart."""
    data = dataset([0, 0], observation=[0.0, 0.001])
    reference = dataset([0, 0], observation=[0.0, 10.0])
    found = quality.state_action_coverage(data, reference)
    assert (found.distinct, found.reference_distinct, found.saco) == (1.0, 2.0, 0.5)
    assert quality.measure(data).distinct == 2 and not quality.measure(data).shared_limits


def test_of_unequal_sizes_random_subsets_are_compared():
    reference = random_data(6000, bound=40)
    data = random_data(600, seed=1, bound=40)
    plain = quality.state_action_coverage(data, random_data(600, seed=2, bound=40))
    for first, second, sign in ((data, reference, 1), (reference, data, -1)):
        found = quality.state_action_coverage(first, second, draws=6)
        assert found.size == 600 and found.draws == 6 and 0 < found.spread < 0.05
        assert found.saco**sign == pytest.approx(plain.saco, abs=0.06)
        assert found == quality.state_action_coverage(first, second, draws=6)
    assert quality.state_action_coverage(data, reference, seed=1) != quality.state_action_coverage(data, reference)


def test_large_data_sets_are_estimated_with_their_error():
    first, second = random_data(8000, bound=100), random_data(8000, seed=1, bound=70)
    exact, found = (quality.state_action_coverage(first, second, exact_limit=limit) for limit in (10**7, 100))
    assert exact.standard_error == 0 < found.standard_error < 0.03
    assert abs(found.saco - exact.saco) <= 4 * found.standard_error
    smaller = quality.state_action_coverage(random_data(500), second, exact_limit=1000)
    assert smaller.size == 500 and smaller.draws == 5 and smaller.standard_error == 0
    whole = quality.measure(first, second, exact_limit=100)
    assert whole.distinct_error > 0 and whole.entropy is None and whole.collision_probability == 0
    assert any("estimated, not counted" in note for note in whole.notes)


def test_coarser_bins_tell_less_apart_and_lost_resolution_is_said():
    rng = np.random.default_rng(0)
    data, reference = (
        dataset(np.zeros(2000), [1999], observation=rng.normal(size=(2000, 4)) * scale) for scale in (0.5, 1.0)
    )
    found = quality.measure(data, reference)
    assert [each.edges for each in found.sensitivity] == [5, 10, 20, 50, 100]
    distinct = [each.reference_distinct for each in found.sensitivity]
    assert distinct == sorted(distinct) and found.sensitivity[-1] == found.coverage
    assert found.coverage.resolution_lost and not found.sensitivity[0].resolution_lost
    assert any("lost its resolution" in note for note in found.notes) and "Doubtful" in found.verdict


def test_companions_by_hand():
    action = np.array([0, 0, 0, 1], np.int32)
    data = dataset([1, 1, 1, 3], [0], [2], action, observation=[0, 0, 1, 1])
    found = quality.measure(data)
    assert (found.size, found.distinct, found.tail, found.time_limits) == (4, 3.0, 0.25, 0.5)
    assert found.entropy == pytest.approx(1.5 * math.log(2)) and found.perplexity == pytest.approx(2**1.5)
    assert found.action_entropy == pytest.approx((math.log(4) - 0.75 * math.log(3),))
    assert found.returns == Distribution(2, 1.0, 1.25, 1.5, 1.75, 2.0, 1.5, 0.5)
    assert found.lengths.mean == 1.5
    assert found.perplexity <= found.distinct


def test_entropy_of_continuous_actions_is_that_of_each_entrys_bins():
    action = np.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]], np.float32)
    assert quality.measure(dataset([0] * 4, [3], action=action)).action_entropy == pytest.approx((math.log(2), 0.0))


def test_chunks_measure_as_the_whole():
    data, reference = random_data(300, discrete=False), random_data(500, seed=1, discrete=False)
    data = dataclasses.replace(data, reward=np.round(4 * data.reward) / 4)  # quarters have one sum in any order
    parts = [data.part(a, b) for a, b in ((0, 100), (100, 101), (101, 300))]
    both = [
        quality.measure(source, reference, random_return=0.0, expert_return=1.0) for source in (data, lambda: parts)
    ]
    assert dataclasses.asdict(both[0]) == dataclasses.asdict(both[1])


def test_data_that_are_empty_or_do_not_fit_together_are_refused():
    with pytest.raises(DataError, match="do not fit together"):
        quality.measure(random_data(50), random_data(50, discrete=False))
    for data, reference in (([], None), ([], random_data(50)), (random_data(50), [])):
        with pytest.raises(DataError, match="no transitions to measure"):
            quality.measure(data, reference)


@pytest.mark.parametrize(
    ("tq", "saco", "words"),
    [
        (0.9, 0.2, "favour BC and the constrained methods (BCQ, CQL, CRR), not the DQN family"),
        (0.2, 0.9, "favour the DQN family and the constrained methods (BCQ, CQL, CRR), not BC"),
        (0.9, 1.1, "favour any of BC"),
        (0.5, 0.5, "favour the constrained methods (BCQ, CQL, CRR) over"),
        (0.1, 0.5, "favour no method here"),
        (-0.3, 0.0, "favour no method here"),
        (math.nan, 0.9, "the DQN family and the constrained methods (BCQ, CQL, CRR) have what they need"),
        (math.nan, 0.1, "the DQN family lacks what it needs"),
        (0.9, math.nan, "BC and the constrained methods (BCQ, CQL, CRR) have what they need"),
        (0.1, math.nan, "BC lacks what it needs"),
        (math.nan, math.nan, "Nothing can be said"),
    ],
)
def test_what_the_findings_favour(tq, saco, words):
    line = favoured(tq, saco)
    assert words in line and "\n" not in line


def test_measuring_warns_of_nothing_that_its_notes_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality.measure(dataset([1.0, 2.0]))
