"""Two videos: candidates, alignment, geometric verification, score, verdict."""
