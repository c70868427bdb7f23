"""Many linear classifiers on one set of fixed features, trained side by side."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

_MOST = 2**27  # numbers of one logit array, half a gigabyte


def heads(
    features: ArrayLike,
    labels: ArrayLike,
    keep: ArrayLike,
    *,
    classes: int | None = None,
    epochs: int = 150,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
) -> NDArray[np.float64]:
    """Train linear heads on fixed features, all in one matrix product a step; return their logits.

    **A head-only lower bound.** The references share the audited model's encoder. Where that encoder
    was itself trained on the records, what it remembers is in the features of every reference and
    cancels out: leakage is underestimated. They are a fair comparison only for a model whose encoder
    was frozen, on features from before any training on the records.

    Softmax regression with Adam over all records of a head at once, from nought; nothing is drawn.

    Parameters
    ----------
    features : array, shape (n, d)
    labels : array of int, shape (n,)
        From 0.
    keep : array of bool, shape (k, n)
        What each head is trained on; see `albert_audit.privacy.splits.reference_splits`.
    classes : int, optional
        As many as the labels need when left out.
    epochs : int
        Steps, each over all records.
    weight_decay : float
        Half the squared length of the weights is added so many times to the mean loss; not for the bias.

    Returns
    -------
    array, shape (k, n, classes)
        Of every record, also of those a head did not see.

    Raises
    ------
    ValueError
        When shapes do not fit, a feature is not finite, or a head has nothing to train on.
    """
    x = np.asarray(features, np.float32)
    y, seen = np.asarray(labels), np.asarray(keep)
    if x.ndim != 2 or y.shape != x.shape[:1] or seen.ndim != 2 or seen.shape[1:] != y.shape:
        raise ValueError(
            f"expected features (n, d), labels (n,), keep (k, n), found {x.shape}, {y.shape}, {seen.shape}"
        )
    if seen.dtype != np.bool_ or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"expected labels of int and keep of bool, found {y.dtype} and {seen.dtype}")
    if not np.isfinite(x).all():
        raise ValueError("expected finite features")
    if not seen.any(axis=1).all():
        raise ValueError(f"head {int(np.flatnonzero(~seen.any(axis=1))[0])} has no record to train on")
    c = int(y.max()) + 1 if classes is None else classes
    if c < 2 or y.min() < 0 or y.max() >= c:
        raise ValueError(f"expected labels from 0 to below {c}, of two classes or more")
    (n, d), most = x.shape, max(1, _MOST // (len(x) * c))
    rows = torch.from_numpy(np.concatenate([x, np.ones((n, 1), np.float32)], axis=1))
    wanted = torch.nn.functional.one_hot(torch.from_numpy(y.astype(np.int64)), c).float()[:, None]
    out = np.empty((len(seen), n, c))
    for first in range(0, len(seen), most):
        part = torch.from_numpy(seen[first : first + most].T.astype(np.float32))  # (n, some of k)
        part = (part / part.sum(dim=0)).unsqueeze(-1)
        some = part.shape[1]
        weights = torch.zeros(d + 1, some * c)
        decay = torch.full((d + 1, 1), weight_decay)
        decay[-1] = 0.0
        adam = torch.optim.Adam([weights], lr=learning_rate)
        for _ in range(epochs):
            residual = torch.softmax((rows @ weights).view(n, some, c), dim=-1).sub_(wanted).mul_(part)
            weights.grad = (rows.T @ residual.view(n, some * c)).add_(decay * weights)
            adam.step()
        logits = rows.double() @ weights.double()
        out[first : first + some] = logits.view(n, some, c).transpose(0, 1).numpy()
    return out
