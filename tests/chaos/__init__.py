"""The whole ledger as processes of this machine, with things going wrong all the time."""
