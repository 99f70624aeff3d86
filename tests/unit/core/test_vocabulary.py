"""Ids, names, errors, tables and transitions."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from quantry_core.errors import IllegalTransition, all_error_types
from quantry_core.ids import IdPrefix, is_id, new_id, uuid7
from quantry_core.jobs import (
    FINAL_STATUSES,
    REASONS,
    RETRIES,
    SPECS,
    TRANSITIONS,
    JobReason,
    JobStatus,
    JobSubmission,
    JobType,
    check_transition,
)
from quantry_core.keys import Role, hash_key, new_key_secret, role_covers
from quantry_core.names import BadName, check_file_path, check_name
from quantry_core.rollouts import ROLLOUT_TRANSITIONS, RolloutState, check_rollout_transition
from quantry_core.versions import ManifestFile, manifest_digest


def test_uuid7_carries_its_time_and_sorts_by_it() -> None:
    value = uuid7(0x0123456789AB)
    assert value.version == 7
    assert value.hex.startswith("0123456789ab7")
    assert value.variant == "specified in RFC 4122"
    assert uuid7(1).hex < uuid7(2).hex


def test_ids_of_one_process_sort_by_their_making_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [new_id(IdPrefix.AUDIT) for _ in range(5_000)]
    late = time.time_ns() + 10**9
    for nanoseconds in (late, late, late - 5 * 10**8, late + 10**6):
        monkeypatch.setattr("quantry_core.ids.time.time_ns", lambda value=nanoseconds: value)
        ids.append(new_id(IdPrefix.AUDIT))
    assert ids == sorted(set(ids))


def test_ids_are_recognised_by_prefix() -> None:
    job_id = new_id(IdPrefix.JOB)
    assert is_id(job_id, IdPrefix.JOB)
    assert not is_id(job_id, IdPrefix.VERSION)
    assert not is_id(job_id + "\n", IdPrefix.JOB)


@pytest.mark.parametrize("name", ["a", "bard-6m", "llama-3.1_8b", "x" * 64])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", "a\x00", "A", "-a", "a-", "x" * 65, "x" * 300, "é", "a b", "a\n", "a@1"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


@pytest.mark.parametrize("prefix", IdPrefix)
def test_a_name_is_never_taken_for_an_id(prefix: IdPrefix) -> None:
    with pytest.raises(BadName, match="cannot look like an id"):
        check_name(new_id(prefix))
    assert check_name(new_id(prefix)[:-1])


@given(st.text(max_size=30))
def test_a_file_path_that_passes_stays_inside(path: str) -> None:
    try:
        check_file_path(path)
    except ValueError:
        return
    parts = path.split("/")
    assert path and not path.startswith("/") and ".." not in parts and "\\" not in path and "\x00" not in path and len(parts) <= 2


def test_every_pair_of_job_states_is_legal_or_raises() -> None:
    for old, new in itertools.product(JobStatus, repeat=2):
        if new in TRANSITIONS[old]:
            check_transition(old, new)
        else:
            with pytest.raises(IllegalTransition):
                check_transition(old, new)
    assert {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED} == FINAL_STATUSES


def test_every_pair_of_rollout_states_is_legal_or_raises() -> None:
    for old, new in itertools.product(RolloutState, repeat=2):
        if new in ROLLOUT_TRANSITIONS[old]:
            check_rollout_transition(old, new)
        else:
            with pytest.raises(IllegalTransition):
                check_rollout_transition(old, new)


def test_tables_cover_their_enums() -> None:
    assert set(REASONS) == set(RETRIES) == set(JobReason)
    assert set(SPECS) == set(JobType)
    assert set(TRANSITIONS) == set(JobStatus)


def test_error_slugs_are_unique_and_have_a_client_status() -> None:
    types = list(all_error_types())
    assert len({error_type.slug for error_type in types}) == len(types)
    assert all(400 <= error_type.status <= 503 or error_type.status == 507 for error_type in types)


def test_a_spec_is_closed() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        TypeAdapter(JobSubmission).validate_python({"spec": {"type": "import", "model": "a", "source": "/x", "run": "rm"}})


def test_roles_cover_downwards_and_machines_only_themselves() -> None:
    assert role_covers(Role.ADMIN, Role.VIEWER)
    assert not role_covers(Role.VIEWER, Role.OPERATOR)
    assert not role_covers(Role.ADMIN, Role.WORKER)
    assert not role_covers(Role.WORKER, Role.VIEWER)
    assert role_covers(Role.GATEWAY, Role.GATEWAY)


def test_secrets_differ_and_hash_stably() -> None:
    first, second = new_key_secret(), new_key_secret()
    assert first != second
    assert hash_key("qtr_x") == "3e1811b3b05e3370a4619d752c278310f82072e14a12ec37061771e7771e7136"


def test_the_manifest_digest_ignores_order_and_sees_every_field() -> None:
    first = ManifestFile(path="a.json", size_bytes=1, sha256="0" * 64)
    second = ManifestFile(path="b.json", size_bytes=2, sha256="1" * 64)
    assert manifest_digest([first, second]) == manifest_digest([second, first])
    for change in ({"path": "c.json"}, {"size_bytes": 3}, {"sha256": "2" * 64}):
        assert manifest_digest([first.model_copy(update=change), second]) != manifest_digest([first, second])
