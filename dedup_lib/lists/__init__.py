"""Lists of URLs: read from CSV files and written to them, and URLs as text."""
