"""Meta-World's MT10, MT25 and MT50."""
