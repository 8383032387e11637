"""Fine-tune cloning voices on a table of audio and text, check the table, and judge the voices."""
