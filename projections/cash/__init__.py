"""Read model: cash movements, every leg of cash, and balances."""
