"""Many videos at once: scheduled, read by worker processes, encoded, saved."""
