"""The servers of the distributed ledger on one machine: Kafka, Redis and PostgreSQL."""
