"""create, info, list, update and drop, as the SDK calls them."""
import re

import pytest
from volcengine.viking_db import (Data, Field, FieldType, Index, VectorizeModelConf, VectorizeTuple)
from volcengine.viking_db.exception import (CollectionExistException, CollectionNotExistException,
                                            InvalidRequestException)

KEY = Field("id", FieldType.Int64, is_primary_key=True)


def test_every_field_type_is_echoed(server, service, name):
    fields = [
        KEY,
        Field("i", FieldType.Int64, default_val=-(2**63)),
        Field("f", FieldType.Float32, default_val=0.5),
        Field("s", FieldType.String, default_val="北京"),
        Field("b", FieldType.Bool, default_val=True),
        Field("li", FieldType.List_Int64, default_val=[2**63 - 1]),
        Field("ls", FieldType.List_String, default_val=["x", ""]),
        Field("v", FieldType.Vector, dim=8),
        Field("sv", FieldType.Sparse_Vector),
        Field("t", FieldType.Text),
        Field("img", FieldType.Image),
    ]
    made = service.create_collection(name, fields, description="all types", project="sdk_tests")
    assert (made.collection_name, made.primary_key) == (name, "id")

    seen = service.get_collection(name)
    assert seen.primary_key == "id"
    assert seen.description == "all types"
    assert seen.indexes == []
    assert seen.stat["data_number"] == 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", seen.create_time)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", seen.update_time)
    assert seen.update_person == server.ak
    shape = [(f.field_name, f.field_type, f.default_val, f.dim, bool(f.is_primary_key)) for f in seen.fields]
    assert shape == [(f.field_name, f.field_type.value, f.default_val, f.dim, f.is_primary_key) for f in fields]


def test_a_name_is_taken_until_it_is_dropped(service, name):
    service.create_collection(name, [KEY])
    with pytest.raises(CollectionExistException):
        service.create_collection(name, [KEY])
    service.get_collection(name).upsert_data(Data({"id": 1}))
    service.drop_collection(name)
    for gone in (service.get_collection, service.drop_collection):
        with pytest.raises(CollectionNotExistException):
            gone(name)
    fresh = service.create_collection(name, [KEY])
    assert "message" in fresh.fetch_data(1).fields, "a dropped collection's rows came back"


@pytest.mark.parametrize("bad", ["", "1a", "_a", "a-b", "a b", "é", "a" * 129])
def test_names_follow_the_rule(service, bad):
    with pytest.raises(InvalidRequestException):
        service.create_collection(bad, [KEY])


@pytest.mark.parametrize("fields", [
    [],
    [KEY, KEY],
    [KEY, Field("1x", FieldType.String)],
    [KEY, Field("s", FieldType.String, default_val=1)],
    [KEY, Field("v", FieldType.Vector)],
    [KEY, Field("v", FieldType.Vector, dim=6)],
    [KEY, Field("v", FieldType.Vector, dim=4100)],
    [KEY, Field("v", FieldType.Vector, dim=4), Field("w", FieldType.Vector, dim=4)],
    [Field("k", FieldType.Float32, is_primary_key=True)],
    [KEY, *(Field(f"f{i}", FieldType.Int64) for i in range(200))],
], ids=["none", "twice", "name", "default", "no dim", "dim 6", "dim 4100", "two vectors", "float key", "201 fields"])
def test_bad_schemas_are_refused(service, name, fields):
    with pytest.raises(InvalidRequestException):
        service.create_collection(name, fields)
    with pytest.raises(CollectionNotExistException):
        service.get_collection(name)


def test_without_a_key_field_keys_are_generated(service, name):
    made = service.create_collection(name, [Field("s", FieldType.String)])
    assert made.primary_key is None
    seen = service.get_collection(name)
    assert seen.primary_key == "__AUTO_ID__"
    assert [f.field_name for f in seen.fields] == ["s"]
    seen.upsert_data([Data({"s": "same"}), Data({"s": "same"})])
    assert service.get_collection(name).stat["data_number"] == 2


def test_list_filters_by_project(service, name):
    service.create_collection(name, [KEY], project="here")
    service.create_collection(name + "_b", [KEY], project="there")
    ours = {name, name + "_b"}
    listed = {c.collection_name: c for c in service.list_collections()}
    assert ours <= listed.keys()
    assert listed[name].primary_key == "id"
    assert ours & {c.collection_name for c in service.list_collections(project="here")} == {name}
    assert service.list_collections(project="nobody") == []


def test_update_adds_fields_that_old_rows_read_by_default(service, name):
    collection = service.create_collection(name, [KEY, Field("a", FieldType.String)], description="before")
    collection.upsert_data(Data({"id": 1, "a": "x"}))
    service.update_collection(name, [Field("n", FieldType.Int64, default_val=7), Field("s", FieldType.String)],
                              description="after")
    assert collection.fetch_data(1).fields == {"id": 1, "a": "x", "n": 7, "s": "default"}
    collection.upsert_data(Data({"id": 2, "n": 8}))
    assert collection.fetch_data(2).fields == {"id": 2, "a": "default", "n": 8, "s": "default"}

    service.update_collection(name, [Field("n", FieldType.Int64, default_val=7)])
    seen = service.get_collection(name)
    assert seen.description == "after"
    assert [f.field_name for f in seen.fields] == ["id", "a", "n", "s"]


@pytest.mark.parametrize("field", [
    Field("a", FieldType.Int64), Field("v", FieldType.Vector, dim=4), Field("w", FieldType.Sparse_Vector),
    Field("t", FieldType.Text, pipeline_name="text_bge_m3"),
], ids=["other type", "vector", "sparse vector", "pipeline"])
def test_update_refuses_what_cannot_be_added(service, name, field):
    service.create_collection(name, [KEY, Field("a", FieldType.String)])
    with pytest.raises(InvalidRequestException):
        service.update_collection(name, [Field("ok", FieldType.Bool), field])
    assert [f.field_name for f in service.get_collection(name).fields] == ["id", "a"]


def test_update_and_drop_of_a_missing_collection(service, name):
    with pytest.raises(CollectionNotExistException):
        service.update_collection(name, [])
    with pytest.raises(CollectionNotExistException):
        service.drop_collection(name)


def test_vectorize_is_echoed(service, name):
    dense = VectorizeModelConf("doubao-embedding", model_version="240715", dim=2048, text_field="t")
    sparse = VectorizeModelConf("bge-m3", text_field="t")
    service.create_collection(name, [KEY, Field("t", FieldType.Text)], vectorize=[VectorizeTuple(dense, sparse)])
    [seen] = service.get_collection(name).vectorize
    assert (seen.dense.model_name, seen.dense.model_version, seen.dense.dim, seen.dense.text_field) == (
        "doubao-embedding", "240715", 2048, "t")
    assert seen.sparse.model_name == "bge-m3"


def test_pipeline_is_echoed(service, name):
    service.create_collection(name, [KEY, Field("t", FieldType.Text, pipeline_name="text_bge_m3")])
    assert service.get_collection(name).fields[1].pipeline_name == "text_bge_m3"


def test_index_objects_read_the_collection_by_query_string(service, people):
    index = Index(people.collection_name, "idx", None, None, None, service)
    assert index.primary_key == "id"
