"""Counter-based normals: the published test vectors, the law, and independence of how they are asked for."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sparsemf.training.randomness import Stream, bit_generator, normals, permutation

VECTORS = [
    # Random123, kat_vectors, philox4x64-10: counter, key, output
    (
        [0] * 4,
        [0, 0],
        [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
    ),
    (
        [2**64 - 1] * 4,
        [2**64 - 1] * 2,
        [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0],
    ),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
    ),
]


def philox(counter, key):
    """Philox4x64-10 in plain integers, from the paper's definition."""
    (c0, c1, c2, c3), (k0, k1), mask = counter, key, 2**64 - 1
    for _ in range(10):
        high0, low0 = divmod(c0 * 0xD2E7470EE14C6C93, 2**64)
        high1, low1 = divmod(c2 * 0xCA5A826395121157, 2**64)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(("counter", "key", "output"), VECTORS)
def test_the_reference_here_reproduces_the_published_vectors(counter, key, output):
    assert philox(counter, key) == output


@pytest.mark.parametrize("first", [0, 1, 12345678901])
def test_the_words_are_philox_of_the_stated_counter(first):
    words = bit_generator(9_876_543_210, Stream.BATCH, 77, first).random_raw(8)
    expected = [w for c in (first, first + 1) for w in philox([c, 77, int(Stream.BATCH), 0], [9_876_543_210, 0])]
    assert [int(w) for w in words] == expected


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 8, 9, 13, 65])
def test_normals_follow_the_stated_formula(columns):
    got = normals(5, Stream.NOISE, 3, 11, torch.empty(2, columns, dtype=torch.float64))
    blocks = -(-columns // 8)
    for row in range(2):
        for j in range(columns):
            word_index = j % (4 * blocks)
            counter = (11 + row) * blocks + word_index // 4
            word = philox([counter, 3, int(Stream.NOISE), 0], [5, 0])[word_index % 4]
            radius = math.sqrt(-2 * math.log(((word >> 32) + 0.5) * 2.0**-32))
            angle = 2 * math.pi * (word & 0xFFFFFFFF) * 2.0**-32
            wave = math.cos(angle) if j < 4 * blocks else math.sin(angle)
            assert float(got[row, j]) == pytest.approx(radius * wave, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [2, 9, 33])
def test_a_row_does_not_depend_on_its_neighbours(dtype, columns):
    """Bit for bit, however the rows are cut; chunks end at ragged places."""
    whole = normals(1, Stream.NOISE, 4, 0, torch.empty(5000, columns, dtype=dtype))
    for size in (1, 7, 1024):
        for start in (0, 13, 4990):
            part = normals(1, Stream.NOISE, 4, start, torch.empty(min(size, 5000 - start), columns, dtype=dtype))
            assert torch.equal(part, whole[start : start + size])


def test_precisions_see_the_same_noise():
    single = normals(1, Stream.NOISE, 4, 0, torch.empty(50_000, 9))
    double = normals(1, Stream.NOISE, 4, 0, torch.empty(50_000, 9, dtype=torch.float64))
    # near radius 0, u₁ = 1 − 2^−24 is the last float32 before 1: an absolute error of √(2·2^−24)
    assert float((single.double() - double).abs().max()) < 4e-4
    assert float((single.double() - double).abs().mean()) < 1e-6


def test_the_law_is_standard_normal_and_coordinates_are_uncorrelated():
    draw = normals(2, Stream.NOISE, 0, 0, torch.empty(60_000, 12, dtype=torch.float64)).numpy()
    for column in draw.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    covariance = draw.T @ draw / draw.shape[0]
    assert np.abs(covariance - np.eye(12)).max() < 5.5 * math.sqrt(2 / draw.shape[0])
    # squares too: the two normals of one word share their radius, and are independent all the same
    squares = (draw**2 - 1) / math.sqrt(2)
    assert np.abs(squares.T @ squares / draw.shape[0] - np.eye(12)).max() < 0.06
    # neighbours in particle, step, stream and seed
    others = [
        normals(2, Stream.NOISE, 0, 1, torch.empty(60_000, 12, dtype=torch.float64)),
        normals(2, Stream.NOISE, 1, 0, torch.empty(60_000, 12, dtype=torch.float64)),
        normals(2, Stream.BATCH, 0, 0, torch.empty(60_000, 12, dtype=torch.float64)),
        normals(3, Stream.NOISE, 0, 0, torch.empty(60_000, 12, dtype=torch.float64)),
    ]
    for other in others:
        assert np.abs(draw.T @ other.numpy() / draw.shape[0]).max() < 5.5 / math.sqrt(draw.shape[0])


def test_permutations_are_uniform_and_functions_of_seed_and_epoch():
    assert torch.equal(permutation(3, 5, 100), permutation(3, 5, 100))
    orders = {tuple(permutation(0, epoch, 3).tolist()) for epoch in range(100)}
    assert len(orders) == 6
