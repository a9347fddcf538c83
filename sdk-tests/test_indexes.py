"""Indexes, searches and index fetches, as the SDK calls them."""
import asyncio
import subprocess

import pytest
from harness import REGION, sign
from volcengine.viking_db import (Data, Field, FieldType, IndexClient, VectorIndexParams, VectorOrder, ScalarOrder)
from volcengine.viking_db.common import DistanceType, IndexType, Order, QuantType
from volcengine.viking_db.exception import (CalcEmbeddingFailedException, IndexExistException, IndexNotExistException,
                                            InvalidPartitionException, InvalidPrimaryKeyException,
                                            InvalidQueryVecException, InvalidRequestException,
                                            InvalidScalarCondException)

INDEX = "idx"


def params(distance=DistanceType.L2, kind=IndexType.FLAT, quant=QuantType.Float):
    return VectorIndexParams(distance, kind, quant)


def ids(found):
    return [d.id for d in found]


@pytest.fixture
def index(service, people):
    return service.create_index(people.collection_name, INDEX, params())


@pytest.fixture
def client(server, new_service, people, index):
    new_service()
    return IndexClient(people.collection_name, INDEX, server.host, REGION, server.ak, server.sk)


def test_the_life_of_an_index(service, people):
    name = people.collection_name
    service.create_index(name, INDEX, VectorIndexParams(DistanceType.COSINE, hnsw_m=16, hnsw_cef=100, hnsw_sef=200),
                         cpu_quota=3, description="d", partition_by="city", scalar_index=["city", "score"])
    with pytest.raises(IndexExistException):
        service.create_index(name, INDEX)
    seen = service.get_index(name, INDEX)
    assert seen.vector_index == {"index_type": "hnsw", "distance": "cosine", "quant": "int8", "hnsw_m": 16,
                                 "hnsw_cef": 100, "hnsw_sef": 200}
    assert (seen.stat, seen.cpu_quota, seen.description, seen.partition_by) == ("READY", 3, "d", "city")
    assert set(seen.scalar_index) == {"city", "score"}
    assert seen.shard_count == 1 and seen.index_cost["cpu_core"] == 3
    assert [i.index_name for i in service.list_indexes(name)] == [INDEX]
    assert [i.index_name for i in service.get_collection(name).indexes] == [INDEX]
    service.update_index(name, INDEX, description="e", cpu_quota=4, scalar_index=["user_id"])
    seen = service.get_index(name, INDEX)
    assert (seen.description, seen.cpu_quota, set(seen.scalar_index)) == ("e", 4, {"city", "score", "user_id"})
    service.drop_index(name, INDEX)
    assert service.list_indexes(name) == []
    with pytest.raises(IndexNotExistException):
        service.get_index(name, INDEX)
    for kind, quant in [(IndexType.DiskANN, QuantType.PQ), (IndexType.FLAT, QuantType.Fix16)]:
        service.create_index(name, kind.name, VectorIndexParams(DistanceType.IP, kind, quant))
        assert service.get_index(name, kind.name).vector_index["index_type"] == kind.value


def test_fetch_data(people, index, client):
    one = index.fetch_data(7)
    assert (one.id, one.fields) == (7, {"user_id": 7, "city": "O'Higgins", "score": 0.875})
    got = index.fetch_data([3, 1000, 5], output_fields=["city"])
    assert [(d.id, d.fields) for d in got] == [(3, {"city": "O'Higgins"}), (1000, {}), (5, {"city": "shanghai"})]
    assert index.fetch_data(7, output_fields=[]).fields == {}
    assert [d.id for d in client.fetch_data([3, 4])] == [3, 4]
    with pytest.raises(InvalidRequestException):
        index.fetch_data(7, output_fields=["nope"])
    with pytest.raises(InvalidRequestException):
        index.fetch_data(list(range(101)))
    with pytest.raises(InvalidPrimaryKeyException):
        index.fetch_data("x")


def test_the_documented_fetch_call(server, people, index):
    """curl as the page prints it: GET with a body, Host not signed, and no index_name."""
    body = ('{"collection_name": "%s", "primary_keys": ["3", "4"], "output_fields": ["city"]}'
            % people.collection_name)
    headers = sign(server, "GET", "/api/index/fetch_data", body)
    flags = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-X", "GET", *flags, "-d", body,
                           f"http://{server.host}/api/index/fetch_data"], capture_output=True, text=True, timeout=30)
    assert '"fields":{"city":"O\'Higgins"}' in done.stdout and '"code":0' in done.stdout, done.stdout + done.stderr


def test_search_in_every_order(people, index, client):
    for one in (index, client):
        near = one.search_by_vector([20.2] * 4, limit=3)
        assert ids(near) == [20, 21, 19]
        assert near[0].score == near[0].dist == pytest.approx(0.4, abs=1e-4)
        assert near[0].fields["city"] == "beijing"
        assert ids(one.search_by_id(50, limit=1)) == [50]
        assert ids(one.search(VectorOrder(vector=[1.0] * 4), limit=1)) == [1]
        assert ids(one.search(VectorOrder(id=2), limit=1)) == [2]
        by_score = one.search(ScalarOrder("score", Order.Desc), limit=2, offset=1)
        assert [(d.id, d.score) for d in by_score] == [(98, 98 / 8), (97, 97 / 8)]
        anything = one.search(limit=5000, output_fields=[])
        assert sorted(ids(anything)) == list(range(100)) and anything[0].fields == {}
    with_vector = index.search_by_vector([5.0] * 4, limit=1, need_return_vector=True)
    assert with_vector[0].fields["v"] == [5.0] * 4


def test_filters_keys_and_operations(people, index):
    must = {"op": "must", "field": "user_id", "conds": [3]}
    found, extend = index.search_by_vector([0.0] * 4, filter=must, limit=3, need_search_count=True)
    assert (ids(found), extend["search_count"]) == ([3, 13, 23], 10)
    found = index.search_by_vector([0.0] * 4, primary_key_in=[9, 8], primary_key_not_in=[8])
    assert ids(found) == [9]
    ops = [{"op": "string_match", "field": "city", "pattern": "^(bei|shang)"},
           {"op": "enum_freq_limiter", "field": "city", "threshold": 2}]
    found = index.search_by_vector([0.0] * 4, post_process_ops=ops, post_process_input_limit=100, scale_k=2)
    assert ids(found) == [0, 1, 4, 5]
    near = {"op": "range", "field": ["score", "user_id"], "center": [1.0, 8], "radius": 0.2}
    assert ids(index.search_by_vector([0.0] * 4, filter=near)) == [8]


def test_partitions(service, people):
    name = people.collection_name
    by_city = service.create_index(name, "by_city", params(), partition_by="city")
    assert ids(by_city.search_by_vector([0.0] * 4, partition="shanghai", limit=2)) == [1, 5]
    assert by_city.search_by_vector([0.0] * 4) == []
    assert by_city.fetch_data(0, partition="beijing").fields["city"] == "beijing"
    assert by_city.fetch_data(0, partition="shanghai").fields == {}
    by_user = service.create_index(name, "by_user", params(), partition_by="user_id")
    assert ids(by_user.search_by_vector([0.0] * 4, partition=[4, 5], limit=3)) == [4, 5, 14]
    with pytest.raises(InvalidPartitionException):
        by_user.search_by_vector([0.0] * 4, partition="beijing")


def test_aggregate_and_sort(service, people, index):
    count = index.search_agg({"op": "count", "field": "city", "cond": {"gt": 20}},
                             filter={"op": "range", "field": "score", "lt": 12.375})
    assert (count.agg_op, count.group_by_field) == ("count", "city")
    assert count.agg_result == {"beijing": 25, "shanghai": 25, "北京": 25, "O'Higgins": 24}
    assert index.search_agg({"op": "count"}).agg_result == {"_total": 100}
    sort = service.create_index(people.collection_name, "sort",
                                VectorIndexParams(DistanceType.IP, IndexType.SORT, QuantType.Float))
    got = sort.sort([1.0] * 4, [3, 1000, 9])
    assert [(i.primary_key, i.score) for i in got.sort_result] == [(9, 36.0), (3, 12.0)]
    assert got.primary_key_not_exist == [1000]


def test_hybrid_search(service, name):
    fields = [Field("id", FieldType.Int64, is_primary_key=True), Field("v", FieldType.Vector, dim=4),
              Field("s", FieldType.Sparse_Vector)]
    collection = service.create_collection(name, fields)
    collection.upsert_data([Data({"id": i, "v": [i, 0, 0, 0], "s": {f"w{i % 3}": 1.0}}) for i in range(1, 10)])
    hybrid = service.create_index(name, INDEX, params(DistanceType.IP, IndexType.HNSW_HYBRID))
    got = hybrid.search_by_vector([1.0, 0, 0, 0], sparse_vectors={"w1": 100.0}, dense_weight=0.5, limit=3)
    assert [(d.id, d.score) for d in got] == [(7, 53.5), (4, 52.0), (1, 50.5)]


def test_refusals(service, people, index):
    for call, error in [
        (lambda: index.search_by_vector([1.0] * 3), InvalidQueryVecException),
        (lambda: index.search_by_vector([1.0] * 4, limit=5001), InvalidRequestException),
        (lambda: index.search_by_vector([1.0] * 4, filter={"op": "must", "field": "v", "conds": [1]}),
         InvalidScalarCondException),
        (lambda: index.search_by_id("x"), InvalidPrimaryKeyException),
        (lambda: index.search_with_multi_modal(text="hello"), CalcEmbeddingFailedException),
        (lambda: index.sort([1.0] * 4, [1]), InvalidRequestException),
    ]:
        with pytest.raises(error):
            call()


def test_async(service, people):
    name = people.collection_name

    async def life():
        index = await service.async_create_index(name, INDEX, params())
        assert ids(await index.async_search_by_vector([20.0] * 4, limit=2)) == [20, 19]
        assert ids(await index.async_search_by_id(7, limit=1)) == [7]
        assert ids(await index.async_search(ScalarOrder("score", Order.Asc), limit=2)) == [0, 1]
        assert len(await index.async_search(limit=7)) == 7
        assert (await index.async_search_agg({"op": "count"})).agg_result == {"_total": 100}
        assert [d.fields["user_id"] for d in await index.async_fetch_data([3, 4])] == [3, 4]
        await service.async_update_index(name, INDEX, description="e")
        assert (await service.async_get_index(name, INDEX)).description == "e"
        assert [i.index_name for i in await service.async_list_indexes(name)] == [INDEX]
        await service.async_drop_index(name, INDEX)

    asyncio.run(life())
