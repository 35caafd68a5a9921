"""One ``gym.Env`` and one ``VectorEnv`` over any task set."""
