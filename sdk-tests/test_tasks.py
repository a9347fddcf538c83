"""create_task, get_task, list_tasks, update_task and drop_task for data_export and filter_delete."""
import io
import json
import re

import ijson
import numpy as np
import pyarrow.parquet as pq
import pytest
from harness import wait
from volcengine.viking_db import Data, Field, FieldType, TaskStatus, TaskType
from volcengine.viking_db.exception import (APINotImplementedException, CollectionNotExistException,
                                            InvalidRequestException, TaskNotFoundException)

BEIJING_5_9 = {"user_id": [5, 9], "city": ["beijing"]}
# user_id = id % 10 and city = beijing where id % 4 == 0: user 5 and 9 are odd, so nothing would match with beijing.
USERS = {"user_id": [2, 6], "city": ["北京"]}
MATCHES = [i for i in range(100) if i % 10 in (2, 6) and i % 4 == 2]


def alive(collection, keys):
    keys = list(keys)
    found = [d for start in range(0, len(keys), 100) for d in collection.fetch_data(keys[start:start + 100])]
    return [d.id for d in found if "message" not in d.fields]


def create(service, kind, collection, **params):
    return service.create_task(kind, {"collection_name": collection.collection_name, **params})


def test_filter_delete_shows_asks_and_deletes(server, service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", task_id)

    task = wait(service, task_id, "confirm")
    info = task.process_info
    assert (task.task_id, task.task_type, task.collection_name) == (task_id, "filter_delete", people.collection_name)
    assert task.task_params["filter"] == USERS
    assert task.update_person == server.ak
    assert task.create_time <= task.update_time
    assert (info["total_data_count"], info["total_filter_count"], info["total_deleted_count"]) == (
        100, len(MATCHES), 0)
    assert (info["process_step"], info["task_progress"], info["err_msg"]) == ("scan_data", "50%", "")
    assert info["sampled_timestamp"] > 1_600_000_000_000, "unix milliseconds"
    assert [row["id"] for row in info["sampled_data"]] == MATCHES[:5]
    assert info["sampled_data"][0] | {"v": None} == {
        "id": 2, "user_id": 2, "city": "北京", "score": 0.25, "v": None}
    assert alive(people, range(100)) == list(range(100)), "deleted before the confirmation"

    service.update_task(task_id, TaskStatus.Confirmed)
    service.update_task(task_id, TaskStatus.Confirmed)
    info = wait(service, task_id, "done").process_info
    assert (info["total_filter_count"], info["total_deleted_count"]) == (len(MATCHES), len(MATCHES))
    assert (info["process_step"], info["task_progress"]) == ("delete_data", "100%")
    assert alive(people, range(100)) == [i for i in range(100) if i not in MATCHES]
    service.update_task(task_id, TaskStatus.Confirmed)


def test_rows_written_after_the_sample_survive(service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS)
    wait(service, task_id, "confirm")
    row = {"user_id": 2, "city": "北京", "v": [0] * 4}
    people.upsert_data([Data({"id": MATCHES[0], **row}), Data({"id": 1000, **row})])
    people.update_data(Data({"id": MATCHES[1], "score": 9.0}))
    people.delete_data(MATCHES[2])
    service.update_task(task_id, TaskStatus.Confirmed)
    info = wait(service, task_id, "done").process_info
    assert (info["total_filter_count"], info["total_deleted_count"]) == (len(MATCHES), len(MATCHES) - 3)
    assert alive(people, MATCHES) == MATCHES[:2]
    assert alive(people, [1000]) == [1000]


def test_confirmation_can_be_waived(service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS, need_confirm=False)
    info = wait(service, task_id, "done").process_info
    assert info["total_deleted_count"] == len(MATCHES)
    assert alive(people, MATCHES) == []


def test_nothing_matched_still_asks(service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=BEIJING_5_9)
    info = wait(service, task_id, "confirm").process_info
    assert (info["total_filter_count"], info["sampled_data"]) == (0, [])
    service.update_task(task_id, TaskStatus.Confirmed)
    assert wait(service, task_id, "done").process_info["total_deleted_count"] == 0


def test_doomed_rows_are_backed_up_first(server, service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS, tos_path="backups/doomed",
                     file_type="json")
    wait(service, task_id, "confirm")
    rows = exported(server, "backups/doomed", task_id, ".json", json_rows)
    assert sorted(row["id"] for row in rows) == MATCHES
    service.update_task(task_id, TaskStatus.Confirmed)
    wait(service, task_id, "done")
    assert alive(people, MATCHES) == []


@pytest.mark.parametrize("change", [
    {"filter": {}}, {"filter": None}, {}, {"filter": {"nope": [1]}}, {"filter": {"score": [1.5]}},
    {"filter": {"v": [1]}}, {"filter": {"user_id": ["2"]}}, {"filter": {"user_id": [True]}}, {"filter": {"city": [1]}},
    {"filter": {"op": "like", "field": "city", "conds": ["b"]}}, {"filter": {"op": "and", "conds": []}},
    {"filter": [1]}, {"filter": "x"}, {"filter_conds": []},
    {"filter": USERS, "filter_conds": [{"op": "must", "field": "user_id", "conds": [2]}]},
    {"filter": USERS, "need_confirm": "false"}, {"filter": USERS, "need_confirm": 0},
    {"filter": USERS, "tos_path": "nodir"}, {"filter": USERS, "tos_path": "bucket/../x"},
    {"filter": USERS, "tos_path": "b/x"}, {"filter": USERS, "tos_path": "backups/x", "file_type": "csv"},
], ids=repr)
def test_a_delete_needs_a_sound_filter(service, people, change):
    before = len(service.list_tasks())
    with pytest.raises(InvalidRequestException):
        create(service, TaskType.Filter_Delete, people, **change)
    assert len(service.list_tasks()) == before


@pytest.mark.parametrize("conds, matches", [
    ([{"op": "must", "field": "user_id", "conds": [1, 2]}, {"op": "must", "field": "city", "conds": ["shanghai"]}],
     lambda i: i % 10 in (1, 2) and i % 4 == 1),
    ({"op": "must_not", "field": "city", "conds": ["beijing", "北京", "O'Higgins"]}, lambda i: i % 4 == 1),
    ([{"op": "range", "field": "id", "gte": 10, "lt": 12}], lambda i: 10 <= i < 12),
    ([{"op": "range", "field": "score", "gt": 11.99}], lambda i: i / 8 > 11.99),
    ([{"op": "range_out", "field": "id", "gt": 97, "lt": 2}], lambda i: i > 97 or i < 2),
    ([{"op": "range", "field": ["id", "user_id"], "center": [50, 0], "radius": 2}],
     lambda i: (i - 50) ** 2 + (i % 10) ** 2 <= 4),
    ([{"op": "or", "conds": [{"op": "must", "field": "id", "conds": [3]},
                             {"op": "and", "conds": [{"op": "range", "field": "id", "gte": 90},
                                                     {"op": "must", "field": "user_id", "conds": [7]}]}]}],
     lambda i: i == 3 or (i >= 90 and i % 10 == 7)),
], ids=["and", "must_not", "range", "float range", "range_out", "circle", "or"])
@pytest.mark.parametrize("name_of_filter", ["filter", "filter_conds"])
def test_operator_filters(server, service, people, name_of_filter, conds, matches):
    task_id = create(service, TaskType.Data_export, people, tos_path="operators/x", **{name_of_filter: conds})
    assert wait(service, task_id, "done").process_info["total_filter_count"] == sum(map(matches, range(100)))
    rows = exported(server, "operators/x", task_id, ".parquet", parquet_rows)
    assert sorted(row["id"] for row in rows) == [i for i in range(100) if matches(i)]


def json_rows(content):
    # No use_float: with it some of ijson's parsers refuse the least int64.
    return list(ijson.items(io.BytesIO(content), "", multiple_values=True)) if content else []


def parquet_rows(content):
    return pq.ParquetFile(io.BytesIO(content)).read().to_pylist()


def exported(server, path, task_id, suffix, read):
    """Rows of all data files of an export, after checking what stands beside them."""
    bucket = path.split("/")[0]
    listing = {entry["key"].rsplit("/", 1)[1]: entry for entry in server.objects(f"{path}/{task_id}/")}
    files = {file: entry for file, entry in listing.items() if not file.startswith("_")}
    assert set(listing) == set(files) | {"_SUCCESS", "_manifest.json"}
    assert sorted(files) == sorted(f"{n}{suffix}" for n in range(len(files)))
    manifest = json.loads(server.download(f"{path}/{task_id}/_manifest.json"))
    rows = []
    for file, entry in sorted(files.items()):
        content = server.download(f"{bucket}/{entry['key']}")
        assert len(content) == entry["size"]
        rows += read(content)
    assert sum(file["rows"] for file in manifest["files"]) == len(rows)
    assert sorted(file["bytes"] for file in manifest["files"]) == sorted(entry["size"] for entry in files.values())
    return rows


def test_export_to_parquet_by_default(server, service, people):
    task_id = create(service, TaskType.Data_export, people, tos_path="exports/people", filter=USERS)
    task = wait(service, task_id, "done")
    info = task.process_info
    assert (info["total_data_count"], info["total_filter_count"], info["scan_data_count"]) == (100, len(MATCHES), 100)
    assert (info["task_progress"], info["err_msg"]) == ("100%", "")
    assert len(info["sampled_data"]) == 5
    rows = exported(server, "exports/people", task_id, ".parquet", parquet_rows)
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": i, "user_id": i % 10, "city": "北京", "score": i / 8, "v": [i] * 4} for i in MATCHES]


def test_export_all_ignores_the_filter(server, service, people):
    for params in ({"export_all": True, "filter": USERS}, {}, {"filter": {}}):
        task_id = create(service, TaskType.Data_export, people, tos_path="exports/all", **params)
        assert wait(service, task_id, "done").process_info["total_filter_count"] == 100
        rows = exported(server, "exports/all", task_id, ".parquet", parquet_rows)
        assert sorted(row["id"] for row in rows) == list(range(100))


def test_an_empty_export_is_one_file_without_rows(server, service, people):
    for kind, read in (("parquet", parquet_rows), ("json", json_rows)):
        task_id = create(service, TaskType.Data_export, people, tos_path="exports/none", file_type=kind,
                         filter=BEIJING_5_9)
        wait(service, task_id, "done")
        assert exported(server, "exports/none", task_id, "." + kind, read) == []
        assert len(server.objects(f"exports/none/{task_id}/")) == 3


def test_both_formats_carry_every_value_exactly(server, service, name):
    collection = service.create_collection(name, [
        Field("id", FieldType.Int64, is_primary_key=True), Field("i", FieldType.Int64), Field("f", FieldType.Float32),
        Field("s", FieldType.String), Field("b", FieldType.Bool), Field("li", FieldType.List_Int64),
        Field("ls", FieldType.List_String), Field("v", FieldType.Vector, dim=4), Field("sv", FieldType.Sparse_Vector),
        Field("t", FieldType.Text), Field("img", FieldType.Image)])
    full = {"id": -(2**63), "i": 2**53 + 1, "f": 0.1, "s": "北\u0000\"\n", "b": True, "li": [2**63 - 1, -1], "ls": ["", "x"],
            "v": [0.1, 1e-45, -3.4028235e38, 0.0], "sv": {"tok": 0.1}, "t": "text", "img": "tos://b/o"}
    bare = {"id": 7, "v": [1, 2, 3, 4], "li": [], "ls": []}
    collection.upsert_data([Data(full), Data(bare)])
    want_bare = {"id": 7, "i": 0, "f": 0.0, "s": "default", "b": False, "li": [], "ls": [], "v": [1, 2, 3, 4],
                 "sv": None, "t": None, "img": None}

    def exact(row):
        """Floats as the bytes of their float32; a map as pairs or as an object is the same thing."""
        sparse = row.get("sv")
        row = {**{key: None for key in want_bare}, **row}
        row["sv"] = None if sparse is None else {k: np.float32(x).tobytes() for k, x in dict(sparse).items()}
        row["f"] = np.float32(row["f"]).tobytes()
        row["v"] = np.asarray(row["v"], dtype=np.float32).tobytes()
        return row

    for kind, read in (("parquet", parquet_rows), ("json", json_rows)):
        task_id = create(service, TaskType.Data_export, collection, tos_path="exports/types", file_type=kind,
                         export_all=True)
        wait(service, task_id, "done")
        rows = exported(server, "exports/types", task_id, "." + kind, read)
        assert [exact(row) for row in rows] == [exact(full), exact(want_bare)], "rows come in key order"


def test_parquet_schema_is_the_documented_one(server, service, people):
    task_id = create(service, TaskType.Data_export, people, tos_path="exports/schema")
    wait(service, task_id, "done")
    file = pq.ParquetFile(io.BytesIO(server.download(f"exports/schema/{task_id}/0.parquet")))
    assert file.schema.to_arrow_schema().names == ["id", "user_id", "city", "score", "v"]
    physical = [(file.schema.column(i).path, file.schema.column(i).physical_type) for i in range(5)]
    assert [kind for _, kind in physical] == ["INT64", "INT64", "BYTE_ARRAY", "FLOAT", "FLOAT"]
    assert sum(batch.num_rows for batch in file.iter_batches(batch_size=100)) == 100


def test_generated_keys_are_exported(server, service, name):
    collection = service.create_collection(name, [Field("s", FieldType.String)])
    collection.upsert_data([Data({"s": "a"}), Data({"s": "b"})])
    task_id = create(service, TaskType.Data_export, service.get_collection(name), tos_path="exports/auto")
    wait(service, task_id, "done")
    rows = exported(server, "exports/auto", task_id, ".parquet", parquet_rows)
    assert [row["s"] for row in rows] == ["a", "b"]
    assert 0 < rows[0]["__AUTO_ID__"] < rows[1]["__AUTO_ID__"]


def test_tos_path_may_stand_beside_the_parameters(server, service, people):
    body = {"task_type": "data_export", "tos_path": "exports/beside",
            "task_params": {"collection_name": people.collection_name}}
    task_id = json.loads(service.json_exception("CreateTask", {}, json.dumps(body)))["data"]["task_id"]
    wait(service, task_id, "done")
    assert len(exported(server, "exports/beside", task_id, ".parquet", parquet_rows)) == 100


@pytest.mark.parametrize("change", [
    {}, {"tos_path": "nodir"}, {"tos_path": "exports/../x"}, {"tos_path": "exports//x"}, {"tos_path": "/x"},
    {"tos_path": "exports/a\\b"}, {"tos_path": "UPPER/x"}, {"tos_path": "exports/%2e"}, {"tos_path": 5},
    {"tos_path": "exports/x", "file_type": "csv"}, {"tos_path": "exports/x", "file_type": 1},
    {"tos_path": "exports/x", "export_all": "yes"}, {"tos_path": "exports/x", "filter": {"nope": [1]}},
], ids=repr)
def test_an_export_needs_a_sound_target(service, people, change):
    with pytest.raises(InvalidRequestException):
        create(service, TaskType.Data_export, people, **change)


def test_later_and_unknown_task_types(service, people):
    for kind in (TaskType.Data_Import, TaskType.Filter_Update):
        with pytest.raises(APINotImplementedException):
            create(service, kind, people, filter=USERS, tos_path="a/b", file_type="parquet", update_fields={"score": 1})
    body = {"task_type": "nonsense", "task_params": {"collection_name": people.collection_name}}
    with pytest.raises(InvalidRequestException):
        service.json_exception("CreateTask", {}, json.dumps(body))


def test_tasks_of_missing_collections(service, name):
    with pytest.raises(CollectionNotExistException):
        service.create_task(TaskType.Filter_Delete, {"collection_name": name, "filter": USERS})
    with pytest.raises(InvalidRequestException):
        service.create_task(TaskType.Filter_Delete, {"filter": USERS})


def test_list_and_drop(service, people):
    first = create(service, TaskType.Filter_Delete, people, filter=USERS)
    second = create(service, TaskType.Data_export, people, tos_path="exports/listed")
    wait(service, second, "done")
    wait(service, first, "confirm")
    listed = [task.task_id for task in service.list_tasks()]
    assert listed.index(second) < listed.index(first), "newest first"
    for task_id in (first, second):
        service.drop_task(task_id)
        for gone in (service.get_task, service.drop_task, lambda t: service.update_task(t, TaskStatus.Confirmed)):
            with pytest.raises(TaskNotFoundException):
                gone(task_id)
    assert not {first, second} & {task.task_id for task in service.list_tasks()}
    assert alive(people, MATCHES) == MATCHES, "a dropped task deleted rows"


def test_unknown_and_malformed_task_ids(service):
    with pytest.raises(TaskNotFoundException):
        service.get_task("00000000-0000-4000-8000-000000000000")
    with pytest.raises(InvalidRequestException):
        service.json_exception("GetTask", {}, "{}")


def test_only_a_waiting_task_can_be_confirmed(service, people):
    export = create(service, TaskType.Data_export, people, tos_path="exports/confirm")
    wait(service, export, "done")
    with pytest.raises(InvalidRequestException):
        service.update_task(export, TaskStatus.Confirmed)
    waiting = create(service, TaskType.Filter_Delete, people, filter=USERS)
    wait(service, waiting, "confirm")
    for status in (TaskStatus.Done, TaskStatus.Running, TaskStatus.Confirm, TaskStatus.Fail):
        with pytest.raises(InvalidRequestException):
            service.update_task(waiting, status)
    assert wait(service, waiting, "confirm").process_info["total_deleted_count"] == 0


def test_cancel_reads_as_fail_with_a_reason(service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS)
    wait(service, task_id, "confirm")
    cancel = json.dumps({"task_id": task_id, "task_status": "cancel"})
    service.json_exception("UpdateTask", {}, cancel)
    task = wait(service, task_id, "fail")
    assert "cancel" in task.process_info["err_msg"]
    with pytest.raises(InvalidRequestException):
        service.update_task(task_id, TaskStatus.Confirmed)
    assert alive(people, MATCHES) == MATCHES


def test_dropping_a_collection_fails_its_tasks(service, people):
    task_id = create(service, TaskType.Filter_Delete, people, filter=USERS)
    wait(service, task_id, "confirm")
    service.drop_collection(people.collection_name)
    assert "collection not exist" in wait(service, task_id, "fail").process_info["err_msg"]
