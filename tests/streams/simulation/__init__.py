"""The distributed ledger in one thread under a seed: real rules, a log that is a list."""
