"""The command line, the terminal, widgets and the app."""
