"""``StorageOpt``: the grammar of sizes, and Docker's errors."""

import pytest

from proad.model import errors
from proad.model.hostcheck import check_against_host
from proad.model.hostconfig import HostConfig
from proad.model.hostfacts import HostFacts
from proad.model.storage import NOT_SUPPORTED, parse_size, parse_storage_opt


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0), ("1024", 1024), ("10b", 10), ("1k", 1024), ("1K", 1024), ("2kb", 2048), ("2KiB", 2048),
        ("1.5m", 3 << 19), (".5g", 1 << 29), ("3. MB", 3 << 20), ("10 GiB", 10 << 30), ("1T", 1 << 40),
        ("2p", 2 << 50), ("1.9", 1),
    ],
)  # fmt: skip
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "x", "-1", "1 000", "1.2.3", " ", ".", "1e3", "9000p", "inf"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=r"^invalid s"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1x", "1bb", "1kk", "1kbi", "1kibi", "10 e", "1ki"])
def test_unknown_units(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=r"^invalid suffix: '"):
        parse_size(text)


def test_options() -> None:
    assert parse_storage_opt({}) == 0
    assert parse_storage_opt({"size": "1G"}) == parse_storage_opt({"Size": "1024m"}) == 1 << 30
    with pytest.raises(errors.InvalidParameter, match=r"^Unknown option dm\.basesize$"):
        parse_storage_opt({"dm.basesize": "1G"})


def test_a_file_system_without_quotas_is_told() -> None:
    asked = HostConfig(storage_opt={"size": "1G"})
    adapted, _ = check_against_host(asked, HostFacts(storage_quota=True))
    assert adapted.storage_opt == {"size": "1G"}
    with pytest.raises(errors.InvalidParameter) as raised:
        check_against_host(asked, HostFacts())
    assert raised.value.message == NOT_SUPPORTED
