"""Which objectives have a teacher, or a reference that one can be, and when settings of a teacher have an effect."""

from __future__ import annotations

from collections.abc import Callable

from maxent_rl.errors import MaxentRLError
from maxent_rl.tokens import objectives
from maxent_rl.tokens.objectives import Objective
from maxent_rl.usage import Values, When


def has_teacher(objective: Objective) -> bool:
    """Whether the policy that learns is compared with a teacher."""
    return bool(objective.teaching(objective.init()).compared)


def has_reference(objective: Objective) -> bool:
    """Whether the batch must have the log-probabilities of a reference."""
    return any("logp_ref" in stage.inputs for stage in objective.stages)


def _of_objective(holds: Callable[[Objective, Values], bool]) -> Callable[[Values], bool]:
    """Whether it holds of the objective that settings name; what cannot be built is refused elsewhere."""

    def of_values(values: Values) -> bool:
        texts = values.get("objective_settings") or ()
        try:
            return holds(
                objectives.make(values["objective"], **objectives.from_words(values["objective"], texts)), values
            )
        except (MaxentRLError, TypeError, ValueError):
            return True

    return of_values


def _is_average(objective: Objective, values: Values) -> bool:
    own = objective.teaching(objective.init()).teacher
    kind = "policies" if values.get("teacher_policies") else values["teacher_kind"] or own
    return kind == "ema" and (has_teacher(objective) or has_reference(objective))


COMPARED = When(
    "with an objective that compares the policy with a teacher (sdpo, srpo, gkd, minillm)",
    _of_objective(lambda objective, _: has_teacher(objective)),
)
TAUGHT = When(
    "with an objective that has a teacher (sdpo, srpo, gkd, minillm) or a reference (salsa, light_if, kl_weight)",
    _of_objective(lambda objective, _: has_teacher(objective) or has_reference(objective)),
)
AVERAGED = When(
    "with --teacher-kind ema, or an objective whose teacher that is (sdpo, srpo)",
    _of_objective(_is_average),
)
