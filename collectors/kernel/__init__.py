"""Kernel readers: bytes of one kernel file to a frozen dataclass. Standard library only."""
