"""How often a caller may ask: budgets for principals and client addresses, counted here or in a shared store."""
