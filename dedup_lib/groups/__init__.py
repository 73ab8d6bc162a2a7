"""Which videos are one group, which of them is kept, and what people decided."""
