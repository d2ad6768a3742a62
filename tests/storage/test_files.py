"""What is told of errors of files and of foreign code."""

import pytest

from maxent_rl.storage.files import first_line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "runs"), "No such file or directory"),
        (ValueError("Wrong.\nAnd more."), "Wrong"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_an_error_is_told_in_one_line_without_full_stop(error, words):
    assert first_line(error) == words
