"""For people who write packs: what a pack holds and can resolve, and a pack to start from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from albert_audit import packs, resources
from albert_audit.bias import MEASURES
from albert_audit.findings import checks, floor_name, forecasts, stream
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.scorer import TASKS
from albert_audit.packs import Pack
from albert_audit.stats import MIN_DF
from albert_audit.types import Decision, Head, UsageError

# ISO 639-1, without codes that are withdrawn: a name such as my-pack-tv ends in no language.
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
    ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
    nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so
    sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh
    zu
"""
LANGUAGES = frozenset(_CODES.split())
_LABELS = ("O", "B-PER", "I-PER")  # of a made-up model, to lay out what a pack would ask


def report(name: str, model: str | None) -> Iterator[str]:
    """Yield the lines of ``packs check``.

    Raises
    ------
    PackError
        When the pack has mistakes; all are listed.
    """
    pack = packs.load(packs.find(name))
    yield f"{pack.name} version {pack.spec.version}: no mistakes found"
    if (named := language_of(pack.name)) not in ("", pack.language):
        yield (
            f"note: its name ends in -{named}, its language is {pack.spec.language}: it runs, and is held to the "
            f"floor, as {pack.spec.language}; correct one of them"
        )
    yield from _contents(pack)
    for control in pack.spec.controls:
        if (place := pack.beside(control)) is not None:
            yield from _matched(pack, packs.load(place))
    if (floor := floor_name(pack)) and not pack.is_floor and pack.beside(floor) is None:
        yield f"note: put a pack {floor} beside it; without a floor every finding is INVALID"
    yield from _design(pack)
    if model is not None:
        yield from _under(pack, model)


def _contents(pack: Pack) -> Iterator[str]:
    if pack.templates:
        families = Counter(t.family for t in pack.templates)
        listed = ", ".join(f"{n} in {f}" for f, n in families.items())
        yield f"templates: {len(pack.templates)} ({listed})"
        if len(families) < 2:
            yield "  note: one family of templates cannot show how much the wording matters"
    if pack.fillers:
        given = [f.covariate for f in pack.fillers if f.covariate is not None]
        span = f", covariate {min(given):g} to {max(given):g}" if given else ", no covariate: no slope"
        yield f"fillers: {len(pack.fillers)}{span}"
    if pack.pairs:
        yield f"pairs: {len(pack.pairs)}"
    if pack.sentences:
        yield f"sentences: {len(pack.sentences)}"
    for kind, rows in pack.tables.items():
        groups = Counter(row["group"] for row in rows if "group" in row)
        listed = ", ".join(f"{n} {g}" for g, n in groups.items())
        yield f"{kind}: {len(rows)}" + (f" ({listed})" if groups else "")
    if pack.shape.brings:
        return
    yield f"checks: {len(checks(pack, Head.MASKED_LM))}"


def _matched(pack: Pack, control: Pack) -> Iterator[str]:
    if pack.pairs:
        theirs = {p.id: p for p in control.pairs}
        same = sum(1 for p in pack.pairs if p.id in theirs and theirs[p.id].cluster == p.cluster)
        yield f"control {control.name}: {same} of {len(pack.pairs)} pairs matched by id and cluster"
    else:
        shared = {t.id for t in pack.templates} & {t.id for t in control.templates}
        linked = {f.match for f in control.fillers} & {f.id for f in pack.fillers}
        yield (
            f"control {control.name}: {len(shared)} of {len(pack.templates)} templates shared, "
            f"{len(linked)} of {len(pack.fillers)} fillers matched"
        )


def _design(pack: Pack) -> Iterator[str]:
    """Say how many clusters each check rests on; below the least there will be no interval."""
    if pack.is_floor:
        return
    if pack.shape.brings:
        yield f"clusters: known when you bring your own {', '.join(pack.shape.brings)} (--plan shows them)"
        return
    # What a check rests on does not depend on what a model answers.
    scorer = CountingScorer(FakeScorer(lambda *_: 0.0, answers=dict.fromkeys(TASKS, list), labels=_LABELS))
    decided = replace(pack, decision=Decision(labels=_LABELS, positive=1))
    rows = MEASURES[pack.spec.measure].run(scorer, decided, stream(0, pack.name))
    alike: dict[tuple[int, float, float], list[tuple[str, str]]] = defaultdict(list)
    for check in forecasts(decided, rows):
        _, statistic, axis, _ = check.id.split("/")
        alike[check.n, check.clusters, check.df].append((statistic, axis))
    for (n, clusters, df), named in alike.items():
        if not n:
            statistics = ", ".join(dict.fromkeys(statistic for statistic, _ in named))
            yield f"what it rests on depends on what the model answers: {statistics}"
            continue
        enough = "" if df >= MIN_DF else f"; under {MIN_DF:g} degrees of freedom: NO INTERVAL"
        statistics, axes = (", ".join(dict.fromkeys(column)) for column in zip(*named, strict=True))
        yield f"{axes}: {n} items, worth {clusters:.1f} clusters, {df:.1f} degrees of freedom ({statistics}){enough}"


def _under(pack: Pack, model: str) -> Iterator[str]:
    from albert_audit.model.load import load
    from albert_audit.model.scorer import TorchScorer

    scorer = CountingScorer(TorchScorer(load(model)))
    yield f"under {scorer.id.name} ({scorer.id.sha256[:12]}):"
    words = [w for group in pack.spec.groups.values() for w in group] + [f.form for f in pack.fillers]
    words += [row["form"] for rows in pack.tables.values() for row in rows if "form" in row]
    if words:
        # Behind a word, as in a sentence; in Chinese behind a comma.
        before = "，" if pack.language == "zh" else "the "
        encoded = scorer.encode([before + w for w in words])
        bare = len(scorer.encode([before])[0].positions)
        counts = [len(e.positions) - bare for e in encoded]
        tally = ", ".join(f"{n} of {c} piece{'s' * (c > 1)}" for c, n in sorted(Counter(counts).items()))
        yield f"  words: {tally}"
        for word, count, e in zip(words, counts, encoded, strict=True):
            unknown = ", UNKNOWN PIECE" if scorer.unknown_id in e.ids else ""
            yield f"    {word}: {count}{unknown}"
    texts = scorer.encode(pack.texts())
    tokens = [i for e in texts for i in e.ids]
    long = sum(len(e.ids) > scorer.id.max_tokens for e in texts)
    yield f"  unknown tokens: {tokens.count(scorer.unknown_id) / max(len(tokens), 1):.2%}; too long: {long} sentences"
    if not MEASURES[pack.spec.measure].fits(scorer.can):
        yield f"  this model cannot answer it: its head is {scorer.id.head}"
        return
    if pack.shape.brings:
        return
    if scorer.id.labels:
        pack = replace(pack, decision=Decision(labels=scorer.id.labels, positive=len(scorer.id.labels) - 1))
    MEASURES[pack.spec.measure].run(scorer, pack, stream(0, pack.name))
    yield f"  cost: {scorer.inputs:,} inputs, {scorer.tokens:,} tokens, {scorer.flops / 1e12:.2f} TFLOP"


# --- a new pack -----------------------------------------------------------------------------

_ENGLISH = "language: en\n"
_TO_WRITE = "the sentences you start from are English: write your own in this language"


def language_of(name: str) -> str:
    """Return the two letters that a pack's name ends in where they are the code of a language, or nothing."""
    _, dash, last = name.rpartition("-")
    return last if dash and last in LANGUAGES else ""


def create(directory: Path, measure: str) -> list[Path]:
    """Write a small pack that passes its check, and return its files.

    Its language is the one that the folder's name ends in, English where it ends in none. The
    sentences to start from are English all the same.

    Raises
    ------
    UsageError
        When the folder is not empty, its name is no slug, or the measure is unknown.
    """
    starters = resources.reports() / "starters"
    known = sorted(p.name for p in starters.iterdir())
    if measure not in known:
        raise UsageError(
            f"expected --measure {' or '.join(known)}, found {measure!r}",
            "e.g. albert-audit packs new ./my-pack-en --measure template_gap",
        )
    name = directory.resolve().name
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} exists and is not empty", "choose another folder")
    if not packs.SLUG.fullmatch(name):
        raise UsageError(
            f"the folder's name is the pack's: expected lower-case words with hyphens, found {name!r}",
            "e.g. albert-audit packs new ./pronouns-trades-en",
        )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sorted((starters / measure).iterdir()):
            target = directory / source.name
            text = source.read_text(encoding="utf-8").replace("NAME", name)
            if source.name == "pack.yaml" and (language := language_of(name)) not in ("", "en"):
                text = text.replace(_ENGLISH, f"language: {language}   # {_TO_WRITE}\n")
            target.write_text(text, encoding="utf-8")
            written.append(target)
    except OSError as exc:
        raise UsageError(f"cannot write to {directory}: {exc.strerror}", "choose another folder") from None
    return written
