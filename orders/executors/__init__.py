"""One executor per order type."""

from orders.executors.base import Executor
from orders.executors.market import MarketExecutor
from orders.models import OrderType

EXECUTORS: dict[str, Executor] = {
    OrderType.MARKET: MarketExecutor(),
}
