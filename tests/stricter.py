"""The shop, which expects more of its purchases than it did: of each, and then of all of them."""

from __future__ import annotations

from dataclasses import replace

from schemas import EventStream, Repository, hours, rate, within
from tests.shop import last_purchase, purchases
from tests.shop import repository as shop

stricter = replace(
    purchases, expectations=(*purchases.expectations, within("quantity", 0, 100, reject=True))
)
summed = replace(stricter, expectations=(*stricter.expectations, rate(1)), checked=hours(1))


def _shop(source: EventStream) -> Repository:
    """With those purchases instead of its own."""
    view = replace(last_purchase, source=source)
    return replace(shop, views=tuple(view if one == last_purchase else one for one in shop.views))


repository = _shop(stricter)
summing = _shop(summed)
