"""For migrations from before `orders/sql`. Those from after have the whole text of a function."""


def replaced(sql: str, old: str, new: str) -> str:
    """`str.replace` that raises ValueError where `old` does not occur."""
    if old not in sql:
        raise ValueError(f"{old!r} does not occur")
    return sql.replace(old, new)
