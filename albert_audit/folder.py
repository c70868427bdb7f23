"""An audit on disk: read, verified, judged again and rendered. Imports neither torch nor pandas."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from albert_audit import gate
from albert_audit.rendering import html, junit
from albert_audit.types import (
    Document,
    EvidenceError,
    Findings,
    Manifest,
    Policy,
    RunInfo,
    UsageError,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

FINDINGS, MEASUREMENTS, VERDICT = "findings.json", "measurements.parquet", "verdict.json"
POLICY, MANIFEST, RUN = "policy.lock.yaml", "manifest.json", "run.json"
CARD, JUNIT = "card.en.html", "junit.xml"
FILES = (FINDINGS, MEASUREMENTS, VERDICT, POLICY, MANIFEST, RUN, CARD, JUNIT)
HASHED = (FINDINGS, MEASUREMENTS, VERDICT, POLICY)
_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True)
class Audit:
    """A finished audit: its documents, and where they lie.

    Attributes
    ----------
    dir : Path
    manifest, findings, verdict, policy, run
        The documents of the folder.
    """

    dir: Path
    manifest: Manifest
    findings: Findings
    verdict: Verdict
    policy: Policy
    run: RunInfo

    def frame(self) -> pd.DataFrame:
        """Return the findings as a frame, one row each, flat columns."""
        import pandas as pd

        rows = []
        for f in self.findings.findings:
            row: dict[str, Any] = {
                "id": f.id, "role": f.role, "status": f.status.value, "gates": f.gates, "unit": f.unit,
                "n": f.n, "n_skipped": f.n_skipped, "reason": f.reason,
            }  # fmt: skip
            for name, e in (("effect", f.effect), ("difference", f.difference)):
                ends = e.intervals.get("0.95") if e else None
                row |= {
                    name: e.value if e else None, f"{name}_se": e.se if e else None,
                    f"{name}_low": ends.low if ends else None, f"{name}_high": ends.high if ends else None,
                    f"{name}_p_holm": e.p_holm if e else None,
                }  # fmt: skip
            rows.append(row)
        return pd.DataFrame(rows)

    def measurements(self) -> pd.DataFrame:
        """Return the rows that every number was computed from."""
        import pandas as pd

        return pd.read_parquet(self.dir / MEASUREMENTS)

    def _repr_html_(self) -> str:
        from html import escape

        card = html.card(self.manifest, self.findings, self.verdict, self.policy, self.run)
        # A frame of its own keeps the card's style and policy away from the notebook's.
        return f'<iframe srcdoc="{escape(card, quote=True)}" width="100%" height="720" sandbox></iframe>'

    def __repr__(self) -> str:
        m = self.findings.model
        return f"<Audit {self.verdict.verdict}: {m.name} ({m.sha256[:12]}), {len(self.findings.findings)} findings, {self.dir}>"


# --- reading --------------------------------------------------------------------------------


def load(path: str | Path) -> Audit:
    """Read an audit folder and check that its files are those the manifest names.

    Raises
    ------
    UsageError
        When there is no audit at `path`.
    EvidenceError
        When the audit did not finish, or a file is missing or was altered.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"there is no audit in {folder} (no {MANIFEST})", "give the folder that `run` wrote")
    if not manifest.complete:
        raise EvidenceError(f"the audit in {folder} did not finish", "run the same command again; it resumes")
    if unvouched := sorted(set(HASHED) - set(manifest.files)):
        raise EvidenceError(
            f"{MANIFEST} does not vouch for {', '.join(unvouched)}",
            "restore the folder, or run the audit again with --force",
        )
    for name, expected in manifest.files.items():
        found = sha256(folder / name) if (folder / name).is_file() else "nothing"
        if found != expected:
            raise EvidenceError(
                f"{name} is not the file that the audit wrote: expected {expected[:12]}, found {found[:12]}",
                "restore the folder, or run the audit again with --force",
            )
    return Audit(
        folder,
        manifest,
        _read(folder, FINDINGS, Findings),
        _read(folder, VERDICT, Verdict),
        read_policy_lock(folder),
        _read(folder, RUN, RunInfo),
    )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None when it holds no audit."""
    return _read(folder, MANIFEST, Manifest) if (folder / MANIFEST).is_file() else None


def read_run(folder: Path) -> RunInfo | None:
    """Return ``run.json`` of a folder, or None."""
    return _read(folder, RUN, RunInfo) if (folder / RUN).is_file() else None


def read_policy_lock(folder: Path) -> Policy:
    """Return the policy that the folder's verdict was judged by."""
    return gate.load_policy(folder / POLICY)


def _read(folder: Path, name: str, kind: type[_D]) -> _D:
    try:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise EvidenceError(f"{name} cannot be read: {exc}", "run the audit again with --force") from None
    document: _D = kind.read(data, where=str(folder / name), error=EvidenceError)
    return document


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing --------------------------------------------------------------------------------


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = part(path)
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink()
        raise EvidenceError(
            f"cannot write {path}: {exc.strerror}",
            "make the folder writable or make room, then run the same command again; scores are kept",
        ) from None


def part(path: Path) -> Path:
    """Return where a file is written before it is there whole."""
    return path.with_name(f".{path.name}.part")


def write(path: Path, document: Document) -> None:
    """Write a document as JSON with sorted keys."""
    data = document.model_dump(mode="json", by_alias=True)
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode())


def write_policy_lock(folder: Path, policy: Policy) -> None:
    """Lock the policy: written before anything is scored."""
    data = policy.model_dump(mode="json", by_alias=True)
    text = f"# sha256 {policy.sha256}\n" + yaml.safe_dump(data, sort_keys=True, allow_unicode=True)
    write_bytes(folder / POLICY, text.encode())


# --- judging and rendering ------------------------------------------------------------------


def finish(audit: Audit) -> Audit:
    """Write the verdict, the manifest that vouches for the evidence, and the renderings."""
    write(audit.dir / VERDICT, audit.verdict)
    files = {name: sha256(audit.dir / name) for name in HASHED}
    manifest = audit.manifest.model_copy(update={"files": files, "complete": True})
    done = Audit(audit.dir, manifest, audit.findings, audit.verdict, audit.policy, audit.run)
    render(done)
    write(audit.dir / MANIFEST, manifest)  # last: an audit without its card is not complete
    return done


def judge(audit: Audit | str | Path, policy: Policy | str | Path | None = None) -> Audit:
    """Judge the findings of an audit, by its own policy or by another one.

    A policy other than the one locked before scoring is marked as judged post hoc; it replaces the
    folder's ``policy.lock.yaml``, and the manifest keeps the hash of the one that was locked.

    Returns
    -------
    Audit
        With the new verdict, which is also written to the folder.
    """
    current = audit if isinstance(audit, Audit) else load(audit)
    if policy is None:
        chosen = current.policy
    else:
        chosen = policy if isinstance(policy, Policy) else gate.load_policy(Path(policy))
        known = {f.id: f.gates for f in current.findings.findings if f.role == "probe"}
        gate.check_policy(chosen, current.findings.model.head, known, _shipped_checks())
    post_hoc = chosen.sha256 != current.manifest.policy_sha256
    verdict = gate.judge(current.findings, chosen, post_hoc=post_hoc)
    if policy is not None:
        write_policy_lock(current.dir, chosen)
    return finish(Audit(current.dir, current.manifest, current.findings, verdict, chosen, current.run))


def _shipped_checks() -> list[str]:
    """Finding ids that shipped policies name: what could have been asked, without loading packs."""
    policies = (gate.load_policy(p) for p in gate.shipped_policy_files())
    return [rule.check for policy in policies for rule in policy.rules]


def render(audit: Audit | str | Path) -> Path:
    """Write the card and the JUnit report of an audit from its documents; return the card's path."""
    current = audit if isinstance(audit, Audit) else load(audit)
    page = html.card(current.manifest, current.findings, current.verdict, current.policy, current.run)
    write_bytes(current.dir / CARD, page.encode())
    write_bytes(current.dir / JUNIT, junit.junit(current.verdict, current.findings).encode())
    return current.dir / CARD
