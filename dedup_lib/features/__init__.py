"""What is computed of frames: vectors by an encoder, and the fingerprint of a video."""
