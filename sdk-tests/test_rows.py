"""upsert_data, update_data, delete_data and fetch_data, as the SDK calls them."""
import base64
import json
import struct

import numpy as np
import pytest
from harness import REGION, wait_until
from volcengine.viking_db import CollectionClient, Data, Field, FieldType
from volcengine.viking_db.exception import (CollectionNotExistException, DataNotFoundException,
                                            InvalidPrimaryKeyException, InvalidRequestException)

KEY = Field("id", FieldType.Int64, is_primary_key=True)


@pytest.fixture
def wide(service, name):
    """One field of every type."""
    return service.create_collection(name, [
        KEY, Field("i", FieldType.Int64), Field("f", FieldType.Float32), Field("s", FieldType.String),
        Field("b", FieldType.Bool), Field("li", FieldType.List_Int64), Field("ls", FieldType.List_String),
        Field("v", FieldType.Vector, dim=4), Field("sv", FieldType.Sparse_Vector), Field("t", FieldType.Text),
        Field("img", FieldType.Image)])


@pytest.fixture
def pairs(service, name):
    return service.create_collection(name, [KEY, Field("a", FieldType.String), Field("n", FieldType.Int64)])


def exists(collection, key):
    return "message" not in collection.fetch_data(key).fields


def f32(values):
    return np.asarray(values, dtype=np.float32)


FULL = {"id": 2**63 - 1, "i": -(2**63), "f": 0.1, "s": "北京 \u0000 \U0001f6a2 \" \\ \n", "b": True,
        "li": [2**53 + 1, -(2**53) - 1, 0], "ls": ["", "a\tb", "北"], "v": [0.1, -1e-40, 3.4028235e38, -0.0],
        "sv": {"tok": 0.25, "北": -1.5}, "t": "long text", "img": "tos://bucket/a/b.png"}


def test_every_field_type_comes_back_exactly(wide):
    wide.upsert_data(Data(FULL))
    got = wide.fetch_data(2**63 - 1).fields
    floats = ("f", "v", "sv")
    assert {k: x for k, x in got.items() if k not in floats} == {k: x for k, x in FULL.items() if k not in floats}
    assert f32(got["f"]).tobytes() == f32(FULL["f"]).tobytes()
    assert f32(got["v"]).tobytes() == f32(FULL["v"]).tobytes()
    assert {k: f32(x).tobytes() for k, x in got["sv"].items()} == {k: f32(x).tobytes() for k, x in FULL["sv"].items()}


def test_missing_and_null_fields_read_defaults(wide):
    row = {"id": 1, "v": [1, 2, 3, 4]}
    wide.upsert_data([Data(row), Data({**row, "id": 2, "i": None, "s": None, "ls": None, "sv": None, "t": None})])
    for got in wide.fetch_data([1, 2]):
        assert [got.fields[k] for k in ("i", "f", "s", "b", "li", "ls")] == [
            0, 0.0, "default", False, [0], ["default"]]
        assert [got.fields.get(k) for k in ("sv", "t", "img")] == [None, None, None]


def test_vectors_may_come_packed_in_base64(wide):
    wide.upsert_data(Data({"id": 1, "v": base64.b64encode(struct.pack("<4f", 1, 0.1, -2, 0)).decode()}))
    assert f32(wide.fetch_data(1).fields["v"]).tobytes() == f32([1, 0.1, -2, 0]).tobytes()


def test_upsert_replaces_the_whole_row(pairs):
    pairs.upsert_data(Data({"id": 1, "a": "x", "n": 5}))
    pairs.upsert_data(Data({"id": 1, "n": 6}))
    assert pairs.fetch_data(1).fields == {"id": 1, "a": "default", "n": 6}


def test_the_last_of_equal_keys_in_one_call_wins(pairs):
    pairs.upsert_data([Data({"id": 1, "n": 1}), Data({"id": 2, "n": 2}), Data({"id": 1, "n": 3})])
    assert [d.fields["n"] for d in pairs.fetch_data([1, 2])] == [3, 2]


def test_async_upsert_is_visible_after_its_answer(pairs):
    pairs.upsert_data(Data({"id": 1, "n": 1}), async_upsert=True)
    pairs.upsert_data([Data({"id": 2, "n": 2})], async_upsert=True)
    assert [d.fields["n"] for d in pairs.fetch_data([1, 2])] == [1, 2]


def test_a_list_is_split_by_ttl(pairs):
    """The SDK sends one request per distinct TTL; a row without one goes out as `"ttl": null`."""
    pairs.upsert_data([Data({"id": 1}, TTL=3600), Data({"id": 2}), Data({"id": 3}, TTL=1), Data({"id": 4}, TTL=0),
                       Data({"id": 5}, TTL=3600)])
    assert all(exists(pairs, key) for key in (1, 2, 4, 5))
    wait_until(lambda: not exists(pairs, 3))
    assert all(exists(pairs, key) for key in (1, 2, 4, 5))


def test_update_replaces_the_ttl_if_it_gives_one(pairs):
    pairs.upsert_data([Data({"id": 1}, TTL=3600), Data({"id": 2}, TTL=1)])
    pairs.update_data(Data({"id": 1, "n": 1}, TTL=1))
    pairs.update_data([Data({"id": 2, "n": 1})])
    wait_until(lambda: not exists(pairs, 1) and not exists(pairs, 2))


def test_negative_ttl_is_refused(pairs):
    with pytest.raises(InvalidRequestException):
        pairs.upsert_data(Data({"id": 1}, TTL=-1))
    assert not exists(pairs, 1)


def test_update_touches_only_what_it_names(pairs):
    pairs.upsert_data([Data({"id": 1, "a": "x", "n": 1}), Data({"id": 2, "a": "y", "n": 2})])
    pairs.update_data(Data({"id": 1, "n": 10}))
    pairs.update_data([Data({"id": 1, "a": "z"}), Data({"id": 2, "n": 20}, TTL=3600)])
    assert [d.fields for d in pairs.fetch_data([1, 2])] == [{"id": 1, "a": "z", "n": 10}, {"id": 2, "a": "y", "n": 20}]


def test_update_of_a_missing_row_changes_nothing(pairs):
    pairs.upsert_data(Data({"id": 1, "n": 1}))
    with pytest.raises(DataNotFoundException, match="primary key 2 data not exist"):
        pairs.update_data([Data({"id": 1, "n": 9}), Data({"id": 2, "n": 9})])
    assert pairs.fetch_data(1).fields["n"] == 1
    assert not exists(pairs, 2)


def test_delete_one_many_and_missing_keys(pairs):
    pairs.upsert_data([Data({"id": i}) for i in range(6)])
    answer = json.loads(pairs.delete_data(0))
    assert (answer["code"], answer["message"]) == (0, "success")
    pairs.delete_data([1, 2, 77])
    pairs.delete_data(78)
    assert [exists(pairs, i) for i in range(6)] == [False, False, False, True, True, True]


def test_delete_all(service, pairs):
    pairs.upsert_data([Data({"id": i}) for i in range(6)])
    pairs.delete_all_data()
    assert not any(exists(pairs, i) for i in range(6))
    assert service.get_collection(pairs.collection_name).stat["data_number"] == 0
    pairs.upsert_data(Data({"id": 1}))
    assert exists(pairs, 1)


def test_fetch_answers_in_order_with_repeats_and_gaps(pairs):
    pairs.upsert_data([Data({"id": i, "n": i * 10}) for i in (1, 2, 3)])
    got = pairs.fetch_data([3, 9, 1, 3])
    assert [d.id for d in got] == [3, 9, 1, 3]
    assert [d.fields.get("n") for d in got] == [30, None, 10, 30]
    assert got[1].fields == {"id": 9, "message": "no data found"}
    assert pairs.fetch_data(9).fields == {"id": 9, "message": "no data found"}
    assert pairs.fetch_data(2).fields == {"id": 2, "a": "default", "n": 20}


def test_collection_client_needs_no_schema(server, service, pairs):
    pairs.upsert_data([Data({"id": i, "n": i * 10}) for i in (1, 2)])
    client = CollectionClient(pairs.collection_name, server.host, REGION, server.ak, server.sk)
    got = client.fetch_data([2, 9, 1])
    assert [d.id for d in got] == [2, 9, 1]
    assert [d.fields.get("n") for d in got] == [20, None, 10]
    assert got[0].fields["id"] == 2, "the key keeps its own name too"
    assert client.fetch_data(1).fields["n"] == 10
    client.upsert_data(Data({"id": 3, "n": 30}))
    client.update_data(Data({"id": 3, "a": "x"}))
    assert client.fetch_data(3).fields == {"id": 3, "a": "x", "n": 30}
    client.delete_data([3])
    assert not exists(client, 3)
    client.delete_all_data()
    assert not exists(client, 1)


def test_string_keys(service, name):
    collection = service.create_collection(name, [Field("k", FieldType.String, is_primary_key=True),
                                                  Field("n", FieldType.Int64)])
    keys = ["a", "北京", "x" * 1024, "", "7"]
    collection.upsert_data([Data({"k": key, "n": n}) for n, key in enumerate(keys)])
    assert [d.fields for d in collection.fetch_data(keys)] == [{"k": key, "n": n} for n, key in enumerate(keys)]
    collection.delete_data("北京")
    assert not exists(collection, "北京")
    with pytest.raises((InvalidPrimaryKeyException, InvalidRequestException)):
        collection.upsert_data(Data({"k": "x" * 1025}))
    with pytest.raises(InvalidPrimaryKeyException):
        collection.fetch_data(7)


def test_a_hundred_rows_and_not_one_more(pairs):
    hundred = [Data({"id": i}) for i in range(100)]
    with pytest.raises(InvalidRequestException):
        pairs.upsert_data(hundred + [Data({"id": 100})])
    assert not exists(pairs, 0)
    pairs.upsert_data(hundred)
    keys = list(range(101))
    assert len(pairs.fetch_data(keys[:100])) == 100
    for refused in (pairs.fetch_data, pairs.delete_data):
        with pytest.raises(InvalidRequestException):
            refused(keys)
        with pytest.raises(InvalidRequestException):
            refused([])
    with pytest.raises(InvalidRequestException):
        pairs.update_data([Data({"id": i}) for i in range(101)])
    assert exists(pairs, 0)


@pytest.mark.parametrize("wrong", [
    {"nope": 1}, {"i": "1"}, {"i": 1.5}, {"i": 2**63}, {"i": True}, {"f": "x"}, {"f": float("nan")}, {"f": 1e39},
    {"s": 1}, {"b": 1}, {"li": [1, "x"]}, {"li": 1}, {"ls": [1]}, {"v": [1, 2, 3]}, {"v": [1, 2, 3, None]},
    {"v": [1, 2, 3, float("inf")]}, {"v": None}, {"sv": [1]}, {"sv": {"t": "x"}}, {"t": 1}, {"img": 1},
], ids=repr)
def test_a_bad_value_refuses_the_whole_call(wide, wrong):
    good = {"id": 1, "v": [1, 2, 3, 4]}
    with pytest.raises(InvalidRequestException):
        wide.upsert_data([Data(good), Data({**good, "id": 2, **wrong})])
    assert not exists(wide, 1) and not exists(wide, 2)


def test_rows_need_a_key_of_the_right_type(pairs):
    for row in ({"a": "x"}, {"id": None}, {"id": "x"}, {"id": 1.5}, {"id": [1]}):
        with pytest.raises((InvalidRequestException, InvalidPrimaryKeyException)):
            pairs.upsert_data([Data({"id": 5}), Data(row)])
    assert not exists(pairs, 5)
    for call in (pairs.fetch_data, pairs.delete_data):
        with pytest.raises(InvalidPrimaryKeyException):
            call("x")
    pairs.upsert_data(Data({"id": 5, "n": 1}))
    assert pairs.fetch_data(["5"])[0].fields["n"] == 1, "a number in quotes is tolerated"


def test_a_row_may_hold_65535_bytes(pairs):
    with pytest.raises(InvalidRequestException, match="fields data is too long, should be less than 65535"):
        pairs.upsert_data(Data({"id": 1, "a": "x" * 65536}))
    pairs.upsert_data(Data({"id": 1, "a": "x" * 65000}))
    assert len(pairs.fetch_data(1).fields["a"]) == 65000


def test_every_call_on_a_missing_collection(server, service, name):
    client = CollectionClient(name, server.host, REGION, server.ak, server.sk)
    for call in (lambda: client.upsert_data(Data({"id": 1})), lambda: client.update_data(Data({"id": 1})),
                 lambda: client.delete_data(1), client.delete_all_data, lambda: client.fetch_data(1)):
        with pytest.raises(CollectionNotExistException):
            call()
