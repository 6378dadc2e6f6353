"""Reasoning: from facts to how many processes were killed, and whose. Pure: no clock, no files, no knowledge of metrics."""
