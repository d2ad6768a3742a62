"""One paper, one file: the stages that are its own, and `PRESETS`, the objectives that it has for `objectives.make`.

A file here is found by itself. It may also say in `ELSEWHERE` what other trainers call its settings.
"""
