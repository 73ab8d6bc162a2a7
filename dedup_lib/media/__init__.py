"""From a URL to frames: fetched safely, streamed, decoded."""
