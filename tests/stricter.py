"""The shop, which expects more of its purchases than it did, and of the visits something new."""

from __future__ import annotations

from dataclasses import replace

from schemas import hours, rate, within
from tests.shop import last_purchase, purchases
from tests.shop import repository as shop

_purchases = replace(
    purchases, expectations=(*purchases.expectations, within("quantity", 0, 100, reject=True))
)
_stricter = replace(last_purchase, source=_purchases)
repository = replace(
    shop, views=tuple(_stricter if view == last_purchase else view for view in shop.views)
)
summed = replace(_purchases, expectations=(*_purchases.expectations, rate(1)), checked=hours(1))
_summed = replace(last_purchase, source=summed)
summing = replace(
    shop, views=tuple(_summed if view == last_purchase else view for view in shop.views)
)
