"""The `hfpipe` command line."""
