"""Who is called what on which network."""

from ipaddress import ip_address

from proad.engine.names import Names
from proad.model.dnsmessage import reverse_name, wire_name


def wire(text: str) -> bytes:
    name = wire_name(text)
    assert name is not None
    return name


class Asking:
    """Names, and questions to them in words."""

    def __init__(self) -> None:
        self.names = Names()

    def join(self, network: str, endpoint: str, names: list[str], *addresses: str) -> None:
        self.names.join(
            f"id-{network}",
            endpoint,
            network_name=network,
            names=names,
            canonical=names[0],
            addresses=[ip_address(address) for address in addresses],
        )

    def ask(
        self, name: str, *networks: str, version: int = 4, links: dict[str, str] | None = None
    ) -> list[str] | None:
        wired = {wire(alias): wire(target) for alias, target in (links or {}).items()}
        found = self.names.addresses([f"id-{one}" for one in networks], wired, wire(name), version)
        return None if found is None else [str(ip_address(packed)) for packed in found]

    def who(self, address: str, *networks: str) -> bytes | None:
        return self.names.name_of([f"id-{one}" for one in networks], reverse_name(ip_address(address)))


def test_a_container_is_found_by_each_of_its_names_on_its_networks_alone() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web", "www", "0123456789ab"], "10.1.0.2", "fd00::2")
    for name in ("web", "WWW", "0123456789ab", "web.back", "www.Back"):
        assert asking.ask(name, "back") == ["10.1.0.2"]
        assert asking.ask(name, "back", version=6) == ["fd00::2"]
        assert asking.ask(name, "front") is None
    assert asking.ask("web.front", "back") is None
    assert asking.ask("nobody", "back") is None


def test_a_name_without_an_address_of_the_version_is_known_all_the_same() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web"], "10.1.0.2")
    assert asking.ask("web", "back", version=6) == []
    asking.join("six", "e2", ["web"], "fd00::2")
    assert asking.ask("web", "back", "six", version=6) == ["fd00::2"]


def test_an_alias_that_several_share_stands_for_all_of_them_on_the_first_network_that_has_it() -> None:
    asking = Asking()
    asking.join("back", "e1", ["one", "db"], "10.1.0.2")
    asking.join("back", "e2", ["two", "db"], "10.1.0.3")
    asking.join("front", "e3", ["three", "db"], "10.2.0.2")
    assert asking.ask("db", "back", "front") == ["10.1.0.2", "10.1.0.3"]
    assert asking.ask("db", "front", "back") == ["10.2.0.2"]
    assert asking.ask("db.front", "back", "front") == ["10.2.0.2"]
    asking.names.leave("id-back", "e1")
    assert asking.ask("db", "back") == ["10.1.0.3"]
    assert asking.ask("one", "back") is None


def test_names_and_networks_with_dots() -> None:
    asking = Asking()
    asking.join("my.net", "e1", ["web.v1"], "10.1.0.2")
    for name in ("web.v1", "web.v1.my.net"):
        assert asking.ask(name, "my.net") == ["10.1.0.2"]
    assert asking.ask("web.v1.net", "my.net") is None
    assert asking.ask("v1", "my.net") is None


def test_a_link_is_an_alias_for_its_holder_and_hides_a_name() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web"], "10.1.0.2")
    asking.join("back", "e2", ["db"], "10.1.0.3")
    assert asking.ask("cache", "back", links={"cache": "db"}) == ["10.1.0.3"]
    assert asking.ask("cache.back", "back", links={"cache": "db"}) == ["10.1.0.3"]
    assert asking.ask("web", "back", links={"web": "db"}) == ["10.1.0.3"]
    assert asking.ask("web", "back", links={"web": "gone"}) == [], "and is not asked for elsewhere"


def test_an_address_has_the_name_of_its_container_and_network() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web"], "10.1.0.2", "fd00::2")
    assert asking.who("10.1.0.2", "back") == asking.who("fd00::2", "back") == wire("web.back")
    assert asking.who("10.1.0.2", "front") is None
    asking.names.leave("id-back", "e1")
    assert asking.who("10.1.0.2", "back") is None


def test_a_renamed_container_is_found_by_its_new_name_at_once_and_by_the_old_one_no_more() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web", "alias"], "10.1.0.2")
    asking.names.rename("e1", names=["www", "alias"], canonical="www")
    assert asking.ask("web", "back") is None
    assert asking.ask("www", "back") == asking.ask("alias", "back") == ["10.1.0.2"]
    assert asking.who("10.1.0.2", "back") == wire("www.back")
    asking.names.rename("nobody", names=["x"], canonical="x")
    assert asking.ask("x", "back") is None


def test_who_comes_again_is_replaced_and_who_goes_twice_is_gone() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web"], "10.1.0.2")
    asking.join("back", "e1", ["web"], "10.1.0.9")
    assert asking.ask("web", "back") == ["10.1.0.9"]
    assert asking.who("10.1.0.2", "back") is None
    for _ in range(2):
        asking.names.leave("id-back", "e1")
    assert asking.ask("web", "back") is None


def test_an_address_that_has_changed_hands_keeps_its_new_name() -> None:
    asking = Asking()
    asking.join("back", "old", ["web"], "10.1.0.2")
    asking.join("back", "new", ["next"], "10.1.0.2")
    asking.names.leave("id-back", "old")
    assert asking.who("10.1.0.2", "back") == wire("next.back")


def test_names_that_no_question_can_have_are_left_out() -> None:
    asking = Asking()
    asking.join("back", "e1", ["web", "x" * 64, "a..b", "web"], "10.1.0.2")
    assert asking.ask("web", "back") == ["10.1.0.2"]
