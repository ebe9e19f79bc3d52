"""Read model: prices, with every revision."""
