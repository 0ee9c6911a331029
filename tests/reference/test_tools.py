"""The tools over NovaMart: shapes, failures, SQL safety, quota."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from loadtest.reference import novamart
from tests.reference.visitor import Clock, Launch, McpClient, Visitor


@pytest.fixture(scope="module")
def client(resident: Visitor) -> McpClient:
    """An MCP client with an open session."""
    return resident.mcp().open()


def body_of(result: dict[str, Any]) -> dict[str, Any]:
    """The JSON in a result's text."""
    body: dict[str, Any] = json.loads(result["content"][0]["text"])
    return body


def test_list_entities_names_the_thirteen(client: McpClient) -> None:
    result = client.call("listEntities")
    assert set(result) == {"content"}
    body = body_of(result)
    assert result["content"][0]["text"] == json.dumps(body, indent=2)
    assert body["count"] == 13
    assert [entity["name"] for entity in body["entities"]] == [
        "categories", "customers", "email_campaigns", "inventory_levels", "order_items", "orders",
        "payments", "product_reviews", "products", "promotions", "returns", "sellers", "shipments",
    ]  # fmt: skip
    assert set(body["entities"][0]) == {"name", "table", "description", "source"}
    assert body_of(client.call("listEntities", filter="ORDER"))["count"] == 4


def test_describe_entity_accepts_a_name_or_names(client: McpClient) -> None:
    body = body_of(client.call("describeEntity", name="orders"))
    assert body["found"] is True
    assert set(body["entity"]) == {"table", "name", "type", "grain", "description", "dimensions"}
    kinds = {each["name"]: each["type"] for each in body["entity"]["dimensions"]}
    assert kinds["order_id"] == "BIGINT"
    assert kinds["total_amount"].startswith("DECIMAL")
    assert kinds["ordered_at"] == "TIMESTAMP"
    both = body_of(client.call("describeEntity", names=["orders", "sellers"]))
    assert [entity["name"] for entity in both["entities"]] == ["orders", "sellers"]
    unknown = client.call("describeEntity", name="nothing")
    assert unknown["isError"] is True
    assert set(body_of(unknown)) == {"code", "message", "hint", "request_id"}
    assert body_of(unknown)["code"] == "unknown_entity"


@pytest.mark.parametrize("metric", sorted(novamart.METRICS))
def test_every_metric_runs(client: McpClient, metric: str) -> None:
    result = client.call("runMetric", id=metric)
    assert "isError" not in result
    body = body_of(result)
    assert result["structuredContent"] == body
    assert set(body) == {
        "id", "label", "value", "columns", "rows", "row_count", "truncated", "sql", "executed_at",
    }  # fmt: skip
    assert body["row_count"] == len(body["rows"]) > 0


def test_wide_and_decimal_values_are_strings(client: McpClient) -> None:
    assert body_of(client.call("runMetric", id="total_orders"))["value"] == "8000"
    assert body_of(client.call("runMetric", id="aov"))["value"].replace(".", "").isdigit()
    assert body_of(client.call("runMetric", id="monthly_gmv_trend"))["value"] is None
    body = client.query(
        "SELECT 1::BIGINT AS a, 2::INTEGER AS b, 1.50::DECIMAL(9, 2) AS c, 0.5::DOUBLE AS d,"
        " NULL::BIGINT AS e, TIMESTAMP '2025-01-02 03:04:05' AS f, DATE '2025-01-02' AS g,"
        " 'nan'::DOUBLE AS h, [9007199254740993] AS i, true AS j"
    )
    assert body["rows"] == [
        {
            "a": "1", "b": 2, "c": "1.50", "d": 0.5, "e": None, "f": "2025-01-02T03:04:05.000Z",
            "g": "2025-01-02", "h": None, "i": ["9007199254740993"], "j": True,
        }
    ]  # fmt: skip


def test_a_thousand_rows_at_most(client: McpClient) -> None:
    result = client.call("executeSQL", sql="SELECT * FROM orders", explanation="all of them")
    body = result["structuredContent"]
    assert body["explanation"] == "all of them"
    assert (body["row_count"], len(body["rows"]), body["truncated"]) == (1000, 1000, True)
    exact = client.query("SELECT order_id FROM orders LIMIT 1000")
    assert (exact["row_count"], exact["truncated"]) == (1000, False)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("noSuchTool", {}),
        ("executeSQL", {"sql": "SELECT 1"}),
        ("executeSQL", {"sql": 1, "explanation": "x"}),
        ("runMetric", {}),
        ("describeEntity", {}),
        ("describeEntity", {"name": "orders", "names": ["orders"]}),
    ],
)
def test_unknown_tools_and_bad_arguments_are_plain_text(
    client: McpClient, tool: str, arguments: dict[str, Any]
) -> None:
    result = client.call(tool, **arguments)
    assert result["isError"] is True
    assert result["content"][0]["text"].startswith("MCP error -32602: ")


def test_a_workspace_without_data_has_no_entities_and_no_metrics(
    launch: Launch, join: type[Visitor]
) -> None:
    visitor = join(launch(), demo=False)
    client = visitor.mcp().open()
    assert body_of(client.call("listEntities"))["count"] == 0
    assert body_of(client.call("runMetric", id="aov"))["code"] == "unknown_metric"
    assert client.query("SELECT count(*) FROM orders")["code"] == "unknown_entity"
    assert client.query("SELECT 1 AS one")["rows"] == [{"one": 1}]


UNSAFE = [
    "INSERT INTO orders SELECT * FROM orders",
    "UPDATE orders SET status = 'x'",
    "DELETE FROM orders",
    "TRUNCATE orders",
    "DROP TABLE orders",
    "ALTER TABLE orders ADD COLUMN x INTEGER",
    "CREATE TABLE t(i INTEGER)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "MERGE INTO orders USING customers ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
    "ATTACH '{file}.new'",
    "DETACH novamart",
    "USE memory",
    "COPY orders TO '{file}.new'",
    "COPY orders FROM '{file}'",
    "EXPORT DATABASE '{file}.new'",
    "IMPORT DATABASE '{file}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1GB'",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "PRAGMA table_info('orders')",
    "PRAGMA enable_logging",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM orders",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE orders",
    "",
    "   ",
    "-- nothing",
    "SELEC 1",
    "SELECT nothing FROM orders",
    "SELECT ?",
    "SELECT * FROM '{file}'",
    "FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM 'table.csv'",
    "SELECT * FROM 'http://127.0.0.1:9/table.parquet'",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM READ_CSV_AUTO('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM parquet_scan('{file}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_duckdb('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('orders')",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM checkpoint()",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "WITH t AS (FROM read_text('{file}')) SELECT * FROM t",
    "SHOW TABLES",
    "PIVOT orders ON status",
    "SELECT now()",
    "SELECT '" + "x" * 20_000 + "'",
]


@pytest.mark.parametrize("sql", UNSAFE, ids=lambda sql: sql[:40] or "empty")
def test_anything_but_one_reading_select_is_refused_and_does_nothing(
    client: McpClient, tmp_path: Path, sql: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a,b\n1,2\n")
    answer = client.query(sql.replace("{file}", str(file)))
    assert answer["code"] == "validation_failed"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert client.query("SELECT count(*) AS n FROM orders")["rows"] == [{"n": "8000"}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM nothing",
        "SELECT * FROM orders JOIN nothing USING (order_id)",
        "SELECT * FROM other.orders",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM duckdb_tables",
        "SELECT (SELECT count(*) FROM nothing)",
        "SELECT * FROM client",
    ],
)
def test_an_unknown_table_is_an_unknown_entity(client: McpClient, sql: str) -> None:
    assert client.query(sql)["code"] == "unknown_entity"


@pytest.mark.parametrize(
    "sql",
    [
        "select Count(*) as n from ORDERS",
        "SELECT count(*) AS n FROM main.orders;",
        "WITH o AS (SELECT * FROM orders) SELECT count(*) AS n FROM o",
        "SELECT n FROM (SELECT count(*) AS n FROM orders) -- a comment",
        "SELECT count(*) AS n FROM orders, range(1)",
        "FROM orders SELECT count(*) AS n",
    ],
)
def test_ordinary_forms_of_select_are_accepted(client: McpClient, sql: str) -> None:
    assert client.query(sql)["rows"] == [{"n": "8000"}]


def test_an_endless_query_is_interrupted_and_others_continue(
    launch: Launch, join: type[Visitor]
) -> None:
    client = join(launch(query_seconds=0.3)).mcp().open()
    endless = "SELECT count(*) FROM range(1000000000000) a(x) WHERE x % 7 = 3"
    assert "longer than" in client.query(endless)["message"]
    greedy = "SELECT list(x) FROM range(1000000000000) a(x)"
    assert client.query(greedy)["code"] == "validation_failed"
    assert client.query("SELECT 1 AS one")["rows"] == [{"one": 1}]


def test_twelve_queries_a_minute_and_refusals_are_free(launch: Launch, join: type[Visitor]) -> None:
    clock = Clock()
    client = join(launch(clock=clock)).mcp().open()
    for _ in range(12):
        assert "rows" in client.query("SELECT 1")
    for _ in range(3):
        refused = client.query("SELECT 1")
        assert refused["code"] == "rate_limited"
        assert 0 < refused["retry_after"] <= 61
    assert body_of(client.call("listEntities"))["code"] == "rate_limited"
    clock.now += 60
    assert "rows" in client.query("SELECT 1")


def test_the_quota_counts_a_sliding_minute_with_a_weight_per_tool(
    launch: Launch, join: type[Visitor]
) -> None:
    clock = Clock()
    client = join(launch(clock=clock)).mcp().open()
    for _ in range(19):
        assert "isError" not in client.call("runMetric", id="total_orders")
    clock.now += 30
    for _ in range(3):
        assert "isError" not in client.call("listEntities")
    assert "isError" in client.call("listEntities")
    clock.now += 30
    assert "isError" not in client.call("runMetric", id="total_orders")


def test_the_quota_is_per_client_and_an_owner_can_raise_it_before_the_first_call(
    launch: Launch, join: type[Visitor]
) -> None:
    visitor = join(launch(account_limits=False))
    own = visitor.register(signed_in=True)["client_id"]
    foreign = visitor.register()["client_id"]

    def raise_limit(client_id: str, units: object) -> int:
        path = f"/api/v1/admin/oauth-clients/{client_id}/rate-limit"
        headers = visitor.bearer_header
        body = {"requestsPerMinute": units}
        return visitor.http.patch(path, json=body, headers=headers).status_code

    assert raise_limit(foreign, 600) == raise_limit("atlas-load-test", 600) == 404
    assert raise_limit(own, 3601) == raise_limit(own, 0) == raise_limit(own, "600") == 400
    assert raise_limit(own, 3600) == 200
    bearer = visitor.redeem(own, visitor.code(own)).json()["access_token"]
    client = visitor.mcp(bearer).open()
    assert all("rows" in client.query("SELECT 1") for _ in range(15))
    late = visitor.register(signed_in=True)["client_id"]
    bearer = visitor.redeem(late, visitor.code(late)).json()["access_token"]
    client = visitor.mcp(bearer).open()
    assert "rows" in client.query("SELECT 1")
    assert raise_limit(late, 3600) == 200
    assert [client.query("SELECT 1").get("code") for _ in range(12)][-1] == "rate_limited"


def test_the_data_are_the_same_every_time(data_file: Path, tmp_path: Path) -> None:
    again = tmp_path / novamart.FILE_NAME
    novamart.build_novamart(again)
    for name in novamart.ENTITIES:
        sums = []
        for path in (data_file, again):
            with duckdb.connect(str(path), read_only=True) as connection:
                sums.append(
                    connection.execute(
                        f'SELECT count(*), bit_xor(hash(t)) FROM "{name}" t'  # noqa: S608
                    ).fetchone()
                )
        assert sums[0] == sums[1]


def test_a_repeated_statement_is_answered_without_a_scan(
    launch: Launch, join: type[Visitor]
) -> None:
    clock = Clock()
    target = launch(clock=clock, tool_quota=False, result_cache_seconds=300.0)
    visitor = join(target)
    client = visitor.mcp().open()
    first = client.query("SELECT COUNT(*) AS n FROM orders")
    assert client.query("SELECT COUNT(*) AS n FROM orders") == first
    assert target.scans == 1
    client.query("SELECT COUNT(*) AS n FROM sellers")
    assert target.scans == 2
    clock.now += 300
    client.headers["Authorization"] = f"Bearer {visitor.mint()}"
    assert client.query("SELECT COUNT(*) AS n FROM orders") == first
    assert target.scans == 3


def test_each_refusal_by_the_quota_is_counted(launch: Launch, join: type[Visitor]) -> None:
    target = launch(quota_units=5)
    client = join(target).mcp().open()
    client.query("SELECT 1 AS one")
    assert target.quota_refusals == 0
    for _ in range(3):
        assert client.query("SELECT 1 AS one")["code"] == "rate_limited"
    assert target.quota_refusals == 3
