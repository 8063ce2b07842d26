"""Seccomp profiles: conditions settled, and the default blocks what Docker documents as blocked."""

import json
from pathlib import Path
from typing import Any

import pytest

from proad.model import capabilities, errors, seccomp

KERNEL = (6, 1)
DEFAULT = frozenset(capabilities.DEFAULT)

BLOCKED_BY_DOCKER = """
acct add_key bpf clock_settime create_module delete_module finit_module get_kernel_syms get_mempolicy
init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages
nfsservctl open_by_handle_at perf_event_open pivot_root query_module quotactl reboot request_key
set_mempolicy setns settimeofday stime swapon swapoff sysfs _sysctl umount umount2 unshare uselib
userfaultfd ustat vm86 vm86old
""".split()  # noqa: SIM905
"""docs.docker.com/engine/security/seccomp, "Significant syscalls blocked by the default profile"."""

needs_profile = pytest.mark.skipif(
    not Path(seccomp.BUILTIN_PATH).exists(), reason="needs golang-github-containers-common"
)


def actions(profile: dict[str, Any] | None, name: str) -> set[str]:
    assert profile is not None
    found = {rule["action"] for rule in profile["syscalls"] if name in rule["names"]}
    return found or {profile["defaultAction"]}


def builtin(names: frozenset[str] = DEFAULT, machine: str = "x86_64") -> dict[str, Any]:
    profile = seccomp.builtin(Path(seccomp.BUILTIN_PATH).read_bytes(), names, machine, KERNEL)
    assert profile is not None
    return profile


def convert(
    rules: list[dict[str, Any]], names: frozenset[str] = DEFAULT, machine: str = "x86_64", **more: Any
) -> Any:
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules, **more})
    return seccomp.to_oci(seccomp.parse_profile(text), names, machine, KERNEL)


@needs_profile
@pytest.mark.parametrize("name", BLOCKED_BY_DOCKER)
def test_what_docker_documents_as_blocked_is_blocked(name: str) -> None:
    assert actions(builtin(), name) == {"SCMP_ACT_ERRNO"}


@needs_profile
@pytest.mark.parametrize(
    "name", ["read", "execve", "socket", "ptrace", "futex_waitv", "io_pgetevents", "chroot"]
)
def test_what_programs_need_is_allowed(name: str) -> None:
    assert actions(builtin(), name) == {"SCMP_ACT_ALLOW"}


@needs_profile
def test_namespaces_need_a_capability_also_by_clone() -> None:
    clone = [rule for rule in builtin()["syscalls"] if "clone" in rule["names"]]
    allowed = [rule for rule in clone if rule["action"] == "SCMP_ACT_ALLOW"]
    assert [rule["args"] for rule in allowed] == [
        [{"index": 0, "value": 0x7E02_0000, "op": "SCMP_CMP_MASKED_EQ"}]
    ]
    denied = {rule["args"][0]["value"] for rule in clone if rule["action"] == "SCMP_ACT_ERRNO"}
    assert sum(denied) == 0x7E02_0000
    (clone3,) = [rule for rule in builtin()["syscalls"] if "clone3" in rule["names"]]
    assert clone3["errnoRet"] == 38
    admin = builtin(DEFAULT | {"CAP_SYS_ADMIN"})
    for name in ("clone", "clone3", "mount", "unshare", "setns", "syslog", "bpf"):
        assert actions(admin, name) == {"SCMP_ACT_ALLOW"}
    assert actions(admin, "pivot_root") == {"SCMP_ACT_ERRNO"}


@needs_profile
def test_clone_has_its_flags_second_on_s390() -> None:
    clone = [rule for rule in builtin(machine="s390x")["syscalls"] if "clone" in rule["names"]]
    assert {argument["index"] for rule in clone for argument in rule["args"]} == {1}


@needs_profile
def test_architectures_follow_the_machine() -> None:
    assert builtin()["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert builtin(machine="aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "architectures" not in builtin(machine="frob")
    assert actions(builtin(machine="aarch64"), "arch_prctl") == {"SCMP_ACT_ERRNO"}


@needs_profile
def test_no_call_is_both_allowed_and_denied_without_looking_at_arguments() -> None:
    for names in (DEFAULT, frozenset(capabilities.BY_NUMBER), frozenset[str]()):
        profile = builtin(names)
        plain = [rule for rule in profile["syscalls"] if "args" not in rule]
        for name in {name for rule in plain for name in rule["names"]}:
            assert len({rule["action"] for rule in plain if name in rule["names"]}) == 1, name


@needs_profile
def test_the_default_is_made_once() -> None:
    assert builtin() is builtin()


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["amd64", "arm"]}}, True),
        ({"includes": {"arches": ["arm"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {"caps": ["CAP_CHOWN"]}, "excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {}, "excludes": {"caps": None}}, True),
    ],
)
def test_conditions(conditions: dict[str, Any], applies: bool) -> None:
    oci = convert([{"names": ["x"], "action": "SCMP_ACT_ALLOW", **conditions}])
    assert (actions(oci, "x") == {"SCMP_ACT_ALLOW"}) == applies


def test_details_are_carried_over() -> None:
    argument = {"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}
    rule = {"name": "old", "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [argument]}
    oci = convert(
        [rule], defaultErrnoRet=38, architectures=["SCMP_ARCH_X86_64"], flags=["SECCOMP_FILTER_FLAG_LOG"]
    )
    assert oci == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["old"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [argument]}],
    }


def test_a_profile_without_rules_is_none() -> None:
    assert seccomp.to_oci(seccomp.parse_profile("{}"), DEFAULT, "x86_64", KERNEL) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Decoding seccomp profile failed"),
        ('{"syscalls":[{"names":"x","action":"a"}]}', "Decoding seccomp profile failed"),
        (
            '{"architectures":["a"],"archMap":[{"architecture":"b"}]}',
            "use either 'architectures' or 'archMap'",
        ),
        ('{"syscalls":[{"names":["x"],"name":"y","action":"a"}]}', "use either 'name' or 'names'"),
    ],
)
def test_bad_profiles_are_refused(text: str, said: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        seccomp.parse_profile(text)
    assert said in caught.value.message
