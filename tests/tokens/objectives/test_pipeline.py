"""The pipeline: how stages are chained, what is done once to a batch, and what a user is told who errs."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close
from token_batches import COLUMNS, ROWS, loss_of, responses, slope_of

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError, UnknownNameError
from maxent_rl.tokens import TokenOutputs, objectives
from maxent_rl.tokens.objectives import (
    Aggregate,
    Clipped,
    DynamicSampling,
    GroupAdvantage,
    KLPenalty,
    KLReward,
    OverlongPenalty,
    chain,
    make,
    presets,
)

OUTPUTS, BATCH = responses()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "stages"),
    [
        ("grpo", {}, (GroupAdvantage(), Clipped(), Aggregate())),
        (
            "grpo",
            {"clip_high": 0.3, "kl_weight": 0.2},
            (KLPenalty(0.2), Aggregate(), Clipped(0.2, 0.3), GroupAdvantage()),
        ),
        ("grpo", {"kl_reward_weight": 0.3}, (GroupAdvantage(), KLReward(0.3), Clipped(), Aggregate())),
        (
            "dapo",
            {"group_epsilon": 1e-4},
            (Clipped(0.2, 0.28), Aggregate(), DynamicSampling(), OverlongPenalty(), GroupAdvantage(group_epsilon=1e-4)),
        ),
    ],
)
def test_a_chain_by_hand_is_the_named_objective(name, settings, stages):
    """In whatever order the slots are written."""
    by_hand, named = chain(*stages), make(name, **settings)
    assert by_hand.stages == named.stages
    np.testing.assert_array_equal(slope_of(by_hand, OUTPUTS, BATCH), slope_of(named, OUTPUTS, BATCH))


def test_names_and_settings():
    assert {"grpo", "dapo", "gspo"} <= set(objectives.names())
    assert objectives.settings("dapo")["clip_high"] == 0.28
    for name in objectives.names():
        assert make(name, **objectives.settings(name)).stages == make(name).stages
        assert objectives.PRESETS[name].about and objectives.PRESETS[name].source


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"clip_lo": 0.1}, UnknownNameError, "hyper-parameter of grpo 'clip_lo'. Did you mean 'clip_low'"),
        ({"clipped.low": 0.1}, UnknownNameError, "'clipped.low'. Did you mean 'clipped.clip_low'"),
        ({"beta": 0.04}, UnknownNameError, "What other trainers call beta is kl_weight here"),
        ({"clip_low": -0.1}, InvalidSettingError, "--clip-low must be at least 0, got -0.1"),
        ({"clip_low": float("nan")}, InvalidSettingError, "--clip-low must be a finite number"),
        ({"dual_clip": 1.0}, InvalidSettingError, "--dual-clip must be greater than 1, got 1"),
        ({"kl_estimator": "k4"}, UnknownNameError, "k4"),
        ({"scale": "std"}, UnknownNameError, "Unknown value for --scale 'std'"),
        ({"aggregation": "mean"}, UnknownNameError, "token-mean"),
    ],
)
def test_wrong_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        make("grpo", **settings)


@pytest.mark.parametrize("setting", ["steer_floor", "steer.steer_floor", "steer.floor"])
def test_a_setting_may_be_named_with_its_stage(setting):
    assert make("steer", **{setting: 0.3}).stages == make("steer", steer_floor=0.3).stages != make("steer").stages
    assert objectives.default_of("steer", setting) == 0.02 and objectives.default_of("grpo", setting) is None


def test_an_optional_stage_is_added_by_its_name_too():
    assert make("grpo", **{"entropy_target.target_entropy": 0.3}).stages == make("grpo", target_entropy=0.3).stages


def test_a_setting_of_several_stages_must_be_named_with_its_stage():
    assert [stage.title for stage in make("dcpo", target_entropy=0.2).stages].count("EntropyTarget") == 0
    with pytest.raises(
        InvalidSettingError, match=r"target_entropy: say dcpo\.target_entropy or entropy_target\.target_entropy"
    ):
        make("dcpo", target_entropy=0.2, surplus_weight=0.1)
    named = {"dcpo.target_entropy": 0.2, "entropy_target.target_entropy": 0.3}
    targets = {s.title: s.target_entropy for s in make("dcpo", **named).stages if hasattr(s, "target_entropy")}
    assert targets == {"DCPO": 0.2, "EntropyTarget": 0.3}
    with pytest.raises(InvalidSettingError, match=r"dcpo.target_entropy of dcpo is given twice"):
        make("dcpo", target_entropy=0.2, **{"dcpo.target_entropy": 0.2})


def test_a_preset_of_stages_that_share_a_setting_lists_both(monkeypatch):
    stages = (*objectives.PRESETS["dcpo"].stages, objectives.EntropyTarget())
    monkeypatch.setitem(objectives.PRESETS, "both", objectives.Preset("both", "none", stages))
    found = objectives.settings("both")
    assert {name for name in found if "target_entropy" in name} == {
        "dcpo.target_entropy",
        "entropy_target.target_entropy",
    }
    assert make("both", **found).stages == make("both").stages


def test_stages_of_papers_are_found_by_their_names():
    assert objectives.DCPO.__module__ == "maxent_rl.tokens.objectives.methods.dcpo"
    assert {"ADPO", "Baseline", "ClipCov", "SoftGate"} <= set(objectives.__all__) & set(dir(objectives))
    with pytest.raises(AttributeError, match="has no attribute 'DCPOO'"):
        objectives.DCPOO  # noqa: B018  # looked up for the error


def test_a_paper_that_takes_the_name_of_another_is_refused():
    paper = types.ModuleType("late_paper")
    paper.PRESETS = {"dcpo": objectives.PRESETS["grpo"]}
    with pytest.raises(InvalidSettingError, match="late_paper takes names that another paper has: dcpo"):
        presets.add_paper(paper)
    assert objectives.PRESETS["dcpo"] is not paper.PRESETS["dcpo"]


def test_wrong_names_and_chains_are_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown objective 'gropo'. Did you mean 'grpo'"):
        make("gropo")
    with pytest.raises(UnknownNameError, match="objective 'gropo'"):
        objectives.settings("gropo")
    with pytest.raises(InvalidSettingError, match="needs exactly one surrogate stage; it has none"):
        chain(GroupAdvantage(), Aggregate())
    with pytest.raises(InvalidSettingError, match="exactly one surrogate stage; it has Clipped, Clipped"):
        chain(Clipped(), Clipped(), Aggregate())
    with pytest.raises(InvalidSettingError, match="exactly one aggregate stage; it has none"):
        chain(Clipped())
    with pytest.raises(InvalidSettingError, match="made of stages, got 'grpo'"):
        chain("grpo")
    known = {field for stage in objectives.OPTIONAL for field in stage.__dataclass_fields__}
    known |= {field for name in objectives.names() for field in objectives.settings(name)}
    for ours in ("kl_weight", "clip_low", "dual_clip", "scale", "aggregation", "top_entropy_share", "mask_truncated"):
        assert ours in known


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": jnp.ones((ROWS, 4))}, r"mask must have shape \(8, 5\), as logp_old says; got \(8, 4\)"),
        ({"rewards": jnp.ones((ROWS, 1))}, r"rewards must have shape \(8,\), one entry for each row; got \(8, 1\)"),
        ({"logp_ref": jnp.ones(ROWS)}, r"logp_ref must have shape \(8, 5\)"),
        ({"logits_old": jnp.ones((ROWS, COLUMNS))}, r"logits_old must have shape \(8, 5\) and a last axis"),
        ({"advantages": jnp.ones((ROWS, 1))}, r"advantages must have shape \(8, 5\) or \(8,\); got \(8, 1\)"),
        ({"statistics": {"x": jnp.ones(3)}}, r"statistics\['x'\] must have shape \(8, 5\)"),
        ({"logp_old": jnp.ones(ROWS)}, r"logp_old must have shape \[N, T\], one row for each response; got \(8,\)"),
        ({"group_size": 3}, "8 rows are not whole groups of 3"),
        ({"group_size": 0}, "8 rows are not whole groups of 0"),
        ({"truncated": jnp.ones(3)}, r"truncated must have shape \(8,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ShapeError, match=message):
        loss_of(make("grpo"), OUTPUTS, dataclasses.replace(BATCH, **changes))


def test_shapes_of_outputs_and_states_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"logp must have shape \(8, 5\), as logp_old says; got \(5, 8\)"):
        loss_of(make("grpo"), TokenOutputs(OUTPUTS.logp.T), BATCH)
    with pytest.raises(ShapeError, match=r"entropy must have shape \(8, 5\)"):
        loss_of(make("grpo"), TokenOutputs(OUTPUTS.logp, jnp.ones(3)), BATCH)
    with pytest.raises(ShapeError, match=r"The state of the objective 'grpo' has 0 parts, got 1: pass what its init"):
        loss_of(make("grpo"), OUTPUTS, BATCH, state=(1.0,))
    with pytest.raises(ShapeError, match="8 responses are not whole groups of 3"):
        objectives.informative_groups(BATCH.rewards, 3)


@pytest.mark.parametrize(
    ("settings", "missing", "message"),
    [
        ({"kl_weight": 0.1}, "logp_ref", r"KLPenalty needs logp_ref: pass TokenBatch\(logp_ref=\[N, T\]\)"),
        ({"kl_reward_weight": 0.1}, "logp_ref", "KLReward needs logp_ref"),
        ({"mask_truncated": True}, "truncated", r"OverlongFilter needs truncated: pass TokenBatch\(truncated=\[N\]\)"),
        ({"entropy_bonus": 0.1}, "entropy", r"EntropyBonus needs entropy: pass TokenOutputs\(entropy=\[N, T\]\)"),
        ({"top_entropy_share": 0.2}, "entropy", "UncertainTokens needs entropy"),
    ],
)
def test_what_is_missing_is_asked_for(settings, missing, message):
    batch = BATCH if missing == "entropy" else dataclasses.replace(BATCH, **{missing: None})
    with pytest.raises(MissingInputError, match=message):
        loss_of(make("grpo", **settings), TokenOutputs(OUTPUTS.logp), batch)


@pytest.mark.slow
def test_entropies_come_from_logits_where_those_are_given():
    """Those of the policy that learns, and those of the old one, which needs no tokens."""
    logits = jax.random.normal(jax.random.key(0), (ROWS, COLUMNS, 6))
    objective = make("grpo", entropy_bonus=0.5)
    given = TokenOutputs(OUTPUTS.logp, losses.softmax_entropy(logits))
    found = loss_of(objective, TokenOutputs(OUTPUTS.logp, logits=logits), BATCH)
    assert_close(found, loss_of(objective, given, BATCH), scale=1.0)  # of the terms: advantages, entropies
    _, prepared = objective.prepare((), dataclasses.replace(BATCH, entropy_old=None, tokens=None))
    assert_close(prepared.entropy_old, jnp.where(BATCH.mask, BATCH.entropy_old, 0.0))
