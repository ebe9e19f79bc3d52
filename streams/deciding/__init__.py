"""Deciding with Kafka: owners of partitions answer the commands that fronts put into a topic."""
