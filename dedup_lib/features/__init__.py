"""What is computed from frames: vectors by an encoder, and the fingerprint of a video."""
