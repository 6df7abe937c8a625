"""Images as engines take them."""
