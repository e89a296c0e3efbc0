"""A session's model configuration: four values, their ranges, their defaults, and how a part of them is merged in.

It is *not* the action that changes it (session_record.py), and knows no settings file: a host's own defaults come in as
a value.

Rules: a key that is present wins, even when its value is None; keys besides the four are not merged; what is checked is
always the whole configuration, so that what was accepted once can always be changed later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from procession.agent_proc.agent.record.language import LANGUAGES, Language, known, unknown
from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.ipc.core.state_ops import Value

CONFIG_TEXT_CHARS_MAX: Final = 2_048
"""Of a provider or a model: the longest resource name of a cloud that hosts models. It travels with every record."""
TEMPERATURE_MAX: Final = 2.0
MAX_TOKENS_MAX: Final = 2**63 - 1
"""What every store of numbers holds; far above any model."""
_NAMED_MAX: Final = 8
"""Keys named in one error: the rest are as wrong as these."""


def _is_name(value: object) -> bool:
    return value is None or (type(value) is str and 0 < len(value) <= CONFIG_TEXT_CHARS_MAX)


def _is_temperature(value: object) -> bool:
    return (type(value) is float or type(value) is int) and 0 <= value <= TEMPERATURE_MAX  # NaN is in no range


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_TOKENS_MAX


class _Key(NamedTuple):
    """One value of a configuration: its code, its test, and the test in words."""

    code: str
    is_valid: Callable[[object], bool]
    allowed: str


_NAME_RULE: Final = f"None or a text of 1 to {CONFIG_TEXT_CHARS_MAX} characters"
_KEYS: Final[dict[str, _Key]] = {
    "provider": _Key("invalid_provider", _is_name, _NAME_RULE),
    "model": _Key("invalid_model", _is_name, _NAME_RULE),
    "temperature": _Key("invalid_temperature", _is_temperature, f"a number from 0.0 to {TEMPERATURE_MAX}"),
    "max_tokens": _Key("invalid_max_tokens", _is_count, "a whole number above 0"),
}
CONFIG_KEYS: Final = tuple(_KEYS)
PROMOTION_KEYS: Final = ("promotion_enabled", "promotion_interval_ms")
"""What may be given beside the four, and the state keeps as fields of its own."""


def config_reasons(config: object) -> list[Reason]:
    """List everything that is wrong with a whole configuration, in the order of its keys."""
    if not isinstance(config, Mapping):
        return [Reason("invalid_config", f"config: a map with {', '.join(CONFIG_KEYS)} is needed, not {shown(config)}")]
    return [
        Reason(key.code, f"config: {name} is {key.allowed}, not {shown(config.get(name))}")
        for name, key in _KEYS.items()
        if not key.is_valid(config.get(name))
    ]


def merged(config: Mapping[str, Value], given: object) -> Value:
    """Return `config` with those of the four keys that are in `given`, or `given` if it is no map; unchecked."""
    if not isinstance(given, Mapping):
        return given
    return {**config, **{name: given[name] for name in CONFIG_KEYS if name in given}}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a host gives a session that says nothing itself. Raises InvalidRequest with all codes.

    language: of a project that shows none, the host setting `default_language`.
    """

    provider: str | None = "anthropic"
    model: str | None = "claude-3-5-sonnet-20241022"
    temperature: float = 0.7
    max_tokens: int = 4_096
    language: Language = "python"

    def __post_init__(self) -> None:
        reasons = config_reasons(self.config())
        if self.language not in LANGUAGES:
            reasons.append(unknown(self.language))
        if reasons:
            raise refusal(*reasons)

    def config(self) -> dict[str, Value]:
        """Return the default configuration."""
        return {name: getattr(self, name) for name in CONFIG_KEYS}


def defaults_of(language: object = None, config: object = None) -> Defaults:
    """Return what a host was told to give its sessions, over the usual; None is as not told.

    Raises InvalidRequest with all codes: invalid_config (a key that there is not, too), one for each wrong value,
    invalid_language.
    """
    usual = Defaults()
    whole = merged(usual.config(), {} if config is None else config)
    others = [name for name in config if name not in CONFIG_KEYS] if isinstance(config, Mapping) else []
    text = f"config: the keys are {', '.join(CONFIG_KEYS)}"
    reasons = [Reason("invalid_config", f"{text}, not {shown(name)}") for name in others[:_NAMED_MAX]]
    reasons += config_reasons(whole)
    chosen = usual.language if language is None else known(language)
    if chosen is None:
        reasons.append(unknown(language))
    if reasons:
        raise refusal(*reasons)
    assert isinstance(whole, Mapping)
    assert chosen is not None
    return Defaults(**{**whole, "temperature": float(whole["temperature"])}, language=chosen)
