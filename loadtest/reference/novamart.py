"""Build the NovaMart demo data into a DuckDB file once, then only read it."""

import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

ORDERS = 8000
FILE_NAME = "novamart-1.duckdb"
"""Contains the version of the data: increase it when `novamart.sql` changes."""


@dataclass(frozen=True)
class EntityCard:
    """The catalogue entry of one table."""

    kind: str
    grain: str
    description: str


@dataclass(frozen=True)
class Metric:
    """A named calculation; if its result is a single cell, the answer has a `value`."""

    label: str
    sql: str


ENTITIES = {
    "categories": EntityCard("dimension", "one row per category", "Product categories"),
    "customers": EntityCard("dimension", "one row per customer", "People and firms who buy"),
    "email_campaigns": EntityCard("fact", "one row per campaign", "Campaigns and their reach"),
    "inventory_levels": EntityCard(
        "fact", "one row per product and warehouse", "Stock on hand per warehouse"
    ),
    "order_items": EntityCard("fact", "one row per order line", "Products within orders"),
    "orders": EntityCard("fact", "one row per order", "Orders placed on the marketplace"),
    "payments": EntityCard("fact", "one row per payment", "Payments captured for orders"),
    "product_reviews": EntityCard("fact", "one row per review", "Ratings that customers left"),
    "products": EntityCard("dimension", "one row per product", "The catalogue of goods"),
    "promotions": EntityCard("dimension", "one row per promotion", "Discount codes"),
    "returns": EntityCard("fact", "one row per return", "Orders sent back and refunded"),
    "sellers": EntityCard("dimension", "one row per seller", "Merchants on the marketplace"),
    "shipments": EntityCard("fact", "one row per shipment", "Parcels on their way"),
}

METRICS = {
    "total_gmv": Metric(
        "Total GMV",
        "SELECT sum(total_amount) AS total_gmv FROM orders WHERE status <> 'cancelled'",
    ),
    "net_revenue": Metric(
        "Net revenue",
        "SELECT (SELECT sum(total_amount) FROM orders WHERE status <> 'cancelled')"
        " - (SELECT sum(refund_amount) FROM returns) AS net_revenue",
    ),
    "aov": Metric(
        "Average order value",
        "SELECT CAST(avg(total_amount) AS DECIMAL(12, 2)) AS aov FROM orders"
        " WHERE status <> 'cancelled'",
    ),
    "refund_rate": Metric(
        "Refund rate",
        "SELECT CAST(count(*) FILTER (status = 'returned') / count(*) AS DECIMAL(6, 4))"
        " AS refund_rate FROM orders",
    ),
    "total_customers": Metric(
        "Total customers", "SELECT count(*) AS total_customers FROM customers"
    ),
    "total_orders": Metric("Total orders", "SELECT count(*) AS total_orders FROM orders"),
    "monthly_gmv_trend": Metric(
        "Monthly GMV trend",
        "SELECT strftime(ordered_at, '%Y-%m') AS month, sum(total_amount) AS gmv FROM orders"
        " WHERE status <> 'cancelled' GROUP BY 1 ORDER BY 1",
    ),
    "revenue_by_category": Metric(
        "Revenue by category",
        "SELECT c.name AS category, sum(i.line_total) AS revenue FROM order_items i"
        " JOIN products p USING (product_id) JOIN categories c USING (category_id)"
        " GROUP BY 1 ORDER BY 2 DESC",
    ),
    "orders_by_status": Metric(
        "Orders by status",
        "SELECT status, count(*) AS orders FROM orders GROUP BY 1 ORDER BY 2 DESC",
    ),
}

_READ_ONLY: dict[str, Any] = {
    "access_mode": "read_only",
    "threads": "1",
    "memory_limit": "512MB",
    "temp_directory": "",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}


def open_novamart(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open the NovaMart file in `folder` read-only and locked; build it first if it is not usable.

    The file is built under a temporary name and then renamed, so it is complete or absent.
    """
    path = folder / FILE_NAME
    if path.exists():
        try:
            return _open_checked(path)
        except duckdb.Error:
            path.unlink()
    build_novamart(path)
    return _open_checked(path)


def _open_checked(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), config=_READ_ONLY)
    try:
        found = connection.execute("SELECT count(*) FROM orders").fetchone()
        if found != (ORDERS,):
            raise duckdb.CatalogException("not the NovaMart data")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def build_novamart(path: Path) -> None:
    """Write the NovaMart data to `path`: about 60,000 rows in 13 tables, always the same."""
    script = resources.files("loadtest.reference").joinpath("novamart.sql").read_text("utf-8")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".novamart.") as folder:
        built = Path(folder, path.name)
        with duckdb.connect(str(built)) as connection:
            connection.execute(script)
        built.replace(path)


def read_dimensions(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, str]]]:
    """Return each table's columns as `{name, type, description}`, in their order."""
    dimensions = {}
    for table in ENTITIES:
        columns = connection.table(table).description
        dimensions[table] = [
            {"name": name, "type": str(kind), "description": name.replace("_", " ")}
            for name, kind, *_ in columns
        ]
    return dimensions
