"""How a status looks: icon, word and colour."""

from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

ICONS = {
    "pending": "○",
    "routing": "◔",
    "building": "◑",
    "submitted": "◕",
    "confirmed": "✓",
    "failed": "✕",
    "cancelled": "⊘",
    "expired": "◷",
}
BADGE = '<b class="order-status {}"><span aria-hidden="true">{}</span> {}</b>'


def badge(status: str) -> SafeString:
    return format_html(BADGE, status, ICONS.get(status, ""), status)


NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def moment(value: datetime | None) -> str | None:
    """2026-11-24 20:37:40, UTC."""
    return None if value is None else f"{value:%Y-%m-%d{NO_BREAK_SPACE}%H:%M:%S}"


def seconds(amount: float) -> str:
    """As short as it reads well: 0.213 s, 12.4 s, 3 min 20 s."""
    if amount < 10:
        return f"{amount:.3f} s"
    if amount < 120:
        return f"{amount:.1f} s"
    return f"{int(amount) // 60} min {int(amount) % 60} s"
