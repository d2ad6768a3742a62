"""Which preference losses bear noise."""
