"""The vendor's documented sample scripts, run as a user runs them."""
import json
import pathlib
import subprocess
import sys

import pytest
from volcengine.viking_db import Data, Field, FieldType
from volcengine.viking_db.exception import CollectionNotExistException

SAMPLES = pathlib.Path(__file__).parent / "samples"
CITIES = ["beijing", "shanghai"]
MATCHES = [i for i in range(1000) if i % 20 in (5, 9) and CITIES[i % 3 % 2] == "beijing"]


@pytest.fixture
def example(service):
    """The collection that the samples name."""
    try:
        service.drop_collection("example")
    except CollectionNotExistException:
        pass
    collection = service.create_collection("example", [
        Field("id", FieldType.Int64, is_primary_key=True), Field("user_id", FieldType.Int64),
        Field("city", FieldType.String), Field("v", FieldType.Vector, dim=4)])
    for start in range(0, 1000, 100):
        collection.upsert_data([Data({"id": i, "user_id": i % 20, "city": CITIES[i % 3 % 2], "v": [i] * 4})
                                for i in range(start, start + 100)])
    yield collection
    service.drop_collection("example")


def run(server, script):
    environment = {**server.environment(), "KNARR_HOST": server.host, "KNARR_BIN": server.binary}
    done = subprocess.run([sys.executable, str(SAMPLES / script)], env=environment, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_filter_delete_sample(server, example):
    shown, confirmed, after = map(json.loads, run(server, "filter_delete_task.py"))
    assert shown["data"]["task_status"] == "confirm"
    assert shown["data"]["process_info"]["total_filter_count"] == len(MATCHES)
    assert [row["id"] for row in shown["data"]["process_info"]["sampled_data"]] == MATCHES[:5]
    assert (confirmed["code"], confirmed["message"]) == (0, "success")
    assert after["data"]["task_status"] == "done"
    assert after["data"]["process_info"]["total_deleted_count"] == len(MATCHES)
    left = [d.id for start in range(0, 1000, 100) for d in example.fetch_data(list(range(start, start + 100)))
            if "message" not in d.fields]
    assert left == [i for i in range(1000) if i not in MATCHES]


def test_export_sample(server, example):
    info, rows, columns, *printed = run(server, "export_task.py")
    assert json.loads(info)["data"]["task_status"] == "done"
    assert rows == f"rows: {len(MATCHES)}"
    assert columns == "columns: ['id', 'user_id', 'city', 'v']"
    assert sorted(printed) == sorted(f"row: {i} {i % 20} beijing" for i in MATCHES)
