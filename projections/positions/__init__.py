"""Positions and lots: exact folds of deals and moved units, three ways that must agree."""
