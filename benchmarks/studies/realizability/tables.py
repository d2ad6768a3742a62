"""The study's table: rank correlations of LSTD's errors with what is said to predict them."""

from __future__ import annotations

from benchmarks.lab.study import Results, runs_of
from benchmarks.lab.tables import markdown
from benchmarks.studies.realizability.setting import PROCESSES

_LABELS = {"smoothed": "smoothed by the process", "random": "random"}
_ERRORS = ("start_value", "value")
_PREDICTIONS = {"predicted error": "predicted", "C alone": "concentrability", "amplification alone": "amplification"}


def tables(results: Results) -> str:
    """Correlations with the start value's error, and in brackets with the error of all values."""
    result, rows = results["realizability"], []
    for kind, label in _LABELS.items():
        for run in runs_of(result["runs"], PROCESSES, kind):
            found = run["values"]
            betas = f"{_beta(found['least beta'])} to {_beta(found['largest beta'])}"
            cells = [
                f"{found[f'start_value with {name}']:.2f} ({found[f'value with {name}']:.2f})"
                for name in _PREDICTIONS.values()
            ]
            rows.append([label, f"{found['processes']}", betas, *cells])
    return markdown(["features", "processes", "beta", *_PREDICTIONS], rows)


def _beta(value: float) -> str:
    return f"{value:.3f}" if value > 0.995 else f"{value:.2f}"
