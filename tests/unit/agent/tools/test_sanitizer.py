"""The sanitizer: what it takes out, what it leaves alone, that it is linear on hostile text and idempotent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.tools.sanitizer import DEPTH_MAX, REDACTED, TOO_DEEP, sanitize, sanitize_text
from procession.agent_proc.agent.tools.secret_patterns import SECRET_PATTERNS

L36 = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"  # made up; the forms are the issuers', the keys are nobody's
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{L36}\n\n{L36}==\n"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJ{L36}.{L36}"

SECRETS = [
    ("private_key", PEM + "-----END RSA PRIVATE KEY-----"),
    ("private_key", PEM),  # cut short
    ("private_key", PEM.replace("\n", "\\n") + "-----END RSA PRIVATE KEY-----"),
    ("private_key", f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{L36}\n-----END PGP PRIVATE KEY BLOCK-----"),
    ("aws_access_key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("aws_access_key", "ASIA" + "IOSFODNNAEXAMPLE"),
    ("github_token", "ghp_" + L36),
    ("github_token", "github_pat_" + L36 + "_" + L36),
    ("gitlab_token", "glpat-" + L36[:20]),
    ("slack_token", "xoxb-1234567890-" + L36),
    ("stripe_key", "sk_live_" + L36[:24]),
    ("google_key", "AIza" + L36[:35]),
    ("google_key", "GOCSPX-" + L36[:28]),
    ("model_api_key", "sk-" + L36),
    ("model_api_key", "sk-ant-api03-" + L36 + "-AA"),
    ("model_api_key", "sk-proj-" + L36 + "_" + L36),
    ("registry_token", "npm_" + L36),
    ("registry_token", "pypi-AgEIcHlwaS5vcmc" + L36),
    ("hugging_face_token", "hf_" + L36[:34]),
    ("json_web_token", JWT),
    ("json_web_token", f"{JWT}.{L36}.{L36}"),
]

KEPT = [
    # (before, the secret, after, kind): only the secret goes
    ("https://hooks.slack.com/", f"services/T0000/B0000/{L36[:24]}", "", "slack_webhook"),
    ("Authorization: Bearer ", L36, "", "authorization"),
    ("authorization: basic ", "dXNlcjpwYXNzd29yZDE=", "\r\n", "authorization"),
    ("postgres://app:", "s3cr3t!", "@db:5432/x", "url_password"),
    ("redis://:", "hunter", "@cache", "url_password"),
    ("password=", "hunter2", " user=ann", "assigned_secret"),
    ('"password": "', "hunterhunter", '"', "assigned_secret"),
    ("api_key: '", "abc123", "'", "assigned_secret"),
    ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "\n", "assigned_secret"),
    ("?access_token=", "abcdef12", "&page=1", "assigned_secret"),
    ("export DB_PASSWORD=", "swordfish", "\n", "assigned_secret"),
    ("OPENAI_API_KEY=", "whatever", "", "assigned_secret"),
    ("client_secret => ", "abc123==", ";", "assigned_secret"),
]

LEFT_ALONE = [
    "password = get_password(user1)",
    "token = os.environ['TOKEN']",
    'token = tokens1["a"]',
    "def login(password: str, token: str | None = None) -> bool:",
    "connect(password=password, token=token)",
    "the password is wrong; try another token",
    "max_tokens: 4096, tokens=1200000",
    'SECRET = "%(secret)s"; key = "{api_key}"; url = f"https://{user}:{password}@host"',
    "PASSWORD=$OTHER",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
    'if "-----BEGIN PRIVATE KEY-----" in text: return (1, 2)',
    "basic internationalization and bearer authentication",
    "https://example.com:8080/a@b and user@example.com",
    "sk-learn sk-toggleable-content-label-arrow-of-the-page",
    "3b18e512dba79e4c8300dd08aeb37f8e728b8dad and 12345678-1234-4234-8234-123456789012",
    "hf_hub_download_with_a_rather_long_function_name npm_config_registry_of_a_rather_long_name",
    "xAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLEx",
]


@pytest.mark.contract("2.5 sanitizer")
@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("a ", " b"), ('{"x":"', '"}'), ("(", ")"), ("\n", "\n")])
def test_a_secret_is_known_by_its_form(kind, secret, before, after):
    clean = sanitize_text(before + secret + after)
    assert clean.startswith(f"{before}[REDACTED:{kind}]")
    assert L36 not in clean


@pytest.mark.parametrize(("before", "secret", "after", "kind"), KEPT)
def test_only_the_secret_goes_and_what_is_around_it_stays(before, secret, after, kind):
    assert sanitize_text(before + secret + after) == f"{before}[REDACTED:{kind}]{after}"


@pytest.mark.contract("2.5 sanitizer")
def test_there_are_fifteen_patterns_and_each_has_been_seen():
    seen = {kind for kind, _ in SECRETS} | {kind for *_, kind in KEPT}
    assert len(SECRET_PATTERNS) == 15
    assert {pattern.kind for pattern in SECRET_PATTERNS} == seen


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_code_and_prose_come_through_whole(text):
    assert sanitize_text(text) == text


def test_several_secrets_of_several_kinds():
    text = f"{JWT} ghp_{L36}\npassword=abc123;AKIAIOSFODNN7EXAMPLE,AKIAIOSFODNN7EXAMPLE"
    assert sanitize_text(text) == (
        "[REDACTED:json_web_token] [REDACTED:github_token]\n"
        "password=[REDACTED:assigned_secret];[REDACTED:aws_access_key],[REDACTED:aws_access_key]"
    )


# -- data ------------------------------------------------------------------------------------------------------------

HIDING = "password DB_PASSWORD userPassword x-api-key awsSecretAccessKey client.secret Authorization token Set-Cookie "
HIDING += "credentials"


@pytest.mark.contract("2.5 sanitizer")
@pytest.mark.parametrize("name", HIDING.split())
@pytest.mark.parametrize("value", ["x", 5, b"x", ["x"], {"a": "x"}], ids=repr)
def test_a_field_s_name_hides_its_value(name, value):
    assert sanitize({name: value, "other": value}) == {name: REDACTED, "other": value}


@pytest.mark.parametrize("name", ["max_tokens", "next_page", "secretary", "keyboard", "tokens", "passwords_checked", 3])
def test_other_names_hide_nothing(name):
    assert sanitize({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("value", [None, True, False, "", 0, [], {}], ids=repr)
def test_what_is_no_secret_is_not_hidden(value):
    assert sanitize({"password": value}) == {"password": value}


def test_data_keeps_its_shape_and_its_input():
    secret = "ghp_" + L36
    data = {"a": [secret, (1, secret)], "b": {secret}, "c": secret.encode(), "d": b"\xff\x00", secret: 1, "e": 2.5}
    before = repr(data)
    place = "[REDACTED:github_token]"
    assert sanitize(data) == {
        "a": [place, (1, place)],
        "b": {place},
        "c": place.encode(),
        "d": b"\xff\x00",
        place: 1,
        "e": 2.5,
    }
    assert repr(data) == before


def test_entries_whose_keys_were_secrets_are_all_kept():
    clean = sanitize({f"ghp_{L36}{n}": n for n in range(3)})
    assert sorted(clean.values()) == [0, 1, 2]
    assert all(L36 not in key for key in clean)


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = [inside]
    return inside


@pytest.mark.contract("2.5 sanitizer")
def test_what_is_deeper_than_fifty_is_left_out():
    secret = "ghp_" + L36
    assert sanitize(nested(DEPTH_MAX, secret)) == nested(DEPTH_MAX, "[REDACTED:github_token]")
    assert sanitize(nested(DEPTH_MAX + 1, secret)) == nested(DEPTH_MAX, TOO_DEEP)
    assert sanitize(nested(900, {})) == nested(DEPTH_MAX, TOO_DEEP)


# -- hostile text ----------------------------------------------------------------------------------------------------

MEBIBYTE = 1024 * 1024
SECONDS_MAX = 2.0  # measured: 0.2; quadratic behaviour would take hours

HOSTILE = [
    *(
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n" + L36,
        "private key -----BEGIN RSA ",
        "-",
        "----- ",
    ),
    *(
        "AKIA",
        "ghp_",
        "ghp_a.",
        "glpat-",
        "xoxb-",
        "sk_live_",
        "AIza",
        "sk-",
        "sk-a",
        "npm_a",
        "hf_",
        "hf_aaaaaaaaaaaa",
    ),
    *("hooks.slack.com/services/", "eyJ", "eyJaaaaaaaaaaaa.", "eyJaaaaaaaaaaaa.b.", "eyJaaaaaaaaaaaa.eyJaaaaaaaaaaaa "),
    *("bearer ", "bearer a", "Bearer 1", "://", "://a:", "://:a:", "://a:b", "password", "password=", "password:'"),
    *(
        "password='\"",
        "token=1",
        "password=1",
        "password=1(",
        "password=a",
        "token = ",
        'token"\t\t\t',
        "token=1==",
        "token:=",
    ),
    *("PASSWORD=", "_KEY=x", "secret=a1[", "api_api-key=", "passpasswpassword", " ", "\n", "a", "1", "=", "\\", "é"),
]


@pytest.mark.parametrize("seed", HOSTILE)
def test_a_mebibyte_of_hostile_text_takes_little_time(seed):
    text = (seed * (MEBIBYTE // len(seed) + 1))[:MEBIBYTE] + "("  # a bracket, so that what nearly matched does not
    began = time.process_time()
    sanitize_text(text)
    assert time.process_time() - began < SECONDS_MAX


pieces = st.sampled_from(
    [secret for _, secret in SECRETS]
    + ["".join(parts[:3]) for parts in KEPT]
    + [before for before, *_ in KEPT]
    + LEFT_ALONE
    + HOSTILE
    + [f"[REDACTED:{pattern.kind}]" for pattern in SECRET_PATTERNS]
    + list(" .:=\"'[](@/-_1aZ\n")
)
texts = st.lists(pieces | st.text(max_size=4), max_size=8).map("".join)
data = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(HIDING.split()), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("before", ["://", "://a", "postgres://token="])
def test_the_colon_of_a_placeholder_parts_no_user_from_a_password(before):
    clean = sanitize_text(f"{before}password=abc123==@")
    assert clean == f"{before}password=[REDACTED:assigned_secret]@"
    assert sanitize_text(clean) == clean


@given(texts)
@settings(max_examples=examples(200), deadline=None)
def test_doing_it_again_changes_no_text(text):
    clean = sanitize_text(text)
    assert sanitize_text(clean) == clean


@given(data)
@settings(max_examples=examples(150), deadline=None)
def test_doing_it_again_changes_no_data(value):
    clean = sanitize(value)
    assert sanitize(clean) == clean


@given(texts, st.sampled_from([secret for kind, secret in SECRETS if kind != "private_key"]), texts)
@settings(max_examples=examples(100), deadline=None)
def test_no_text_around_it_hides_a_token(before, secret, after):
    assert f" {secret} " not in sanitize_text(f"{before} {secret} {after}")
