"""A run folder and its books: who works in it, what became of every URL, how far it is."""
