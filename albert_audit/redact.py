"""What may stand in a report for a text that may not: a kind, a length class, and a keyed digest.

A plain or salted hash of a phone number is undone in minutes by hashing all of them. A digest here
is an HMAC under a key of the project, which lies outside every report.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import html
import json
import os
import re
import secrets
import stat
import unicodedata
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Never, Self

from albert_audit.types import UsageError

REDACTED = "<redacted>"
KEY_BYTES = 32
SHORTEST = 6
"""Below this many bytes of letters and digits `leaks` would find a secret by chance in any long report."""
_DIGEST_HEX = 16
_LENGTHS = ((4, "1-4"), (8, "5-8"), (16, "9-16"), (32, "17-32"))
_PER_PROCESS = secrets.token_bytes(16)


class _Hidden:
    """A value that no way of printing, copying to disk or looking inside shows."""

    __slots__ = ("__value",)
    _shown: ClassVar[str] = REDACTED

    def __init__(self, value: str | bytes) -> None:
        object.__setattr__(self, "_Hidden__value", value)

    def _reveal(self) -> Any:
        return self.__value  # type: ignore[attr-defined]

    def _bytes(self) -> bytes:
        value = self._reveal()
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return self._shown

    def __str__(self) -> str:
        return self._shown

    def __format__(self, spec: str) -> str:
        return self._shown

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._bytes(), other._bytes())

    def __hash__(self) -> int:
        # Python's own hash of a text is the same everywhere once PYTHONHASHSEED is set.
        return hash(hmac.digest(_PER_PROCESS, self._bytes(), "sha256"))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError(f"a {type(self).__name__} is not written to disk or sent to a process")

    def __getstate__(self) -> Never:
        raise TypeError(f"a {type(self).__name__} is not written to disk or sent to a process")


class Secret(_Hidden):
    """A text that no report may hold.

    It prints as ``<redacted>``, whatever the format, and can be compared, hashed and kept in sets.
    Pickling and JSON refuse it. It has no length and does not iterate.

    Parameters
    ----------
    value : str

    Raises
    ------
    TypeError
        When `value` is no text.
    """

    __slots__ = ()

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret is made of a str, found {type(value).__name__}")
        super().__init__(value)

    def reveal(self) -> str:
        """Return the text. Whatever holds it afterwards is no longer guarded."""
        return str(self._reveal())


class Key(_Hidden):
    """The project's key: 32 random bytes in a file that only its owner can read.

    Whoever holds the key can test guesses against the digests of a report. It stays out of reports,
    repositories and caches. A lost key cannot be made again: old and new digests then do not match.
    """

    __slots__ = ()
    _shown = "<key>"

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes) or len(value) != KEY_BYTES:
            raise ValueError(f"a Key is made of {KEY_BYTES} bytes")
        super().__init__(value)

    @staticmethod
    def path() -> Path:
        """Return where the key lies: ``ALBERT_AUDIT_KEY``, else the user's folder for configuration."""
        if named := os.environ.get("ALBERT_AUDIT_KEY"):
            return Path(named).expanduser()
        base = os.environ.get("XDG_CONFIG_HOME", "")
        home = Path(base) if Path(base).is_absolute() else Path("~/.config").expanduser()
        return home / "albert-audit" / "key"

    @classmethod
    def make(cls, path: Path | None = None) -> Key:
        """Draw a key and write it to a new file of mode 0600.

        Raises
        ------
        UsageError
            When the file is there already, or cannot be written.
        """
        path = cls.path() if path is None else path
        value = secrets.token_bytes(KEY_BYTES)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_private(path, value)
        except OSError as exc:
            if isinstance(exc, FileExistsError) and path.parent.is_dir():
                raise UsageError(
                    f"the key {path} is there already",
                    "use it: digests made with another key cannot be compared with earlier ones",
                ) from None
            raise UsageError(
                f"cannot write the key {path}: {exc.strerror}", "name another file in ALBERT_AUDIT_KEY"
            ) from None
        return cls(value)

    @classmethod
    def load(cls, path: Path | None = None) -> Key:
        """Read a key.

        Raises
        ------
        UsageError
            When there is none, others than its owner can read or write it, or it is not 32 random bytes.
        """
        path = cls.path() if path is None else path
        try:
            with path.open("rb") as file:
                mode = os.fstat(
                    file.fileno()
                ).st_mode  # of the file that is read, not of one put in its place
                value = file.read(KEY_BYTES + 1)
        except OSError as exc:
            raise UsageError(
                f"cannot read the key {path}: {exc.strerror}", "make one, or name it in ALBERT_AUDIT_KEY"
            ) from None
        if stat.S_IMODE(mode) & 0o077:
            raise UsageError(
                f"the key {path} has mode {stat.S_IMODE(mode):o}: others than its owner can reach it",
                f"chmod 600 {path}; if others may have read it, make a new one",
            )
        # Fewer than 16 distinct among 32 random bytes happens once in more than 10^15 files.
        if len(value) != KEY_BYTES or len(set(value)) < KEY_BYTES // 2:
            raise UsageError(f"{path} is no key: expected {KEY_BYTES} random bytes", "make a new one")
        return cls(value)

    @property
    def name(self) -> str:
        """What a report may say of the key: 16 hexadecimal digits, the same for the same key."""
        return self._hmac(b"", b"the name of this key")

    def digest(self, text: str | Secret, *, purpose: str) -> str:
        """Return the first 64 bits of HMAC-SHA256 over the canonical form, as 16 hexadecimal digits.

        Parameters
        ----------
        text : str or Secret
        purpose : str
            What the digest is for, such as the kind of secret. Digests of one text for two purposes
            have nothing in common.

        Raises
        ------
        ValueError
            When there is no purpose, or the text has no letter or digit.
        """
        if not purpose:
            raise ValueError("a digest needs a purpose")
        form = canonical(_plain(text))
        if not form:
            raise ValueError("the text has no letter or digit: all such texts would have one digest")
        return self._hmac(purpose.encode(), form.encode("utf-8", "surrogatepass"))

    def _hmac(self, purpose: bytes, message: bytes) -> str:
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        framed = len(purpose).to_bytes(4, "big") + purpose + message
        return hmac.new(self._bytes(), framed, hashlib.sha256).hexdigest()[:_DIGEST_HEX]


@dataclass(frozen=True, slots=True)
class Redacted:
    """What a report may say of a secret.

    Attributes
    ----------
    kind : str
    length : str
        A class of the number of letters and digits, such as ``9-16``.
    digest : str
        16 hexadecimal digits; equal for equal secrets of a kind under one key.
    """

    kind: str
    length: str
    digest: str


def canonical(text: str) -> str:
    """Return the text by which two spellings are compared: NFKC, case folded, letters, marks, digits only."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(c for c in folded if c.isalnum() or unicodedata.category(c)[0] == "M")
    return unicodedata.normalize("NFKC", kept)  # a mark may have come to stand beside a letter


def describe(kind: str, text: str | Secret, key: Key) -> Redacted:
    """Return what a report may say of a text.

    No part of the text is kept: the last four of nine digits would leave 10^5 to try.
    """
    n = len(canonical(_plain(text)))
    length = next((name for most, name in _LENGTHS if n <= most), "33 or more")
    return Redacted(kind, length, key.digest(text, purpose=kind))


def check_reveal(path: Path, *, outside: Path) -> None:
    """Refuse a place for secrets in clear, before there are any; see `reveal_to`.

    Raises
    ------
    UsageError
    """
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise UsageError("secrets are not revealed where CI is set", "run this on a machine of your own")
    if path.resolve().is_relative_to(outside.resolve()):
        raise UsageError(f"{path} lies in the audit folder {outside}", "name a file elsewhere")
    if path.exists():
        raise UsageError(f"{path} is there already", "name a new file")


def reveal_to(path: Path, revealed: Mapping[str, str | Secret], *, outside: Path) -> None:
    """Write secrets in clear to a new file of mode 0600, one JSON object a line with ``id`` and ``text``.

    Parameters
    ----------
    path : Path
    revealed : mapping of str to str or Secret
        From the id that the report uses to the text.
    outside : Path
        The audit folder, which is given away and must not hold the file.

    Raises
    ------
    UsageError
        When ``CI`` is set (what a job writes is often kept and published), the file lies in the audit
        folder or is there already, or it cannot be written.
    """
    check_reveal(path, outside=outside)
    lines = [json.dumps({"id": i, "text": _plain(t)}, ensure_ascii=False) + "\n" for i, t in revealed.items()]
    try:
        _write_private(path, "".join(lines).encode("utf-8", "surrogatepass"))
    except FileExistsError:
        raise UsageError(f"{path} is there already", "name a new file") from None
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}", "name another file") from None


def _plain(text: str | Secret) -> str:
    return text.reveal() if isinstance(text, Secret) else text


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fsync(file.fileno())


# --- looking for leaks ------------------------------------------------------------------------

_TAG = re.compile(r"<[^<>]*>")
_NO_LETTER = re.compile(r"[\W_]+")
_JSON_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrtbf/"\\]))')
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}(?:\s+[A-Za-z0-9+/_-]+)*")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:,-]{0,2}(?:\\x|0x)?){6,}|[0-9a-fA-F]{12,}")


def leaks(haystack: bytes, secret: str | Secret) -> bool:
    """Whether the bytes of a file give a secret away; for tests of what an audit writes.

    Found are the text itself and its canonical form; with spaces, punctuation, ▁, tags or quotes
    between its characters; reversed; in URL, HTML and JSON escapes, also one within another; in
    base64 (any offset, also the URL alphabet) and in hexadecimal digits. Case and accents do not count.
    Not found are other texts between the pieces, ids of tokens, compressed and encrypted bytes.

    It rather errs by finding: digits of two neighbouring numbers are read as one.

    Raises
    ------
    ValueError
        When the letters and digits of the secret are fewer than `SHORTEST` bytes (six digits, two ideographs).
    """
    wanted = _bare(_plain(secret))
    if len(wanted.encode("utf-8", "surrogatepass")) < SHORTEST:
        raise ValueError(f"a secret of fewer than {SHORTEST} bytes of letters and digits is found by chance")
    return any(wanted in form or wanted[::-1] in form for form in _forms(bytes(haystack)))


@functools.lru_cache(maxsize=4)
def _forms(haystack: bytes) -> tuple[str, ...]:
    """Return the canonical text of a file, read in every way that `leaks` knows."""
    texts = {haystack.decode("utf-8", "ignore")}
    for _ in range(2):
        texts |= {decode(t) for t in texts for decode in (html.unescape, urllib.parse.unquote, _json)}
    texts |= {inner for t in texts for inner in _encoded(t)}
    texts |= {_TAG.sub("", t) for t in texts}
    return tuple({_bare(t) for t in texts})


def _bare(text: str) -> str:
    return _NO_LETTER.sub("", unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()))


def _json(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code, byte, letter = match.groups()
        return chr(int(code or byte, 16)) if code or byte else " " if letter.isalpha() else letter

    # A character beyond the first plane is written as two surrogates.
    return _JSON_ESCAPE.sub(one, text).encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _encoded(text: str) -> list[str]:
    """Return the texts inside runs of base64 and of hexadecimal digits."""
    found = []
    for match in _BASE64.finditer(text):
        run = re.sub(r"\s", "", match[0]).replace("-", "+").replace("_", "/")
        for start in range(4):  # a neighbouring letter may have joined the run
            part = run[start:]
            found.append(base64.b64decode(part[: len(part) // 4 * 4]))
            if len(part) % 4 > 1:
                found[-1] += base64.b64decode(part[-(len(part) % 4) :] + "==="[len(part) % 4 - 1 :])
    for match in _HEX.finditer(text):
        run = re.sub(r"\\x|0x|[^0-9a-fA-F]", "", match[0])
        for start in range(2):
            part = run[start:]
            found.append(binascii.unhexlify(part[: len(part) // 2 * 2]))
    return [f.decode("utf-8", "ignore") for f in found]
