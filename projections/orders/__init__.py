"""Read model: orders, as their events and fills have made them."""
