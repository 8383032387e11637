"""Assemble the repo that needs no Hub."""
