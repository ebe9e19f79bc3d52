"""Read model: accounts and the settings they have now."""
