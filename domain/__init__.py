"""Pure rules of the ledger: events, commands, decide and evolve. No I/O, clock or chance."""
