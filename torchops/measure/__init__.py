"""How long an op takes, against whom, and with which block sizes it takes least."""
