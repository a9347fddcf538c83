"""What the SDK raises when the server refuses."""
import json
import re

import pytest
from volcengine.viking_db import (Data, EmbModel, Field, FieldType, RawData)
from volcengine.viking_db.exception import (APINotImplementedException, CalcEmbeddingFailedException,
                                            CollectionAliasNotExistException,
                                            CollectionNotExistException, InvalidRequestException,
                                            NoPermissionException, UnauthorizedException, VikingDBException)


def test_errors_read_as_the_vendor_writes_them(service, name):
    with pytest.raises(CollectionNotExistException) as error:
        service.get_collection(name)
    assert error.value.code == 1000005
    assert re.fullmatch(r"message:collection not exist, code:1000005, request_id:02[0-9a-f]{51}", str(error.value))


@pytest.mark.parametrize("key", ["unknown", "secret", "empty"])
def test_the_constructor_pings_with_its_keys(server, new_service, key):
    ak, sk = {"unknown": ("AKLTnobody", server.sk), "secret": (server.ak, "wrong"), "empty": ("", "")}[key]
    with pytest.raises(VikingDBException, match="host or region is incorrect.*1000001"):
        new_service(ak, sk)


def test_a_wrong_secret_is_unauthorized_on_every_call(service, people):
    service.set_sk("wrong")
    for call in (lambda: service.list_collections(), lambda: service.drop_collection(people.collection_name),
                 lambda: people.upsert_data(Data({"id": 1})), lambda: people.fetch_data(1), people.delete_all_data,
                 lambda: service.list_tasks()):
        with pytest.raises(UnauthorizedException):
            call()


def test_operations_that_come_later(service):
    calls = {
        "list_embeddings": lambda: service.list_embeddings(),
        "rerank": lambda: service.rerank("q", "c"),
        "batch_rerank": lambda: service.batch_rerank([{"query": "q", "content": "c", "title": ""}]),
    }
    for call in calls.values():
        with pytest.raises(APINotImplementedException):
            call()


def test_embedding_without_a_model(service):
    for call in (service.embedding, service.embedding_v2):
        with pytest.raises(CalcEmbeddingFailedException, match='no embedding model "bge-m3" is configured'):
            call(EmbModel("bge-m3"), RawData("text", "t"))


def test_aliases(service, name):
    body = {"collection_name": name, "collection_aliases": [name + "_x"], "primary_key": "id",
            "fields": [{"field_name": "id", "field_type": "int64"}]}
    service.json_exception("CreateCollection", {}, json.dumps(body))
    by_alias = json.dumps({"collection_alias": name + "_x"})
    info = json.loads(service.get_body_exception("GetCollection", {}, by_alias))["data"]
    assert (info["collection_name"], info["collection_aliases"]) == (name, [name + "_x"])
    service.create_collection(name + "_2", [Field("id", FieldType.Int64, is_primary_key=True)])
    moved = {"collection_name": name + "_2", "fields": [], "collection_aliases": [name + "_x"]}
    service.json_exception("UpdateCollection", {}, json.dumps(moved))
    assert json.loads(service.get_body_exception("GetCollection", {}, by_alias))["data"]["collection_name"] == name + "_2"
    with pytest.raises(CollectionAliasNotExistException):
        service.get_body_exception("GetCollection", {}, json.dumps({"collection_alias": name + "_y"}))


@pytest.mark.parametrize("api, body", [
    ("CreateCollection", "{}"), ("CreateCollection", '{"collection_name": 5}'), ("DropCollection", "{}"),
    ("UpsertData", "{}"), ("UpsertData", "[]"), ("UpsertData", "{"), ("UpsertData", "null x"),
    ("DeleteData", "{}"), ("CreateTask", "{}"), ("CreateTask", '{"task_type": "data_export"}'), ("GetTask", "{}"),
    ("UpdateTask", "{}"), ("DropTask", "{}"), ("DropTask", '{"task_id": 5}'),
    ("UpsertData", "[" * 40 + "]" * 40),
])
def test_bodies_that_lack_what_they_need(service, api, body):
    with pytest.raises(InvalidRequestException):
        service.json_exception(api, {}, body)


def test_a_key_without_the_right_is_refused(server, new_service, name):
    admin = new_service()
    admin.create_collection(name, [Field("id", FieldType.Int64, is_primary_key=True)])
    key = json.loads(server.command("key", "create", "--grant", f"read:{name}", "--json"))
    reader = new_service(key["access_key"], key["secret_key"])
    collection = reader.get_collection(name)
    assert collection.fetch_data([1])[0].id == 1
    for call in (lambda: collection.upsert_data(Data({"id": 1})), lambda: collection.delete_data(1),
                 collection.delete_all_data, lambda: reader.drop_collection(name),
                 lambda: reader.create_collection(name + "_2", [Field("id", FieldType.Int64, is_primary_key=True)])):
        with pytest.raises(NoPermissionException):
            call()
