"""What loops without environments have in common: tasks and fixed data have no state that a loop must keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maxent_rl.seeds.variants import member_agent, member_name
from maxent_rl.training.loops.faults import check_faults
from maxent_rl.training.loops.learner import init_learner, numeric, with_rows, without_rows
from maxent_rl.training.loops.plan import Learner, Learning
from maxent_rl.training.loops.preparing import prepare_learner
from maxent_rl.types import Array, PyTree


class LearnerLoop:
    """Holds the training state of all seeds, and nothing else; see `make.Loop` for what the methods promise."""

    def __init__(self, agent: Any, learning: Learning, members: Sequence[dict[str, float]]) -> None:
        self.learning, self.step = learning, 0
        self.seeds = tuple(int(member["seed"]) for member in members)
        self._names = tuple(map(member_name, members))
        self._agent = numeric(member_agent(agent, members))
        self._learner = init_learner(self._agent, learning, self.seeds)

    @property
    def learner(self) -> Learner:
        """The training state of all seeds."""
        return self._learner

    def prepare(self, data: PyTree, held_out: PyTree) -> list[dict[str, float]]:
        """Lets the agent prepare itself from fixed data; one dict of what that gave per member."""
        self._learner, found = prepare_learner(self._agent, self._learner, data, held_out, self.learning)
        return found

    def open(self) -> None:
        """Nothing to open."""

    def start(self) -> None:
        """Nothing more to do: there is no episode to begin."""

    def check(self) -> None:
        """Raises `NonFiniteError` if a metric was not finite."""
        check_faults(self._learner, self.learning, self._names)

    def take_remarks(self) -> list[str]:
        """None: no environment is stepped in training."""
        return []

    def get_state(self) -> dict[str, Any]:
        """The arrays that decide what follows."""
        return {"learner": without_rows(self._learner)}

    def get_env_state(self) -> dict[str, Any] | None:
        """Nothing: evaluation starts episodes of its own."""
        return None

    def set_state(self, state: dict[str, Any], env_state: dict[str, Any] | None, rows: Array, step: int) -> bool:
        """Takes back what `get_state` gave."""
        self._learner, self.step = with_rows(state["learner"], rows), step
        return True

    def close(self) -> None:
        """Nothing to free."""
