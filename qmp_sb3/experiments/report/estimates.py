import numpy as np


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """placeholder until the statistics are merged"""
    runs = len(values)
    if runs == 1:
        nothing = np.full(values.shape[2:], np.nan)
        return nothing, nothing
    rng = np.random.default_rng(0)
    draws = rng.integers(runs, size=(2000, runs, values.shape[1]))
    resampled = np.stack([values[d, np.arange(values.shape[1])].mean(axis=(0, 1)) for d in draws])
    return tuple(np.quantile(resampled, [0.025, 0.975], axis=0))


def iqm(values):
    flat = np.sort(values.reshape(-1))
    cut = len(flat) // 4
    return float(flat[cut : len(flat) - cut].mean())


def iqm_interval(values):
    if len(values) == 1:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    draws = rng.integers(len(values), size=(2000, *values.shape))
    return tuple(np.quantile([iqm(np.take_along_axis(values, d, 0)) for d in draws], [0.025, 0.975]))


def mean_ranks(scores):
    from scipy.stats import rankdata

    means = np.stack([v.mean(axis=0) for v in scores.values()])
    ranks = rankdata(-means, axis=0).mean(axis=1)
    return dict(zip(scores, ranks.tolist()))


def published(benchmark):
    return []
