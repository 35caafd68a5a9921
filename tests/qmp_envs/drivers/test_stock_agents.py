"""Stock agents of Stable-Baselines3 and sb3-contrib train on every id; they are the outside baselines."""

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import PPO, SAC, TD3

from qmp_sb3 import make_multitask_vec_env
from tests.sampling import BATCH_SHARES

OFF_POLICY = {
    "learning_starts": 20,
    "batch_size": 16,
    "train_freq": 10,
    "gradient_steps": 1,
    "buffer_size": 1000,
}
ON_POLICY = {"n_steps": 50, "batch_size": 25, "n_epochs": 1}
AGENTS = [(SAC, OFF_POLICY), (TD3, OFF_POLICY), (TQC, OFF_POLICY), (CrossQ, OFF_POLICY), (PPO, ON_POLICY)]
CASES = [  # one agent is enough for the quick tests of an id that is costly
    pytest.param(case.values[0], agent, settings, id=f"{agent.__name__}-{case.id}", marks=case.marks)
    for agent, settings in AGENTS
    for case in BATCH_SHARES
    if 1.0 in case.values or agent is SAC
]


@pytest.mark.parametrize("id,agent,settings", CASES)
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
