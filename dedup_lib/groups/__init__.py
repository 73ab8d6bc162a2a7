"""Which videos are one, which of them is kept, and what people decided."""
