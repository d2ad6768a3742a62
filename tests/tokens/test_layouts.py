"""A step is the same step whole, in packed slices, and divided among devices: of objectives and of losses on preferences."""

import json

import pytest
from support.devices import run_on_devices

from maxent_rl.tokens import objectives, preferences

NEAR = 1e-5

SCRIPT = """
import token_layouts
from maxent_rl.tokens import objectives

def run(devices):
    made = [objectives.make(name, **settings) for name, settings in OBJECTIVES]
    found = {each.name: token_layouts.differences(each) for each in made}
    found |= {name: token_layouts.differences_by_slopes(objectives.make(name)) for name in ALIKE}
    found |= {name: token_layouts.preference_differences(name) for name in PREFERENCES}
    return {f"{name}/{layout}": value for name, each in found.items() for layout, value in each.items()}
"""


def on_two_devices(folder, objectives=(), alike=(), preferences=()):
    given = {"OBJECTIVES": objectives, "ALIKE": alike, "PREFERENCES": preferences}
    lines = [f"{name} = {list(values)!r}" for name, values in given.items()]
    (found,) = run_on_devices(__file__, "\n".join([*lines, SCRIPT]), (2,), folder)
    print(json.dumps({name: float(value) for name, value in found.items()}))
    sizes = {name: value for name, value in found.items() if name.endswith("/size")}
    assert len(sizes) == len(objectives) + len(alike) + len(preferences)
    assert min(sizes.values()) > 1e-4  # gradients that are there
    return {name: value for name, value in found.items() if name not in sizes}


@pytest.mark.slow
def test_two_devices_take_the_step_of_one(tmp_path):
    """One chain with all that must see the whole of a step: groups, choices among tokens, rows that move, a state."""
    settings = {"top_entropy_share": 0.6, "drop_uniform_groups": True, "kl_weight": 0.1}
    found = on_two_devices(tmp_path, [("aepo_arbitrary", settings)])
    assert len(found) == 2 and max(found.values()) < NEAR, found


@pytest.mark.matrix
@pytest.mark.parametrize("share", range(5))
def test_two_devices_take_the_step_of_one_with_every_objective(share, tmp_path):
    names = objectives.names()[share::5]
    found = on_two_devices(tmp_path, alike=names)
    assert len(found) == 3 * len(names) and max(found.values()) < NEAR, found


@pytest.mark.matrix
@pytest.mark.parametrize("share", range(4))
def test_two_devices_take_the_step_of_one_with_every_loss_on_preferences(share, tmp_path):
    names = preferences.names()[share::4]
    found = on_two_devices(tmp_path, preferences=names)
    assert len(found) == 3 * len(names) and max(found.values()) < NEAR, found
