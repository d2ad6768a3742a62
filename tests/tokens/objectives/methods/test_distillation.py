"""GKD and MiniLLM as objectives: their tokens' losses and gradients, by hand."""

import numpy as np
import pytest
from token_batches import loss_of, responses, slope_of

from maxent_rl.tokens import objectives

OUTPUTS, BATCH = responses()
MASK = np.asarray(BATCH.mask)
LOGP, OLD = (np.asarray(each, float) for each in (OUTPUTS.logp, BATCH.logp_old))
TOLD = np.asarray(OUTPUTS.compared["teacher_log_prob"], float)
WEIGHT = np.minimum(np.exp(LOGP - OLD), 2.0)


def test_gkd_is_the_mean_divergence_over_all_tokens_weighed_by_importance():
    expected = (WEIGHT * np.asarray(OUTPUTS.compared["divergence"]))[MASK].mean()
    assert loss_of(objectives.make("gkd"), OUTPUTS, BATCH) == pytest.approx(expected, rel=1e-5)


def test_of_sampled_tokens_the_gradient_is_how_much_likelier_the_policy_holds_them():
    objective = objectives.make("gkd", distill_interpolation=1.0, distill_sampled=True)
    expected = np.where(MASK, WEIGHT * (LOGP - TOLD), 0.0) / MASK.sum()
    np.testing.assert_allclose(slope_of(objective, OUTPUTS, BATCH), expected, atol=1e-6)


@pytest.mark.parametrize("mean", [True, False])
def test_minillm_adds_what_follows(mean):
    own = np.asarray(OUTPUTS.compared["reverse_kl"], float)
    loss, slope = np.zeros(MASK.shape), np.zeros(MASK.shape)
    for row, length in enumerate(MASK.sum(axis=1)):
        for place in range(length):
            later = [TOLD[row, other] - LOGP[row, other] for other in range(place + 1, length)]
            follows = (np.mean(later) if mean else np.sum(later)) if later else 0.0
            loss[row, place] = WEIGHT[row, place] * (own[row, place] - follows * LOGP[row, place])
            slope[row, place] = -WEIGHT[row, place] * follows / MASK.sum()
    objective = objectives.make("minillm", later_mean=mean)
    assert loss_of(objective, OUTPUTS, BATCH) == pytest.approx(loss.sum() / MASK.sum(), rel=1e-5)
    np.testing.assert_allclose(slope_of(objective, OUTPUTS, BATCH), slope, atol=1e-6)
