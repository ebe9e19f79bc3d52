"""Pure folds from events to the rows of read models: one folder each, and an explicit registry."""
