"""Clean a list of video URLs: every video once, each removal explained, nothing lost."""

__version__ = "0.1.0"
