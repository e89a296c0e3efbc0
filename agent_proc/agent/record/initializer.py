"""The first state of a session: parameters in, validated state out.

    {session_id, name, project_path, language, config} + facts + an empty code session + a moment  ->  state

It is *not* the look at the project's folder (ProjectFacts come in), the empty collections (they come in too), or the
registry, which decides whether id and folder are free.

Rules: whatever is wrong is told at once, in the order in which a record is validated; nothing is accepted here that a
later validation would refuse; a state that comes out is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.record.config import PROMOTION_KEYS, Defaults, merged
from procession.agent_proc.agent.record.language import detect, known
from procession.agent_proc.agent.record.names import id_text
from procession.agent_proc.agent.record.project_path import ProjectFacts, folder_reason, plain_path, text_reason
from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.agent_proc.agent.record.session_record import KEY, Record, record_reasons
from procession.ipc.core.names import default_name
from procession.ipc.core.state_ops import State, Value

PARAMETERS: Final = ("session_id", "name", "project_path", "language", "config")
"""What a session may be made from; only project_path is needed. One that is None is as one not given."""
_UNKNOWN_NAMED_MAX: Final = 8
"""Parameters named in one error: the rest are as wrong as these."""


@dataclass(frozen=True, slots=True)
class StateInitializer:
    """Make first states with a host's defaults."""

    defaults: Defaults = field(default_factory=Defaults)

    def init(
        self, params: Mapping[str, Value], facts: ProjectFacts | None, empty: State, moment: Moment
    ) -> dict[str, Value]:
        """Return the first state: the record, `empty` for the rest.

        facts: what was found at `path_to_look_at(params["project_path"])`; None when that raised. A config may also have
        promotion_enabled and promotion_interval_ms, which are fields of the state.
        Raises InvalidRequest with all codes: invalid_session_id, then those of a record, then invalid_interval and
        invalid_promotion_enabled, then unknown_parameter.
        """
        given: Value = params.get("project_path")
        path_reason = _path_reason(given, facts)
        record = self._record(params, plain_path(given) if path_reason is None else "", facts, moment)
        promotion = _promotion(params)
        reasons = [_of_parameter(reason) for reason in record_reasons(record, path_reason)]
        reasons += [*_promotion_reasons(promotion), *_unknown_reasons(params)]
        if reasons:
            raise refusal(*reasons)
        return {**empty, "session_id": record["id"], KEY: record, **promotion}

    def _record(self, params: Mapping[str, Value], path: str, facts: ProjectFacts | None, moment: Moment) -> Record:
        """Put the record together; what was given wrong stays as it was given, for the reasons to name. path: "" if wrong."""
        given_id, name, language, config = (params.get(key) for key in ("session_id", "name", "language", "config"))
        detected = detect(facts.found) if facts is not None else None
        ident = moment.new_id() if given_id is None else id_text(given_id) or given_id
        return {
            "id": ident,
            "name": default_name(path, str(ident)) if name is None else name,
            "project_path": path,
            "config": merged(self.defaults.config(), {} if config is None else config),
            "language": detected or self.defaults.language if language is None else known(language) or language,
            "connection_status": "disconnected",
            "created_at": moment.at,
            "updated_at": moment.at,
        }


def _path_reason(path: Value, facts: ProjectFacts | None) -> Reason | None:
    if path is None:
        return Reason("missing_project_path", "project_path: a session needs the path of its project's folder")
    reason = text_reason(path)
    if reason is not None:
        return reason
    assert facts is not None, "a path that can be looked at comes with what was found"
    return folder_reason(path, facts)


def _of_parameter(reason: Reason) -> Reason:
    """Name a record's id as the parameter is named."""
    if reason.code != "invalid_id":
        return reason
    return reason._replace(code="invalid_session_id", hint="leave session_id out to have one made")


def _promotion(params: Mapping[str, Value]) -> dict[str, Value]:
    """Return the promotion settings of a config, which the state keeps beside its record."""
    config = params.get("config")
    given = config if isinstance(config, Mapping) else {}
    return {key: given[key] for key in PROMOTION_KEYS if key in given}


def _promotion_reasons(promotion: Mapping[str, Value]) -> list[Reason]:
    reasons = []
    interval = promotion.get("promotion_interval_ms", 1)
    if type(interval) is not int or interval <= 0:
        text = f"config: promotion_interval_ms is a whole number above 0, not {shown(interval)}"
        reasons.append(Reason("invalid_interval", text))
    enabled = promotion.get("promotion_enabled", True)
    if type(enabled) is not bool:
        text = f"config: promotion_enabled is True or False, not {shown(enabled)}"
        reasons.append(Reason("invalid_promotion_enabled", text))
    return reasons


def _unknown_reasons(params: Mapping[str, Value]) -> list[Reason]:
    names = [shown(name) for name in params if name not in PARAMETERS]
    hint = f"the parameters are {', '.join(PARAMETERS)}"
    return [Reason("unknown_parameter", f"there is no parameter {name}", hint) for name in names[:_UNKNOWN_NAMED_MAX]]
