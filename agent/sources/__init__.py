"""What tells us things: one module per value of the source label of coroner_source_up."""
