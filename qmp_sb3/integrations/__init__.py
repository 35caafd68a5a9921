"""Other tools: RL Baselines3 Zoo and trackers."""
