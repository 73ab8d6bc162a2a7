"""From a URL to frames: asked for safely, streamed, decoded."""
