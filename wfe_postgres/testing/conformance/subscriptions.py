"""Event subscriptions and their tokens.

Tokens expire by the store's clock, so most tests use times that differ from the current time by an hour.
"""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta, timezone
from uuid import UUID

import pytest

from wfe_postgres.contract.errors import SubscriptionNotFoundError, SubscriptionTokenError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import EventSubscription
from wfe_postgres.testing.conformance.support import Conformance, at, eventually, from_now, subscription

HOUR = 3600
MICROSECOND = timedelta(microseconds=1)
TOKYO = timezone(timedelta(hours=9))
UNKNOWN: dict[str, Callable[[PersistenceProvider], object]] = {
    "get_subscription": lambda it: it.get_subscription("unknown"),
    "set_subscription_token": lambda it: it.set_subscription_token("unknown", "t", "w", from_now(HOUR)),
    "clear_subscription_token": lambda it: it.clear_subscription_token("unknown", "t"),
    "terminate_subscription": lambda it: it.terminate_subscription("unknown"),
}


def _open(provider: PersistenceProvider) -> list[EventSubscription]:
    found = provider.get_subscriptions("paid", "order-1", at(9))
    first = provider.get_first_open_subscription("paid", "order-1", at(9))
    assert first == (found[0] if found else None), "the first open subscription differs from the list"
    return found


class SubscriptionConformance(Conformance):
    """`SubscriptionRepository`."""

    def test_a_created_subscription_is_read_back_whole(self, provider: PersistenceProvider) -> None:
        """All fields are stored, including a token."""
        held = subscription(
            subscription_data={"wants": ["all"]},
            external_token="token",
            external_worker_id="worker",
            external_token_expiry=from_now(HOUR),
        )
        for it in (held, subscription()):
            assert provider.create_event_subscription(it) == it.id
            assert provider.get_subscription(it.id) == it

    def test_a_subscription_without_id_gets_a_uuid(self, provider: PersistenceProvider) -> None:
        """An empty id becomes a new UUID, which is also set on the object."""
        new = subscription(id="")
        subscription_id = provider.create_event_subscription(new)
        assert str(UUID(subscription_id)) == subscription_id == new.id
        assert provider.get_subscription(subscription_id) == new

    def test_the_store_keeps_its_own_copy_of_a_subscription(self, provider: PersistenceProvider) -> None:
        """Changes of a created or loaded subscription do not affect the store."""
        mine = subscription(subscription_data={"wants": [1]})
        provider.create_event_subscription(mine)
        stored = deepcopy(provider.get_subscription(mine.id))
        for it in (mine, provider.get_subscription(mine.id), *_open(provider)):
            it.subscription_data["wants"].append(2)
            it.external_token = "mine"
        assert provider.get_subscription(mine.id) == stored

    @pytest.mark.parametrize("call", UNKNOWN)
    def test_an_unknown_subscription_is_an_error(self, provider: PersistenceProvider, call: str) -> None:
        """An unknown id raises `SubscriptionNotFoundError`."""
        known = subscription()
        provider.create_event_subscription(known)
        with pytest.raises(SubscriptionNotFoundError) as caught:
            UNKNOWN[call](provider)
        assert caught.value.subscription_id == "unknown"
        assert provider.get_subscription(known.id) == known

    def test_open_ones_come_oldest_first(self, provider: PersistenceProvider) -> None:
        """Open subscriptions with `subscribe_as_of <= as_of`, oldest first, for any UTC offset of `as_of`."""
        known = {second: subscription(subscribe_as_of=at(second)) for second in (3, 1, 2)}
        for it in known.values():
            provider.create_event_subscription(it)
        expected = [known[1], known[2]]
        assert provider.get_subscriptions("paid", "order-1", at(2)) == expected
        assert provider.get_subscriptions("paid", "order-1", at(2).astimezone(TOKYO)) == expected
        assert provider.get_subscriptions("paid", "order-1", at(2) - MICROSECOND) == [known[1]]
        assert provider.get_first_open_subscription("paid", "order-1", at(2)) == known[1]
        assert provider.get_first_open_subscription("paid", "order-1", at(1) - MICROSECOND) is None

    def test_a_subscription_matches_by_name_and_key(self, provider: PersistenceProvider) -> None:
        """Name and key must be equal."""
        wanted = subscription()
        provider.create_event_subscription(wanted)
        for name, key in (("paid", "order-2"), ("sent", "order-1"), ("Paid", "order-1"), ("order-1", "paid")):
            provider.create_event_subscription(subscription(event_name=name, event_key=key))
        assert _open(provider) == [wanted]
        assert provider.get_subscriptions("p%", "order-1", at(9)) == []

    def test_a_held_one_is_not_open(self, provider: PersistenceProvider) -> None:
        """A subscription is open if it has no token or an expired one; held subscriptions are skipped."""
        one, two = subscription(subscribe_as_of=at(1)), subscription(subscribe_as_of=at(2))
        for it in (one, two):
            provider.create_event_subscription(it)
        assert provider.set_subscription_token(one.id, "token", "worker", from_now(HOUR)) is True
        assert [it.id for it in _open(provider)] == [two.id]
        provider.clear_subscription_token(one.id, "token")
        assert _open(provider) == [one, two]

    def test_a_token_is_stored_with_worker_and_expiry(self, provider: PersistenceProvider) -> None:
        """Token, worker and expiry are stored, and cleared together."""
        expected = subscription()
        provider.create_event_subscription(expected)
        expiry = from_now(HOUR)
        provider.set_subscription_token(expected.id, "token", "worker", expiry.astimezone(TOKYO))
        expected.external_token, expected.external_worker_id = "token", "worker"
        expected.external_token_expiry = expiry
        assert provider.get_subscription(expected.id) == expected
        provider.clear_subscription_token(expected.id, "token")
        expected.external_token = expected.external_worker_id = expected.external_token_expiry = None
        assert provider.get_subscription(expected.id) == expected

    def test_another_token_does_not_get_it(self, provider: PersistenceProvider) -> None:
        """Compare-and-set: False while another token holds the subscription; holder and expiry are unchanged."""
        subscription_id = provider.create_event_subscription(subscription())
        assert provider.set_subscription_token(subscription_id, "mine", "worker", from_now(HOUR)) is True
        held = provider.get_subscription(subscription_id)
        assert provider.set_subscription_token(subscription_id, "other", "rival", from_now(2 * HOUR)) is False
        assert provider.get_subscription(subscription_id) == held

    def test_the_same_token_renews(self, provider: PersistenceProvider) -> None:
        """Setting the same token again renews the expiry and returns True, even after it expired."""
        subscription_id = provider.create_event_subscription(subscription())
        for hours in (1, 2, -1, 1):
            expiry = from_now(hours * HOUR)
            assert provider.set_subscription_token(subscription_id, "mine", "worker", expiry) is True
            assert provider.get_subscription(subscription_id).external_token_expiry == expiry
        assert provider.set_subscription_token(subscription_id, "other", "rival", from_now(HOUR)) is False

    def test_an_expired_one_is_open(self, provider: PersistenceProvider) -> None:
        """A subscription with an expired token is open."""
        subscription_id = provider.create_event_subscription(subscription())
        assert provider.set_subscription_token(subscription_id, "mine", "worker", from_now(-HOUR)) is True
        assert [it.id for it in _open(provider)] == [subscription_id]

    def test_a_token_expires_while_one_waits(self, provider: PersistenceProvider) -> None:
        """Expiry is compared with the current time, not with the start time of a surrounding transaction."""
        subscription_id = provider.create_event_subscription(subscription())
        provider.set_subscription_token(subscription_id, "mine", "worker", from_now(0.1))
        found = eventually(lambda: provider.get_subscriptions("paid", "order-1", at(9)))
        assert [it.id for it in found] == [subscription_id]
        assert provider.set_subscription_token(subscription_id, "other", "rival", from_now(HOUR)) is True

    def test_an_expired_token_may_be_taken_over(self, provider: PersistenceProvider) -> None:
        """Another token can replace an expired one; the previous token is no longer valid."""
        subscription_id = provider.create_event_subscription(subscription())
        provider.set_subscription_token(subscription_id, "dead", "worker", from_now(-HOUR))
        expiry = from_now(HOUR)
        assert provider.set_subscription_token(subscription_id, "heir", "rival", expiry) is True
        held = provider.get_subscription(subscription_id)
        assert (held.external_token, held.external_worker_id, held.external_token_expiry) == (
            "heir",
            "rival",
            expiry,
        )
        assert _open(provider) == []
        with pytest.raises(SubscriptionTokenError):
            provider.clear_subscription_token(subscription_id, "dead")
        assert provider.set_subscription_token(subscription_id, "dead", "worker", expiry) is False
        assert provider.get_subscription(subscription_id) == held

    def test_a_token_without_expiry_never_expires(self, provider: PersistenceProvider) -> None:
        """A token without expiry holds the subscription until it is cleared."""
        subscription_id = provider.create_event_subscription(subscription(external_token="mine"))
        assert _open(provider) == []
        assert provider.set_subscription_token(subscription_id, "other", "rival", from_now(HOUR)) is False
        provider.clear_subscription_token(subscription_id, "mine")
        assert [it.id for it in _open(provider)] == [subscription_id]

    def test_an_expiry_without_token_holds_nothing(self, provider: PersistenceProvider) -> None:
        """A subscription without a token is open, even if it has an expiry."""
        subscription_id = provider.create_event_subscription(subscription(external_token_expiry=from_now(HOUR)))
        assert [it.id for it in _open(provider)] == [subscription_id]
        assert provider.set_subscription_token(subscription_id, "mine", "worker", from_now(HOUR)) is True

    def test_a_wrong_token_clears_nothing(self, provider: PersistenceProvider) -> None:
        """A wrong token, or no held token, raises `SubscriptionTokenError`; the holder is unchanged."""
        subscription_id = provider.create_event_subscription(subscription())
        with pytest.raises(SubscriptionTokenError) as caught:
            provider.clear_subscription_token(subscription_id, "mine")
        assert caught.value.subscription_id == subscription_id
        provider.set_subscription_token(subscription_id, "mine", "worker", from_now(HOUR))
        held = provider.get_subscription(subscription_id)
        for wrong in ("other", "", "MINE"):
            with pytest.raises(SubscriptionTokenError):
                provider.clear_subscription_token(subscription_id, wrong)
        assert provider.get_subscription(subscription_id) == held

    def test_a_late_holder_may_still_clear(self, provider: PersistenceProvider) -> None:
        """An expired token that was not replaced can be cleared."""
        subscription_id = provider.create_event_subscription(subscription())
        provider.set_subscription_token(subscription_id, "late", "worker", from_now(-HOUR))
        provider.clear_subscription_token(subscription_id, "late")
        assert provider.get_subscription(subscription_id).external_token is None

    def test_a_terminated_one_is_gone(self, provider: PersistenceProvider) -> None:
        """A terminated subscription is removed, held or not; others are unchanged."""
        gone, kept = subscription(), subscription()
        for it in (gone, kept):
            provider.create_event_subscription(it)
        provider.set_subscription_token(gone.id, "mine", "worker", from_now(HOUR))
        provider.terminate_subscription(gone.id)
        with pytest.raises(SubscriptionNotFoundError):
            provider.get_subscription(gone.id)
        with pytest.raises(SubscriptionNotFoundError):
            provider.terminate_subscription(gone.id)
        assert _open(provider) == [kept]
