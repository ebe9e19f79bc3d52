"""Read model: instruments, their identifiers, portfolios and corporate actions."""
