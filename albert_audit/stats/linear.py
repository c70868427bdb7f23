"""Linear contrasts whose variance respects how the items were made.

Every effect of the audit (a mean, a slope, an effect minus its control) is one contrast ``c'b`` of
a least-squares fit. A `Design` holds everything that does not depend on the scores, so the same
design serves the real scores and the hundreds of copies of the self-check.

References
----------
Bell and McCaffrey (2002), Survey Methodology 28(2): bias-reduced variance and its degrees of
freedom. Cameron, Gelbach and Miller (2011), JBES 29(2): two-way clustering. MacKinnon, Nielsen and
Webb (2023), J. Econometrics 232(2): CR3 as a cluster jackknife. Taking the largest of the one- and
two-way variances, so that the two-way one can never be the smallest, follows the same authors'
advice on two-way clustering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """The contrast for one or many score vectors.

    Attributes
    ----------
    value, se : ndarray, shape () or (r,)
    df : float
        Bell-McCaffrey degrees of freedom of the smaller clustering variable.
    """

    value: Array
    se: Array
    df: float


@dataclass(frozen=True)
class _Side:
    """One way of grouping the rows, with the CR3 weights of the contrast."""

    codes: NDArray[np.intp]
    count: int
    weights: Array
    df: float


@dataclass(frozen=True)
class Design:
    """Regressors, contrast and clusters of one estimate.

    Parameters
    ----------
    x : array, shape (n, k)
        Regressors, of full column rank.
    contrast : array, shape (k,)
    clusters : sequence of one or two arrays of n labels
        Two are taken as crossed: rows that share either are dependent.

    Raises
    ------
    ValueError
        When shapes disagree, `x` is not of full rank, or there are not one or two clusterings.
    """

    x: Array
    contrast: Array
    clusters: tuple[NDArray[np.intp], ...]
    limit: float
    """Degrees of freedom that `df` never exceeds; a difference has no more than either part."""
    _basis: Array = field(init=False, repr=False)
    _contrast: Array = field(init=False, repr=False)

    def __init__(
        self,
        x: ArrayLike,
        contrast: ArrayLike,
        clusters: Sequence[Sequence[object] | NDArray[np.generic]],
        *,
        limit: float = float("inf"),
    ) -> None:
        x_ = np.asarray(x, dtype=np.float64)
        c_ = np.asarray(contrast, dtype=np.float64)
        if x_.ndim != 2 or c_.shape != (x_.shape[1],):
            raise ValueError(f"x must be (n, k) and contrast (k,), found {x_.shape} and {c_.shape}")
        if len(clusters) not in (1, 2):
            raise ValueError(f"expected one or two clusterings, found {len(clusters)}")
        norms = np.linalg.norm(x_, axis=0)
        if not norms.all() or np.linalg.matrix_rank(x_ / norms) < x_.shape[1]:
            raise ValueError("the regressors are collinear: the contrast cannot be estimated")
        codes = tuple(_codes(c) for c in clusters)
        if any(len(c) != len(x_) for c in codes):
            raise ValueError("each clustering needs one label a row")
        object.__setattr__(self, "x", x_)
        object.__setattr__(self, "contrast", c_)
        object.__setattr__(self, "clusters", codes)
        object.__setattr__(self, "limit", limit)
        # An orthonormal basis of the regressors: nothing below depends on their units.
        basis, r = np.linalg.qr(x_)
        object.__setattr__(self, "_basis", basis)
        object.__setattr__(self, "_contrast", np.linalg.solve(r.T, c_))

    @classmethod
    def mean(cls, clusters: Sequence[Sequence[object] | NDArray[np.generic]]) -> Design:
        """Return the design of a plain mean."""
        return cls(np.ones((len(clusters[0]), 1)), [1.0], clusters)

    @classmethod
    def slope(
        cls, covariate: ArrayLike, clusters: Sequence[Sequence[object] | NDArray[np.generic]]
    ) -> Design:
        """Return the design of the slope on `covariate` (n,), with an intercept."""
        z = np.asarray(covariate, dtype=np.float64)
        return cls(np.column_stack([np.ones_like(z), z - z.mean()]), [0.0, 1.0], clusters)

    @classmethod
    def difference(
        cls,
        first: Design,
        second: Design,
        clusters: Sequence[Sequence[object] | NDArray[np.generic]],
    ) -> Design:
        """Return the design of `first`'s contrast minus `second`'s, their rows stacked in this order.

        Clusters that the two share (the same template, the same pair) must carry the same label.
        The degrees of freedom are at most those of either part: the working covariance knows
        nothing of correlation within clusters, so a part of few large clusters would hide in a
        part of many small ones.
        """
        (n, k), (m, j) = first.x.shape, second.x.shape
        x = np.zeros((n + m, k + j))
        x[:n, :k], x[n:, k:] = first.x, second.x
        contrast = np.concatenate([first.contrast, -second.contrast])
        return cls(x, contrast, clusters, limit=min(first.df, second.df))

    @cached_property
    def _sides(self) -> tuple[_Side, ...]:
        return tuple(self._side(c) for c in self.clusters)

    @cached_property
    def _cells(self) -> _Side | None:
        if len(self.clusters) == 1:
            return None
        a, b = self.clusters
        return self._side(_codes(a * (int(b.max()) + 1) + b))

    def _side(self, codes: NDArray[np.intp]) -> _Side:
        x, c = self._basis, self._contrast
        k, count = x.shape[1], int(codes.max()) + 1
        outer = np.zeros((count, k, k))
        np.add.at(outer, codes, x[:, :, None] * x[:, None, :])
        # (I - H_gg)^-1 X_g c = X_g (I - X_g'X_g)^-1 c; the pseudo-inverse serves clusters that
        # determine a coefficient alone (Bell and McCaffrey).
        kept = np.eye(k) - outer
        values, vectors = np.linalg.eigh(kept)
        inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > 1e-10)
        per_cluster = np.einsum("gij,gj,gkj,k->gi", vectors, inverse, vectors, c)
        # Where the contrast itself cannot be estimated without a cluster, there is nothing to
        # compare that cluster with, and the pseudo-inverse would leave its variance out.
        lost = np.linalg.norm(kept @ per_cluster[:, :, None] - c[:, None], axis=1)
        alone = bool((lost > 1e-6 * np.linalg.norm(c)).any())
        weights = np.einsum("nk,nk->n", x, per_cluster[codes])
        # Degrees of freedom: (sum of eigenvalues)^2 / (sum of their squares) of
        # diag(|a_g|^2) - Z Z', Z_g = X_g'a_g, under the identity working covariance.
        squares = np.bincount(codes, weights**2, count)
        z = np.zeros((count, k))
        np.add.at(z, codes, x * weights[:, None])
        zz = z.T @ z
        trace = squares.sum() - np.trace(zz)
        square = (squares**2).sum() - 2 * (squares @ (z**2).sum(axis=1)) + (zz**2).sum()
        # Rounded, lest nine equal clusters have 7.999999999999999 and get no interval.
        df = round(float(trace**2 / square), 9) if count > 1 and square > 0 and not alone else 0.0
        return _Side(codes, count, weights, df)

    @property
    def counts(self) -> tuple[tuple[int, float], ...]:
        """For each clustering: the number of clusters, and its degrees of freedom plus one."""
        return tuple((s.count, s.df + 1) for s in self._sides)

    @cached_property
    def df(self) -> float:
        """Degrees of freedom: those of the smaller clustering, at most `limit`."""
        return min(self.limit, *(s.df for s in self._sides))

    def residuals(self, y: ArrayLike) -> Array:
        """Return the least-squares residuals of `y`, shape (n,) or (n, r)."""
        y_ = np.asarray(y, dtype=np.float64)
        out: Array = y_ - self._basis @ (self._basis.T @ y_)
        return out

    def fit(self, y: ArrayLike) -> Fit:
        """Estimate the contrast.

        Parameters
        ----------
        y : array, shape (n,) or (n, r)
            One score vector, or r copies of it.
        """
        y_ = np.asarray(y, dtype=np.float64)
        weights = self._basis @ self._contrast
        value = weights @ y_
        # Sums that cancel up to rounding are zero: tied scores have no variation to report.
        floor = 1e-12 * (np.abs(weights) @ np.abs(y_))
        value = np.where(np.abs(value) <= floor, 0.0, value)
        residuals = self.residuals(y_)

        def variance(side: _Side) -> Array:
            scores = side.weights[:, None] * residuals.reshape(len(y_), -1)
            sums = np.zeros((side.count, scores.shape[1]))
            np.add.at(sums, side.codes, scores)
            sums[np.abs(sums) <= floor] = 0.0
            out: Array = (sums**2).sum(axis=0)
            return out

        per_side = [variance(s) for s in self._sides]
        total = np.maximum.reduce(per_side)
        if self._cells is not None:
            total = np.maximum(total, per_side[0] + per_side[1] - variance(self._cells))
        se = np.sqrt(total)
        return Fit(np.asarray(value), se if y_.ndim == 2 else se[0], self.df)


def _codes(labels: Sequence[object] | NDArray[np.generic]) -> NDArray[np.intp]:
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.intp)
