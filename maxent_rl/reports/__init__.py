"""Reports on finished runs: statistics over seeds and environments, figures, tables and one page to read.

Nothing is imported here: `maxent_rl.reports.statistics` needs NumPy alone, `maxent_rl.reports.report` puts all together.
"""
