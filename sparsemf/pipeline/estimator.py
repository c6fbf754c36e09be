"""A scikit-learn estimator: a sparse dictionary learnt from data, or taken from a network with its certified staircase.

    y ≈ Σ_s β_s σ(⟨w_s, x⟩ + b_s) + A x + c,       s = 1 … S, S small, A and c free (or left out: ``affine``).

``fit(X, y)`` runs :mod:`sparsemf.recovery.data` on standardised inputs: everything it reports is an estimate.
``fit_network(net)`` runs :func:`sparsemf.analyze`: its staircase and S* are certificates where they say so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsemf.activations import Activation, get
from sparsemf.certificates.sparsity import SStar
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, InputLaw, Network, Provenance
from sparsemf.pipeline.charged import FREE, free_of
from sparsemf.recovery import DataPath, data_path, random_atoms
from sparsemf.recovery.geometry import free_functions

if TYPE_CHECKING:
    from sparsemf.pipeline.analysis import Analysis

Array = NDArray[np.float64]

_SOLVERS = ("pursuit", "particles")
_SEARCHED_ROWS = 8192
_LEAST_SPREAD = 1e-12
_LARGEST = 1e100
"""Squares of larger numbers overflow in sums."""
STEP = np.dtype([("S", np.int64), ("upper", np.float64), ("lower", np.float64)])


class SparseDictionary(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Few atoms σ(⟨w, x⟩ + b) and an affine function, as a regressor and as a transformer.

    Parameters
    ----------
    activation : str, default "relu"
        A name of the catalogue whose atoms are independent (``sparsemf`` refuses the others).
    n_atoms : int, optional
        S.  Without it S is chosen by ``eps`` or ``rel_eps``; without these, by the Bayesian information criterion
        n·m·log(RSS/(n·m)) + (number of parameters)·log(n·m) over the path (for a network: its longest certified
        plateau).
    eps, rel_eps : float, optional
        The least S whose error is at most this: the root mean square residual, Euclidean over outputs; relative to
        that of y − mean(y) (for a network: to ‖f‖).  A :class:`ConvergenceWarning` when ``max_atoms`` are not enough.
    max_atoms : int, default 24
        Where the path over S ends; fewer when the data have fewer than two samples for each parameter.
    solver : {"pursuit", "particles"}, default "pursuit"
        Candidates are random atoms, or the particles of a measure that the package's trainer makes from the data.
    width : int, default 512
        Number of candidates (of particles).
    steps : int, default 3000
        Steps of the trainer, for ``solver="particles"``.
    fit_bias : bool, default True
        Whether atoms have biases b.
    affine : {"free", "offset", "charged"}, default "free"
        What stands beside the atoms: A x + c; c alone; nothing.
    max_iter : int, default 60
        Iterations of each joint refinement.
    random_state : int, RandomState or None
        Determines the result.

    Attributes
    ----------
    atoms_
        (S, d): Directions w, in input coordinates.
    bias_
        (S,): b.
    coef_
        (S, m): β.
    affine_
        (m, d): A.
    offset_
        (m,): c.
    n_atoms_ : int
    staircase_ : structured array with fields S, upper, lower
        Fitted to data: ``upper`` is the error on the rows searched (all, up to 8192) and ``lower`` 0 (nothing is
        known).  Of a network: the certified curves.
    s_star_ : :class:`sparsemf.certificates.sparsity.SStar`
        Fitted to data: never ``certified``, bracket [0, S] at the error reached.  Of a network: that of ``analyze``.
    n_iter_ : int
        The most iterations that a joint refinement used (0: none was run, or a network was taken).
    n_features_in_ : int
        As everywhere in scikit-learn, and so is ``feature_names_in_``.
    """

    def __init__(
        self,
        activation: str = "relu",
        n_atoms: int | None = None,
        eps: float | None = None,
        rel_eps: float | None = None,
        max_atoms: int = 24,
        solver: str = "pursuit",
        width: int = 512,
        steps: int = 3000,
        fit_bias: bool = True,
        max_iter: int = 60,
        random_state: Any = None,
        affine: str = "free",
    ) -> None:
        self.activation = activation
        self.n_atoms = n_atoms
        self.eps = eps
        self.rel_eps = rel_eps
        self.max_atoms = max_atoms
        self.solver = solver
        self.width = width
        self.steps = steps
        self.fit_bias = fit_bias
        self.max_iter = max_iter
        self.random_state = random_state
        self.affine = affine

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn the dictionary from X (n, d) and y (n,) or (n, m).

        Raises ValueError for parameters out of range, and as scikit-learn does for bad arrays.
        """
        sigma = self._checked()
        inputs, labels = self._validated(X, y)
        self._single_output = labels.ndim == 1
        labels = labels[:, None] if labels.ndim == 1 else labels
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        scaling = _Scaling.of(inputs, centred=bool(self.fit_bias))
        scaled = scaling.forward(inputs)
        free = FREE[self.affine]
        middle = labels.mean(axis=0) * float(free >= 0)
        spread = float(np.sqrt(np.mean(np.sum((labels - middle) ** 2, axis=1)))) or 1.0
        targets = (labels - middle) / spread
        kept = slice(None)
        if scaled.shape[0] > _SEARCHED_ROWS:
            kept = np.sort(rng.choice(scaled.shape[0], _SEARCHED_ROWS, replace=False))
        path = self._path(sigma, scaled[kept], targets[kept], spread, rng)
        size = self._size(path, spread, scaled.shape, targets.shape[1], sigma)
        atoms = path.atoms[size]
        coef, affine, offset = _least_squares(atoms, scaled, targets, free)
        self.atoms_, self.bias_ = scaling.atoms(atoms)
        self.coef_ = spread * coef
        self.affine_ = spread * affine / scaling.spread
        self.offset_ = spread * (offset - affine @ (scaling.centre / scaling.spread)) + middle
        self.n_atoms_ = int(atoms.n)
        self.staircase_ = np.array([(s, spread * e, 0.0) for s, e in enumerate(path.error)], dtype=STEP)
        self._activation_name = sigma.name
        reached = float(np.sqrt(np.mean(np.sum((labels - self._values(inputs)) ** 2, axis=1))))
        self.s_star_ = SStar(self.n_atoms_, False, 0, self.n_atoms_, (reached, reached), 0.0)
        self.n_iter_ = path.iterations
        return self

    def fit_network(self, network: Network, law: InputLaw | None = None) -> Self:
        """Take the dictionary of a network under ``law`` (default N(0, I)): :func:`sparsemf.analyze` with this
        estimator's ``n_atoms``, ``eps``, ``rel_eps`` and ``affine``; ``activation`` is the network's.

        Raises :class:`InputError` for a gated network, whose atoms are products, for one without a staircase,
        whose S* is an exact count only, and where a quadratic part stands beside the atoms, which this estimator
        has no place for.
        """
        from sparsemf.pipeline.analyze import analyze

        self._checked()
        if not isinstance(network, Network):
            raise InputError(
                f"fit_network: expected a sparsemf.Network (see sparsemf.load), got {type(network).__name__}"
            )
        if network.gated:
            raise InputError("SparseDictionary: expected atoms σ(⟨w, x⟩ + b), got a gated block; use sparsemf.analyze")
        found = analyze(network, law, eps=self.eps, rel_eps=self.rel_eps, affine=self.affine)
        if found.upper is None:
            what = f"one of {network.activation.name}"
            raise InputError(f"SparseDictionary: expected a network with a staircase of atoms, got {what}")
        dictionary = found.dictionary if self.n_atoms is None else found.dictionary_of(int(self.n_atoms))
        if dictionary.quadratic is not None and dictionary.quadratic.any():
            raise InputError(
                "SparseDictionary: expected atoms and an affine function, got a quadratic part beside them "
                f"({network.activation.name}); use sparsemf.analyze"
            )
        self._take(dictionary, found)
        return self

    @classmethod
    def from_network(cls, network: Network, law: InputLaw | None = None, **parameters: Any) -> Self:
        """``cls(activation=network's, **parameters).fit_network(network, law)``."""
        return cls(**{"activation": network.activation.name, **parameters}).fit_network(network, law)

    def transform(self, X: ArrayLike) -> Array:
        """Activations σ(⟨w_s, x⟩ + b_s), shape (n, S)."""
        check_is_fitted(self)
        return self._activations(self._validated(X)[0])

    def predict(self, X: ArrayLike) -> Array:
        """The dictionary's values, shape (n,) or (n, m) as y was."""
        check_is_fitted(self)
        values = self._values(self._validated(X)[0])
        return values[:, 0] if self._single_output else values

    @property
    def network_(self) -> Network:
        """The dictionary as a network in input coordinates."""
        check_is_fitted(self)
        return Network(
            self.coef_,
            self.atoms_,
            self.bias_,
            self._activation_name,
            affine=self.affine_,
            offset=self.offset_,
            provenance=Provenance(source="SparseDictionary"),
        )

    @property
    def _n_features_out(self) -> int:
        return self.n_atoms_

    def _validated(self, *arrays: Any) -> tuple[Array, Array]:
        """(X, y) for a fit, (X, an empty array) of the dimension fitted to otherwise; float64."""
        if len(arrays) == 1:
            known = validate_data(self, *arrays, reset=False, dtype=np.float64)
            return np.asarray(known, dtype=np.float64), np.zeros(0)
        options: dict[str, Any] = {"multi_output": True, "y_numeric": True, "ensure_min_samples": 2}
        if issparse(arrays[1]):
            raise ValueError("y: expected a dense array, got a sparse one; give y.toarray()")
        x, y = validate_data(self, *arrays, dtype=np.float64, **options)
        for name, values in (("X", x), ("y", y)):
            if not np.max(np.abs(values), initial=0.0) <= _LARGEST:
                raise ValueError(f"{name}: expected numbers of size up to {_LARGEST:g}, got larger ones; rescale it")
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)

    def _activations(self, x: Array) -> Array:
        return np.asarray(get(self._activation_name).value(x @ self.atoms_.T + self.bias_), dtype=np.float64)

    def _values(self, x: Array) -> Array:
        return self._activations(x) @ self.coef_ + x @ self.affine_.T + self.offset_

    def _checked(self) -> Activation:
        """The activation; raises ValueError for parameters out of range."""
        for name, least in (("max_atoms", 0), ("width", 1), ("steps", 1), ("max_iter", 1), ("n_atoms", 0)):
            value = getattr(self, name)
            if value is None and name == "n_atoms":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}: expected an integer ≥ {least}, got {value!r}")
        given = [name for name in ("n_atoms", "eps", "rel_eps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"expected at most one of n_atoms, eps and rel_eps, got {' and '.join(given)}")
        for name in ("eps", "rel_eps"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and 0.0 <= float(value) < np.inf):
                raise ValueError(f"{name}: expected a number ≥ 0, got {value!r}")
        free_of(self.affine)
        if self.solver not in _SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(_SOLVERS)}, got {self.solver!r}")
        sigma = get(self.activation) if isinstance(self.activation, str) else self.activation
        if not isinstance(sigma, Activation):
            raise ValueError(f"activation: expected a name of the catalogue, got {self.activation!r}")
        if sigma.kind not in ("atoms", "frequencies") or sigma.homogeneous not in (None, 1):
            raise InputError(f"activation: expected independent atoms modulo affine functions, got {sigma.name}")
        return sigma

    def _path(self, sigma: Activation, x: Array, y: Array, spread: float, rng: np.random.Generator) -> DataPath:
        most = int(self.max_atoms if self.n_atoms is None else self.n_atoms)
        if self.n_atoms is None:
            # fewer parameters than half the numbers in y: beyond, a sample fits anything
            left = x.shape[0] * y.shape[1] // 2 - y.shape[1] * free_functions(x[:1], FREE[self.affine]).shape[1]
            most = min(most, max(left, 0) // _parameters(sigma, x.shape[1], y.shape[1], bool(self.fit_bias)))
        target = self.rel_eps if self.eps is None else self.eps / spread
        if self.solver == "particles" and most > 0:
            pool = _trained_atoms(sigma, x, y, int(self.width), int(self.steps), bool(self.fit_bias), rng)
        else:
            pool = random_atoms(sigma, x, int(self.width), bool(self.fit_bias), rng)
        floor, free = float(target or 0.0), FREE[self.affine]
        return data_path(x, y, pool, most, bool(self.fit_bias), int(self.max_iter), floor, free)

    def _size(self, path: DataPath, spread: float, shape: tuple[int, ...], outputs: int, sigma: Activation) -> int:
        if self.n_atoms is not None:
            return min(int(self.n_atoms), len(path.atoms) - 1)
        target = self.rel_eps if self.eps is None else self.eps / spread
        if target is not None:
            size = path.size_for(float(target))
            if size is None:
                size = len(path.atoms) - 1
                warnings.warn(
                    f"{size} atoms reach an error of {path.error[-1] * spread:.3g} only; raise max_atoms, or give more "
                    "samples",
                    ConvergenceWarning,
                    stacklevel=3,
                )
            return size
        rows, d = shape
        count = rows * outputs
        per_atom = _parameters(sigma, d, outputs, bool(self.fit_bias))
        mean_square = np.maximum(path.error**2 * rows / count, np.finfo(np.float64).eps ** 1.5)
        sizes = np.arange(path.error.size)
        return int(np.argmin(count * np.log(mean_square) + sizes * per_atom * np.log(count)))

    def _take(self, dictionary: Network, found: Analysis) -> None:
        self.atoms_, self.bias_ = np.array(dictionary.inner), np.array(dictionary.bias)
        self.coef_ = np.array(dictionary.alpha)
        self.affine_, self.offset_ = np.array(dictionary.affine), np.array(dictionary.offset)
        self.n_atoms_, self.n_features_in_ = dictionary.width, dictionary.d
        self._single_output = dictionary.m == 1
        self._activation_name = dictionary.activation.name
        stairs = found.staircase
        self.staircase_ = np.array(
            [(s, u, w) for s, (u, w) in enumerate(zip(stairs.upper, stairs.lower, strict=True))], dtype=STEP
        )
        self.s_star_ = found.s_star
        self.n_iter_ = 0
        self.__dict__.pop("feature_names_in_", None)  # of an earlier fit to data


@dataclass(frozen=True, eq=False)
class _Scaling:
    """x ↦ (x − centre)/spread, column by column; constant columns keep spread 1."""

    centre: Array
    spread: Array

    @staticmethod
    def of(x: Array, centred: bool) -> _Scaling:
        centre = x.mean(axis=0) if centred else np.zeros(x.shape[1])
        size = np.max(np.abs(x), axis=0)
        unit = np.where(size > 0, size, 1.0)  # squares of tiny numbers underflow
        spread = unit * np.sqrt(np.mean(((x - centre) / unit) ** 2, axis=0))
        return _Scaling(centre, np.where(spread > _LEAST_SPREAD * size, spread, 1.0))

    def forward(self, x: Array) -> Array:
        return (x - self.centre) / self.spread

    def atoms(self, atoms: Atoms) -> tuple[Array, Array]:
        """(w, b) in input coordinates."""
        inner = atoms.inner / self.spread
        return inner, atoms.bias - inner @ self.centre


def _parameters(sigma: Activation, d: int, outputs: int, with_bias: bool) -> int:
    """Free parameters of an atom: (β, w, b) modulo the scaling of a homogeneous σ."""
    return outputs + d + int(with_bias) - int(sigma.homogeneous is not None)


def _least_squares(atoms: Atoms, x: Array, y: Array, free: int) -> tuple[Array, Array, Array]:
    """Coefficients (S, m) and affine part (m, d), (m,), 0 where not free, by least squares on all rows; least norm
    where not unique."""
    phi = atoms.activation.value(x @ atoms.inner.T + atoms.bias)
    beside = free_functions(x, free)
    solution = np.asarray(np.linalg.lstsq(np.concatenate([phi, beside], axis=1), y, rcond=1e-13)[0], dtype=np.float64)
    low = np.zeros((x.shape[1] + 1, y.shape[1]))
    low[: beside.shape[1]] = solution[atoms.n :]
    return solution[: atoms.n], low[1:].T, low[0]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The data as a task of the trainer."""

    data: tuple[Array, Array]
    name: str = "SparseDictionary.fit"
    parameters: dict[str, Any] = field(default_factory=dict)
    activation: str | None = None
    teacher: Network | None = None

    @property
    def inputs(self) -> int:
        return self.data[0].shape[1]

    @property
    def outputs(self) -> int:
        return self.data[1].shape[1]

    def target(self, x: Any, /) -> Any:
        """Labels are known at the data only."""
        raise InputError("SparseDictionary.fit: labels are known at the rows of X only")


def _trained_atoms(
    sigma: Activation, x: Array, y: Array, width: int, steps: int, with_bias: bool, rng: np.random.Generator
) -> Atoms:
    """The particles of a long-time μP measure on the data, as candidates."""
    from sparsemf.training import TrainConfig, train

    config = TrainConfig(
        activation=sigma.name,
        width=width,
        bias=with_bias,
        steps=steps,
        seed=int(rng.integers(2**31 - 1)),
        metrics_every=max(1, steps // 10),
        checkpoint_every=0,
        test_samples=16,
    )
    atoms = Atoms.of(train(_Rows((x, y)), config).network)
    if sigma.homogeneous is None:
        return atoms
    size = np.sqrt(atoms.norm**2 + atoms.bias**2)
    live = size > 1e-12 * size.max(initial=1e-300)
    scale = size[live]
    return Atoms(sigma, atoms.inner[live] / scale[:, None], atoms.bias[live] / scale)
