"""The `hfpipe` command."""
