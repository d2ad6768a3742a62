"""How a problem may be put to a policy, and what is asked of the form of the answer."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias, get_args

from maxent_rl.errors import InvalidSettingError, unknown_name

SLOT = "{}"
Form: TypeAlias = Literal["none", "phrase", "tags"]
"""What is paid for form: 1 always, 1 where each marker stands exactly once, or the share of the markers that do."""


@dataclasses.dataclass(frozen=True)
class Template:
    """A text around a problem.

    Attributes:
      text: with `{}` where the problem stands: `b{}`.
      prefill: what the answer begins with; it belongs to the prompt, and is neither learned from nor looked at.
      markers: texts of which the answer must have exactly one each; those that the prefill has already are not asked for.
      form: how markers are paid for.

    Raises:
      InvalidSettingError: a text without one slot, markers that nothing is paid for, or none to pay for.
      UnknownNameError: there is no such form.
    """

    text: str = SLOT
    prefill: str = ""
    markers: tuple[str, ...] = ()
    form: Form = "none"

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1:
            raise InvalidSettingError(f"A template needs one slot {SLOT} for the problem, got {self.text!r}.")
        if self.form not in get_args(Form):
            raise unknown_name("form", self.form, get_args(Form))
        if "" in self.markers:
            raise InvalidSettingError(f"A marker of the template {self.text!r} is empty: it stands everywhere.")
        if (self.form == "none") != (not self.asked):
            what = "has no marker to pay for" if self.asked == () else "has markers, which it pays nothing for"
            raise InvalidSettingError(f"The template {self.text!r} of the form {self.form!r} {what}.")

    @property
    def asked(self) -> tuple[str, ...]:
        """The markers that the answer itself must have."""
        return tuple(marker for marker in self.markers if marker not in self.prefill)

    @property
    def prefix(self) -> str:
        """What stands before the problem."""
        return self.text.partition(SLOT)[0]

    @property
    def suffix(self) -> str:
        """What stands behind it."""
        return self.text.partition(SLOT)[2]
