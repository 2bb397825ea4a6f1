"""The grammar: pure values of the distribution-spec. No I/O, no async, no clock."""
