"""Record, play, plot and measure in a notebook."""
