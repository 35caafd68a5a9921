"""What runs reached: statistics and comparisons."""
