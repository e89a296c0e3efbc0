"""What secrets look like: fifteen patterns, and the names of fields that hold some.

It is *not* complete, and cannot be: it knows the forms that issuers publish. A file that a model reads and writes back
should come through whole, so what may well be code is not taken for a secret. Rules, which keep it linear and idempotent:

- What is repeated without a bound is possessive, and never runs over a place where its own pattern could begin again.
- A token is a whole run of token characters (letters, digits, _ and -) and what is taken away ends where a run ends, so
  that taking one away makes no other.
- The named group of a match is what is taken away; without one it is the whole match.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class SecretPattern(NamedTuple):
    """kind: the word that stands in a secret's place. needs: any text it matches has one of these, in lower case."""

    kind: str
    needs: tuple[str, ...]
    regex: re.Pattern[str]


_T: Final = r"[A-Za-z0-9_-]"
#: A run of token characters begins, and ends, here.
_BEGIN: Final = r"(?<![A-Za-z0-9_-])"
_END: Final = r"(?![A-Za-z0-9_-])"
#: Nearly every random token has a digit among its first 40 characters; a name in a program seldom has one.
_HAS_DIGIT: Final = rf"(?={_T}{{0,40}}[0-9])"

_PEM_LABEL: Final = r"[A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
#: Base64, the headers of old formats, and the \n of a key within a string.
_PEM_BODY: Final = r"(?:[A-Za-z0-9+/=:,.\s\\]|-(?!----)){16,}+"

_NAME: Final = (
    r"passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|credentials?|token"
)
_NAME_IN_CAPITALS: Final = r"PASSW(?:OR)?D|PASSPHRASE|SECRET|_KEY|CREDENTIALS?|TOKEN"
_SIGN: Final = r"[\"']?[ \t]{0,8}+(?::=|=>|=|:)[ \t]{0,8}+"
#: What is filled in elsewhere is no secret here: {name}, ${name}, $(command), %(name)s, <name>; nor is a placeholder.
_NO_TEMPLATE: Final = r"(?!\[REDACTED|[{<]|[$%][({])"
_QUOTED: Final = rf"[\"']{_NO_TEMPLATE}(?P<quoted>[^\"'\s]{{8,}}+)(?=[\"'])"
_WORD: Final = r"[A-Za-z_.~+/@!%^*?-]"
#: A bare word with a digit; followed by a bracket it is a call or an index.
_BARE: Final = rf"[\"']?(?=[^\s\"']{{6}})(?P<bare>{_WORD}*+[0-9](?:{_WORD}|[0-9])*+={{0,2}}+)(?![(\[{{<$])"


def _token(kind: str, prefixes: tuple[str, ...], body: str) -> SecretPattern:
    """Make the pattern of a token that begins with one of the prefixes its issuer publishes."""
    one_of = "|".join(map(re.escape, prefixes))
    regex = re.compile(rf"{_BEGIN}(?:{one_of}){body}{_END}", re.ASCII)
    return SecretPattern(kind, tuple(prefix.lower() for prefix in prefixes), regex)


def _pattern(kind: str, needs: tuple[str, ...], regex: str, flags: int = 0) -> SecretPattern:
    return SecretPattern(kind, needs, re.compile(regex, re.ASCII | flags))


SECRET_PATTERNS: Final[tuple[SecretPattern, ...]] = (
    # One that was cut off before its end is as secret as a whole one.
    _pattern("private_key", ("private key",), rf"-----BEGIN {_PEM_LABEL}{_PEM_BODY}(?:-----END {_PEM_LABEL})?"),
    _token("aws_access_key", ("AKIA", "ASIA"), r"[A-Z0-9]{16}"),
    _token("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"), rf"{_T}{{22,}}+"),
    _token("gitlab_token", ("glpat-", "gldt-", "glrt-", "glptt-"), rf"{_T}{{20,}}+"),
    _token("slack_token", ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), rf"{_T}{{10,}}+"),
    _pattern(
        "slack_webhook",
        ("hooks.slack.com",),
        r"(?<=hooks\.slack\.com/)(?P<path>(?:services|workflows|triggers)/[A-Za-z0-9_/-]{20,}+)",
    ),
    _token("stripe_key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"), rf"{_T}{{16,}}+"),
    _token("google_key", ("AIza", "GOCSPX-"), rf"{_T}{{24,}}+"),
    # OpenAI (sk-, sk-proj-), Anthropic (sk-ant-), OpenRouter (sk-or-)
    _token("model_api_key", ("sk-",), rf"{_HAS_DIGIT}{_T}{{20,}}+"),
    _token("registry_token", ("npm_", "pypi-AgE", "dckr_pat_"), rf"{_HAS_DIGIT}{_T}{{27,}}+"),
    _token("hugging_face_token", ("hf_", "api_org_"), r"[A-Za-z0-9]{30,}+"),
    # Header and payload are JSON objects, whose `{"` is `eyJ` in base64; an encrypted one has two more parts.
    _pattern("json_web_token", ("eyj",), rf"{_BEGIN}eyJ{_T}{{10,}}+\.(?:eyJ)?{_T}{{10,}}+(?:\.{_T}*+){{1,3}}+"),
    _pattern(
        "authorization",
        ("bearer", "basic"),
        rf"{_BEGIN}(?:bearer|basic)[ \t]{{1,8}}+(?=[A-Za-z_.~+/-]{{0,40}}[0-9=])(?P<value>[A-Za-z0-9_.~+/=-]{{16,}}+)",
        re.IGNORECASE,
    ),
    _pattern("url_password", ("://",), rf"(?<=://)[^\s/:@\[\"'<>]*+:{_NO_TEMPLATE}(?P<password>[^\s/@\"'<>]++)(?=@)"),
    # A quoted text, a bare word with a digit, or what an environment file has after a name in capitals.
    _pattern(
        "assigned_secret",
        ("passw", "passphrase", "secret", "key", "credential", "token"),
        rf"(?:{_NAME_IN_CAPITALS})={_NO_TEMPLATE}(?![$\"'])(?P<capitals>[^\s\"']{{4,}}+)"
        rf"|(?i:{_NAME}){_SIGN}(?:{_QUOTED}|{_BARE})",
    ),
)

SENSITIVE_NAMES: Final = frozenset("auth authorization cookie cookies cvv jwt pwd setcookie ssn token".split())
"""Names of fields that hold a secret; in lower case, letters and digits only."""

SENSITIVE_ENDINGS: Final = tuple(
    "password passwd passphrase passcode secret secretkey apikey accesskey privatekey signingkey encryptionkey authkey "
    "accesstoken refreshtoken authtoken idtoken bearertoken sessiontoken apitoken csrftoken credential credentials".split()
)
"""Ends of such names, whatever comes before: `DB_PASSWORD`, `x-api-key`, `awsSecretAccessKey`."""
