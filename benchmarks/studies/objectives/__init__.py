"""Every named objective of the token library at equal budgets: a leaderboard."""
