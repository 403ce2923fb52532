"""Which weights to protect: masks, and what fills them."""
