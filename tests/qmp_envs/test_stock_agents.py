"""Stock agents of Stable-Baselines3 and sb3-contrib train on every id; they are the outside baselines."""

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import PPO, SAC, TD3

import qmp_envs
from qmp_sb3 import make_multitask_vec_env

OFF_POLICY = {
    "learning_starts": 20,
    "batch_size": 16,
    "train_freq": 10,
    "gradient_steps": 1,
    "buffer_size": 1000,
}
ON_POLICY = {"n_steps": 50, "batch_size": 25, "n_epochs": 1}
AGENTS = [(SAC, OFF_POLICY), (TD3, OFF_POLICY), (TQC, OFF_POLICY), (CrossQ, OFF_POLICY), (PPO, ON_POLICY)]


@pytest.mark.parametrize("id", qmp_envs.ids())
@pytest.mark.parametrize("agent,settings", AGENTS, ids=[agent.__name__ for agent, _ in AGENTS])
@pytest.mark.parametrize("form", ["gym.make", "MultiTaskVecEnv"])
def test_stock_agent_trains(id, agent, settings, form):
    env = gym.make(id) if form == "gym.make" else make_multitask_vec_env(id)
    model = agent("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [16]}, device="cpu", **settings)
    before = {name: array.clone() for name, array in model.policy.state_dict().items()}
    model.learn(300)
    assert model.num_timesteps >= 300
    assert any((array != before[name]).any() for name, array in model.policy.state_dict().items())
    observation = env.reset() if form == "MultiTaskVecEnv" else env.reset(seed=0)[0]
    action, _ = model.predict(observation, deterministic=True)
    assert np.isfinite(action).all()
    env.close()
