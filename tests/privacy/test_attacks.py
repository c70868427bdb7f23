"""Membership scores against definitions written out again, published identities and heads that overfit."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from albert_audit.model.cache import FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.privacy import attacks
from tests.fakes import noisy
from tests.tiny import mlm, tiny_folders, tiny_handles, tiny_scorers

__all__ = ["mlm", "tiny_folders", "tiny_handles", "tiny_scorers"]

FOLDERS = (os.environ.get("ALBERT_AUDIT_TEST_DATA"), Path(__file__).resolve().parents[3] / "shared" / "data")


def model_folder(name: str) -> Path:
    for folder in filter(None, FOLDERS):
        if (found := Path(folder) / "models" / name).is_dir():
            return found
    pytest.skip(f"models/{name} is not here: set ALBERT_AUDIT_TEST_DATA to a folder that holds it")


def area(scores: np.ndarray, member: np.ndarray) -> float:
    """The area under the ROC curve, by ranks; ties count one half."""
    ranks, m = stats.rankdata(scores), int(member.sum())
    return float((ranks[member].sum() - m * (m + 1) / 2) / (m * (len(member) - m)))


logits = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-15, 15)
)  # fmt: skip


# --- one model --------------------------------------------------------------------------------


@given(logits, st.randoms())
def test_scores_are_their_definitions_record_by_record(z, random):
    """Trap 4: of each record by itself, no mean over a batch."""
    f = attacks.log_softmax(z)
    y = np.array([random.randrange(z.shape[1]) for _ in z])
    for i, row in enumerate(z):
        total = math.fsum(math.exp(v - row.max()) for v in row)
        p = [math.exp(v - row.max()) / total for v in row]
        rest = [math.fsum(p[:c] + p[c + 1 :]) for c in range(len(p))]  # 1 - p, without the subtraction
        mentr = -rest[y[i]] * math.log(p[y[i]]) - sum(
            p[c] * math.log(rest[c]) for c in range(len(p)) if c != y[i]
        )
        close = {"rel": 1e-9, "abs": 1e-12}
        assert attacks.loss(f, y)[i] == pytest.approx(math.log(p[y[i]]), **close)
        assert attacks.confidence(f)[i] == pytest.approx(math.log(max(p)), **close)
        assert attacks.entropy(f)[i] == pytest.approx(sum(q * math.log(q) for q in p), **close)
        assert attacks.modified_entropy(f, y)[i] == pytest.approx(-mentr, **close)
        assert attacks.logit(f, y)[i] == pytest.approx(math.log(p[y[i]] / rest[y[i]]), **close)
        assert attacks.loss(f[i : i + 1], y[i : i + 1])[0] == attacks.loss(f, y)[i]


@pytest.mark.parametrize("name", ["loss", "modified_entropy", "logit"])
def test_a_record_learnt_better_scores_higher(name):
    """Trap 5: a flipped sign makes a leak look like its opposite."""
    z = np.array([[0.0, v] for v in (-3.0, -1.0, 0.0, 1.0, 3.0, 30.0)])
    score = getattr(attacks, name)(attacks.log_softmax(z), np.ones(6, int))
    assert (np.diff(score) > 0).all()


def test_a_sure_answer_scores_higher_without_labels():
    """Trap 5, for the scores that need no label."""
    f = attacks.log_softmax([[0.0, 0.1], [0.0, -2.0], [0.0, 5.0]])
    for score in (attacks.confidence(f), attacks.entropy(f)):
        assert (np.diff(score) > 0).all()


def test_modified_entropy_does_not_take_a_sure_mistake_for_a_member():
    f = attacks.log_softmax([[9.0, 0.0], [0.0, 0.0]])
    assert attacks.entropy(f)[0] > attacks.entropy(f)[1]
    assert attacks.modified_entropy(f, [1, 1])[0] < attacks.modified_entropy(f, [1, 1])[1]


def test_records_of_which_the_model_is_sure_are_still_told_apart():
    """Trap 7: with 1 - p in float32, or in float64, φ is infinite and all three are tied."""
    z = np.array([[0, 20], [0, 60], [0, 100]], np.float32)
    np.testing.assert_allclose(attacks.logit(attacks.log_softmax(z), [1, 1, 1]), [20, 60, 100])
    np.testing.assert_allclose(attacks.logit(attacks.log_softmax(z), [0, 0, 0]), [-20, -60, -100])
    assert (np.diff(attacks.modified_entropy(attacks.log_softmax(z), [1, 1, 1])) > 0).all()


def test_bernoulli_loss_sums_the_labels_of_a_record():
    z, y = np.array([[2.0, -1.0, 800.0], [0.0, 0.5, -3.0]]), np.array([[1, 0, 1], [0, 1, 1]])
    p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    expected = np.where(y == 1, np.log(p), np.log1p(-np.where(y == 1, 0.5, p))).sum(axis=1)
    np.testing.assert_allclose(attacks.bernoulli_loss(z, y), expected)


def test_squared_loss_is_highest_where_the_prediction_is_right():
    np.testing.assert_array_equal(attacks.squared_loss([1.0, 2.0, 0.0], [1.0, 0.0, 3.0]), [0, -4, -9])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attacks.loss([[1.0, 2.0]], [0]), "use log_softmax"),
        (lambda: attacks.loss([[math.nan, -1.0]], [0]), "1 not finite"),
        (lambda: attacks.loss([[0.0]], [0]), "squared_loss"),
        (lambda: attacks.logit(attacks.log_softmax([[0.0, 1.0]]), [2]), "labels from 0 to 1"),
        (lambda: attacks.logit(attacks.log_softmax([[0.0, 1.0]]), [-1]), "labels from 0 to 1"),
        (lambda: attacks.logit(attacks.log_softmax([[0.0, 1.0]]), [[0, 1]]), "whole numbers"),
        (lambda: attacks.logit(attacks.log_softmax([[0.0, 1.0]]), [0.0]), "whole numbers"),
        (lambda: attacks.log_softmax([[math.inf, 1.0]]), "1 not finite"),
        (lambda: attacks.bernoulli_loss([[0.0, 1.0]], [[0, 2]]), "0 and 1"),
        (lambda: attacks.squared_loss([0.0], [0.0, 1.0]), "2 and 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    """Trap 15: nothing turns into a score of 0."""
    with pytest.raises(ValueError, match=message):
        call()


# --- reference models -------------------------------------------------------------------------


def balanced(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    half = np.array([rng.permutation(n) < n // 2 for _ in range(k // 2)])
    return np.stack([half, ~half], axis=1).reshape(k, n)


def drawn(seed: int, k: int = 6, n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return -rng.exponential(size=n), -rng.exponential(size=(k, n)) * np.arange(1, n + 1), balanced(k, n, rng)


@pytest.mark.parametrize("seed", range(3))
def test_lira_and_calibration_written_out_in_loops(seed):
    """Trap 7: the spread is that of residuals around each record's mean, of the references that did not see it."""
    t, r, seen = drawn(seed)
    k, n = r.shape
    out = [[r[j, i] for j in range(k) if not seen[j, i]] for i in range(n)]
    ins = [[r[j, i] for j in range(k) if seen[j, i]] for i in range(n)]

    def spread(groups: list[list[float]]) -> float:
        squares = [(v - sum(g) / len(g)) ** 2 for g in groups for v in g]
        return math.sqrt(sum(squares) / sum(len(g) - 1 for g in groups))

    mean_out, mean_in = [np.mean(g) for g in out], [np.mean(g) for g in ins]
    np.testing.assert_allclose(attacks.calibrated(t, r, seen), t - mean_out)
    tail = [stats.norm.sf(t[i], mean_out[i], spread(out)) for i in range(n)]
    np.testing.assert_allclose(attacks.lira_offline(t, r, seen), -np.log(tail), rtol=1e-9)
    online = [
        math.log(stats.norm.pdf(t[i], mean_in[i], spread(ins)) / stats.norm.pdf(t[i], mean_out[i], spread(out)))
        for i in range(n)
    ]  # fmt: skip
    np.testing.assert_allclose(attacks.lira_online(t, r, seen), online, rtol=1e-8, atol=1e-10)


def test_the_spread_is_not_that_of_the_raw_values():
    """Trap 7: records differ by 100, models by 1; a spread of raw values would call 5 nothing."""
    rng = np.random.default_rng(0)
    level = 100 * rng.normal(size=200)
    refs, seen = level + rng.normal(size=(8, 200)), balanced(8, 200, rng)
    p = np.exp(-attacks.lira_offline(level + 5.0, refs, seen))
    assert p.max() < 0.01


def test_offline_lira_does_not_look_at_models_that_saw_the_record():
    """Trap 7: the published script takes the variance of the models that did."""
    t, r, seen = drawn(1)
    changed = np.where(seen, 1000 * r, r)
    for score in (attacks.lira_offline, attacks.calibrated, attacks.rmia):
        np.testing.assert_array_equal(score(t, r, seen), score(t, changed, seen))


def test_offline_lira_is_one_sided():
    """Trap 7: with -logpdf the record that the target finds unusually hard is the first of the members."""
    rng = np.random.default_rng(2)
    refs, seen = rng.normal(size=(8, 9)), balanced(8, 9, rng)
    mean = np.where(seen, 0, refs).sum(axis=0) / 4
    score = attacks.lira_offline(mean + np.linspace(-8, 8, 9), refs, seen)
    assert (np.diff(score) > 0).all()
    assert score[0] < 1e-6
    assert np.isfinite(attacks.lira_offline(mean + 60.0, refs, seen)).all()


@pytest.mark.parametrize("score", [attacks.lira_offline, attacks.lira_online])
def test_lira_refuses_one_shadow(score):
    """Trap 7: a spread of one value plus 1e-30 makes any score."""
    t, r, seen = drawn(0, k=2)
    with pytest.raises(ValueError, match="at least 2 references"):
        score(t, r, seen)
    with pytest.raises(ValueError, match="no variance"):
        score(t, np.ones((6, len(t))), balanced(6, len(t), np.random.default_rng(0)))


REFERENCED = (attacks.calibrated, attacks.lira_offline, attacks.lira_online, attacks.rmia)


@pytest.mark.parametrize("score", REFERENCED)
def test_references_must_be_others_and_balanced(score):
    """Trap 8: the target among its own references, and counts that tell members apart, are refused."""
    t, r, seen = drawn(0)
    with pytest.raises(ValueError, match="reference 2 answers exactly as the target"):
        score(t, np.vstack([r[:2], t, r[3:]]), seen)
    more = seen.copy()
    more[0, 0] ^= True
    with pytest.raises(ValueError, match="equally many"):
        score(t, r, more)
    with pytest.raises(ValueError, match="that did not see it"):
        score(t, r, np.ones_like(seen))
    with pytest.raises(ValueError, match="of int64"):
        score(t, r, seen.astype(np.int64))
    with pytest.raises(ValueError, match="not finite"):
        score(t, np.where(seen, r, np.nan), seen)


@pytest.mark.parametrize("score", REFERENCED)
def test_the_order_of_records_and_references_does_not_matter(score):
    t, r, seen = drawn(3)
    rng = np.random.default_rng(0)
    i, j = rng.permutation(len(t)), rng.permutation(len(r))
    np.testing.assert_allclose(
        score(t[i], r[np.ix_(j, i)], seen[np.ix_(j, i)]), score(t, r, seen)[i], rtol=1e-9
    )


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_rmia_is_its_formula(a):
    t, r, seen = drawn(4)
    out = np.where(seen, 0, np.exp(r)).sum(axis=0) / 3
    expected = np.exp(t) / (0.5 * ((1 + a) * out + (1 - a)))
    np.testing.assert_allclose(np.exp(attacks.rmia(t, r, seen, a=a)), expected, rtol=1e-9)


def test_rmia_survives_probabilities_that_float_cannot_hold():
    seen = np.zeros((2, 2), bool)
    ratio = attacks.rmia([-2000.0, -1000.0], [[-1500.0, -1400.0], [-1500.0, -1300.0]], seen, a=1.0)
    np.testing.assert_allclose(ratio, [-500, 300 + math.log(2)], atol=1e-6)


def test_rmia_with_a_population_orders_as_the_ratio_does_but_for_ties():
    """The published identity: with one population for all, the score is a monotone function of the ratio."""
    t, r, seen = drawn(5, n=60)
    z = attacks.rmia(*drawn(6, n=400))
    ratio = attacks.rmia(t, r, seen)
    share = attacks.rmia(t, r, seen, population=z, gamma=2.0)
    expected = [np.mean([math.exp(x - w) >= 2.0 for w in z]) for x in ratio]
    np.testing.assert_allclose(share, expected)
    assert (np.diff(share[np.argsort(ratio)]) >= 0).all()
    assert len(set(share)) > 10
    # A record of the population with just that ratio is one that it exceeds: LR >= gamma, not >.
    assert attacks.rmia(t[:1], r[:, :1], seen[:, :1], population=[ratio[0], 9e9])[0] == 0.5


def test_population_p_is_the_share_at_least_as_high_and_never_zero():
    """Ties go to the population: a score equal to a non-member's is no evidence against it."""
    np.testing.assert_allclose(attacks.population_p([0.0, 1.0, 1.5, 9.0], [1.0, 1.0, 2.0]), [1, 1, 0.5, 0.25])
    rng = np.random.default_rng(0)
    p = np.concatenate([attacks.population_p(rng.normal(size=40), rng.normal(size=19)) for _ in range(50)])
    for level in (0.05, 0.1, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"a": 1.5}, "a from 0 to 1"), ({"gamma": 0.0}, "gamma above 0"), ({"population": []}, "a population")],
)
def test_rmia_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        attacks.rmia(*drawn(0), **changes)
    t, r, seen = drawn(0)
    with pytest.raises(ValueError, match="a probability cannot exceed 1"):
        attacks.rmia(t + 10, r, seen)


# --- heads that overfit -----------------------------------------------------------------------


def heads(x: np.ndarray, y: np.ndarray, keep: np.ndarray, steps: int = 150) -> np.ndarray:
    """Logits (k, n) of k logistic regressions, each fitted to its own records by Adam, all in one product."""
    weights, first, second = np.zeros((3, x.shape[1], len(keep)))
    share = keep.T / keep.sum(axis=1)
    for step in range(1, steps + 1):
        gradient = x.T @ ((1 / (1 + np.exp(-x @ weights)) - y[:, None]) * share)
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        weights -= 0.02 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return (x @ weights).T


@pytest.fixture(scope="module")
def overfitted() -> dict[str, np.ndarray]:
    """Areas of each method, (worlds, counts of references); worlds are seeds, references 4, 8 and 32."""
    found: dict[str, list[list[float]]] = {}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(800, 200))
        y = (0.6 * x[:, :20] @ rng.normal(size=20) + 2 * rng.logistic(size=800) > 0).astype(int)
        x *= np.exp(0.5 * rng.normal(size=(800, 1))) * 4 / math.sqrt(200)
        seen, member = balanced(32, 800, rng), rng.permutation(800) < 400
        z = heads(x, y, np.vstack([member, seen]))
        answers = [attacks.log_softmax(np.stack([np.zeros(800), row], axis=1)) for row in z]
        truth = np.stack([attacks.loss(f, y) for f in answers])
        phi = np.stack([attacks.logit(f, y) for f in answers])
        for k in (4, 8, 32):
            s, unseen = seen[:k], ~seen[:k]
            center = np.where(unseen, phi[1 : k + 1], 0).sum(axis=0) / (k / 2)
            residuals = np.where(unseen, phi[1 : k + 1] - center, 0)
            spread = math.sqrt((residuals**2).sum() / (800 * (k / 2 - 1)))
            scores = {
                "loss": truth[0],
                "offline": attacks.lira_offline(phi[0], phi[1 : k + 1], s),
                "-logpdf": -stats.norm.logpdf(phi[0], center, spread),
                "online": attacks.lira_online(phi[0], phi[1 : k + 1], s),
                "rmia": attacks.rmia(truth[0], truth[1 : k + 1], s),
                "calibrated": attacks.calibrated(truth[0], truth[1 : k + 1], s),
                "a control as target": attacks.rmia(truth[1], truth[3 : k + 1], seen[2:k]),
            }
            for name, score in scores.items():
                found.setdefault(name, [[] for _ in range(4)])[seed].append(area(score, member))
    return {name: np.array(areas) for name, areas in found.items()}


def test_methods_come_in_the_known_order(overfitted):
    """Trap 7: the two-sided score of the published script turns a real leak into chance."""
    few, many = ({name: a.mean(axis=0)[k] for name, a in overfitted.items()} for k in (0, 2))
    assert many["offline"] > many["loss"] > 0.6, many
    for at in (few, many):
        assert at["rmia"] > at["online"] > at["offline"], at
        assert at["offline"] > at["-logpdf"] + 0.12, at
        assert at["-logpdf"] < 0.53, at
    for name in ("offline", "online", "rmia", "calibrated"):
        assert many[name] > few[name], name


def test_a_reference_in_the_place_of_the_target_finds_nothing(overfitted):
    """The control: the same attack on a model trained on other records is at chance on these members."""
    areas = overfitted["a control as target"]
    assert abs(areas.mean() - 0.5) < 0.03
    assert np.abs(areas - 0.5).max() < 0.08


# --- masked LMs: masks and means --------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 12), st.binary(max_size=8))
def test_masks_are_whole_and_a_function_of_the_key(n, count, key):
    """Trap 6: int(0.15 n) is 0 below 7 tokens, and its mean is NaN."""
    drawn_ = attacks.masks(n, count, key=key)
    size = max(1, math.floor(0.15 * n + 0.5))
    assert drawn_.shape == (count, size)
    assert drawn_.min() >= 0 and drawn_.max() < n
    assert (np.diff(drawn_, axis=1) > 0).all()
    np.testing.assert_array_equal(drawn_, attacks.masks(n, count, key=key))


def test_masks_cover_positions_evenly_and_differ_between_keys():
    found = np.concatenate([attacks.masks(20, 50, key=bytes([i])) for i in range(40)])
    counts = np.bincount(found.ravel(), minlength=20)
    assert stats.chisquare(counts).pvalue > 0.001
    assert len({attacks.masks(20, 50, key=bytes([i])).tobytes() for i in range(40)}) == 40


@pytest.mark.parametrize("bad", [{"n": 0}, {"count": 0}, {"share": 0.0}, {"share": 1.1}])
def test_masks_refuse(bad):
    with pytest.raises(ValueError, match="found"):
        attacks.masks(**({"n": 5, "count": 2, "key": b""} | bad))


def test_each_mask_counts_the_same():
    """E is a mean over masks of means under a mask, not over all masked tokens."""
    assert attacks.mean_masked([[-1.0], [-3.0, -5.0]]) == -2.5
    with pytest.raises(ValueError, match="one mask"):
        attacks.mean_masked([])
    with pytest.raises(ValueError, match="at least one token"):
        attacks.mean_masked([[]])


def test_min_k_has_a_score_for_short_texts():
    """The published int(k n) is 0 below 5 tokens: the mean of nothing."""
    assert attacks.min_k([-1.0, -7.0]) == -7.0
    assert attacks.min_k(-np.arange(10.0)) == -8.5
    assert attacks.min_k(-np.arange(11.0)) == -9.0
    assert attacks.min_k([-1.0, -3.0], share=1.0) == -2.0
    for bad, share in (([], 0.2), ([math.nan], 0.2), ([-1.0], 0.0)):
        with pytest.raises(ValueError, match="expected"):
            attacks.min_k(bad, share)


def test_likelihood_ratio_is_high_where_the_target_learnt():
    """Trap 5: the published L is small for members."""
    np.testing.assert_array_equal(attacks.likelihood_ratio([-1.0, -4.0], [-3.0, -3.0]), [2.0, -1.0])
    with pytest.raises(ValueError, match="1 not finite"):
        attacks.likelihood_ratio([math.nan], [-1.0])
    with pytest.raises(ValueError, match="found 2 and 1"):
        attacks.likelihood_ratio([-1.0, -2.0], [-1.0])


# --- masked LMs: asking -----------------------------------------------------------------------

TEXTS = ["one two three", "x", "a b c d e f g h i j k l m n o p q r s t", "", "long " * 40, "one two three"]


def test_masked_scores_ask_under_the_same_masks_and_only_there():
    """Traps 2 and 6: what is scored is masked, and both models are asked the same."""
    asked: dict[str, set] = {"target": set(), "base": set()}

    def model(name):
        def logprob(tokens, at, token):
            assert tokens[at] == "[MASK]"
            assert 0 < at < len(tokens) - 1
            assert tokens.count("[MASK]") == max(1, round(0.15 * (len(tokens) - 2)))
            asked[name].add((tokens, at, token))
            return noisy(len(name))(tokens, at, token)

        return FakeScorer(logprob, max_tokens=30)

    scores = attacks.masked_scores({name: model(name) for name in asked}, TEXTS, count=7)
    assert asked["target"] == asked["base"] != set()
    for found in scores.values():
        np.testing.assert_array_equal(np.isnan(found), [False, False, False, True, True, False])
        assert found[0] == found[5]  # the same text, the same score: a tie, not a coin
    assert scores["target"][0] != scores["base"][0]


def test_masked_scores_of_a_text_do_not_depend_on_the_others():
    """Trap 6: masks drawn from one stream would change with the order of the texts."""
    scorer = FakeScorer(noisy())
    whole = attacks.masked_scores({"m": scorer}, TEXTS[:3], seed=3)["m"]
    alone = [attacks.masked_scores({"m": scorer}, [t], seed=3)["m"][0] for t in reversed(TEXTS[:3])]
    np.testing.assert_array_equal(whole, alone[::-1])
    assert attacks.masked_scores({"m": scorer}, TEXTS[:3], seed=4)["m"][2] != whole[2]


def test_masked_scores_are_a_mean_over_masks():
    scorer = FakeScorer(lambda tokens, at, token: -float(at))
    key = b"0\na b c d e f g h i j k l m n o p q r s t"
    expected = -np.mean([(row + 1).mean() for row in attacks.masks(20, 5, key=key)])
    assert attacks.masked_scores({"m": scorer}, [TEXTS[2]], count=5)["m"][0] == pytest.approx(expected)


def test_masked_scores_refuse_other_tokens_and_answers_that_are_no_numbers():
    whole, parts = FakeScorer(noisy()), FakeScorer(noisy(), pieces=lambda w: [w[:1], w[1:]] if w[1:] else [w])
    with pytest.raises(ValueError, match="target and base see other tokens"):
        attacks.masked_scores({"target": whole, "base": parts}, TEXTS[:1])
    with pytest.raises(ValueError, match="at least one model"):
        attacks.masked_scores({}, TEXTS)
    with pytest.raises(ValueError, match="not finite"):
        attacks.masked_scores({"m": FakeScorer(lambda *_: math.nan)}, TEXTS[:1])


def test_masked_scores_of_a_real_model_do_not_depend_on_the_batch(mlm):
    """Trap 3: padding without an attention mask changes scores."""
    texts = [
        "The nurse said that he was here.",
        "It is good.",
        "We had been told where the doctor works now.",
    ]
    together = attacks.masked_scores({"m": mlm}, texts)["m"]
    apart = [attacks.masked_scores({"m": mlm}, [t])["m"][0] for t in texts]
    np.testing.assert_allclose(together, apart, atol=1e-5)
    # Against every mask asked for by itself.
    encoded = mlm.encode(texts[1:2])[0]
    full = mlm.mask_logprobs(attacks._masked(encoded, texts[1], 20, 0.15, 0))
    assert len(full) == 20 and together[1] == pytest.approx(np.mean([a.mean() for a in full]), abs=1e-5)


# --- a model that was overfitted on purpose ---------------------------------------------------


def test_an_overfitted_classifier_gives_its_members_away():
    """Trap 5: on real texts, members score above; with labels swapped the area mirrors."""
    folder = model_folder("albert-mini-reviews")
    scorer = TorchScorer(load(folder, device="cpu"))
    rows = []
    for name in ("members", "non_members"):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows += [r | {"set": name} for r in csv.DictReader(stream)][:400]
    member = np.array([r["set"] == "members" for r in rows])
    fits = np.array([len(e.ids) <= scorer.id.max_tokens for e in scorer.encode([r["text"] for r in rows])])
    kept = [r for r, ok in zip(rows, fits, strict=True) if ok]
    y = np.array([scorer.id.labels.index(r["label"]) for r in kept])
    f = attacks.log_softmax(scorer.class_logits([r["text"] for r in kept]))
    for score in (attacks.loss(f, y), attacks.modified_entropy(f, y), attacks.logit(f, y)):
        found = area(score, member[fits])
        assert 0.6 < found < 0.85
        assert area(score, ~member[fits]) == pytest.approx(1 - found)
