"""The terminal, widgets and the app."""
