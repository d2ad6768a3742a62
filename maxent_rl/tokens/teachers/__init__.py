"""Teachers of a language model: whose weights they have, how these follow the policy, and what they are told."""

from maxent_rl.tokens.teachers.hints import with_answers, with_siblings
from maxent_rl.tokens.teachers.stored import StoredModel, check_first, first_params
from maxent_rl.tokens.teachers.teacher import Teacher, TeacherState

__all__ = ["StoredModel", "Teacher", "TeacherState", "check_first", "first_params", "with_answers", "with_siblings"]
