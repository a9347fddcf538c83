"""The vendor's V2 client, `vikingdb-python-sdk`. It has no calls for collections and indexes, so v1 makes them."""
import asyncio
import json

import pytest
from harness import REGION, call
from models import served
from vikingdb import IAM, APIKey, RequestOptions
from vikingdb.exceptions import VikingAPIException
from vikingdb.vector import (AggRequest, DeleteDataRequest, EmbeddingData, EmbeddingModelOpt, EmbeddingRequest,
                             FetchDataInCollectionRequest, FetchDataInIndexRequest, RerankRequest, SearchAdvance,
                             SearchByIDRequest, SearchByKeywordsRequest, SearchByMultiModalRequest,
                             SearchByRandomRequest, SearchByScalarRequest, SearchByVectorRequest, UpdateDataRequest,
                             UpsertDataRequest, VikingDB)
from vikingdb.vector.exceptions import VikingConnectionException, VikingVectorException
from volcengine.viking_db import Field, FieldType, VectorIndexParams
from volcengine.viking_db.common import DistanceType, IndexType, QuantType

INDEX = "idx"
# The client repeats whatever is not 200, with pauses; where a refusal is the point, once is enough.
ONCE = RequestOptions(max_attempts=1)


def connect(server, auth=None):
    return VikingDB(host=server.host, region=REGION, auth=auth or IAM(ak=server.ak, sk=server.sk), scheme="http")


@pytest.fixture(scope="module")
def db(server):
    return connect(server)


@pytest.fixture
def collection(db, people):
    return db.collection(collection_name=people.collection_name, project_name="default")


@pytest.fixture
def index(db, service, people):
    service.create_index(people.collection_name, INDEX,
                         VectorIndexParams(DistanceType.L2, IndexType.FLAT, QuantType.Float))
    return db.index(collection_name=people.collection_name, index_name=INDEX)


def ids(answer):
    return [item.id for item in answer.result.data]


def refused(call, code, status, text=""):
    with pytest.raises(VikingVectorException) as error:
        call()
    assert (error.value.code, error.value.status_code) == (code, status), str(error.value)
    assert text in error.value.message, error.value.message
    assert len(error.value.request_id) == 53


def test_the_constructor_pings_without_keys(server):
    # Nothing of a key is sent, so that even a wrong one connects; it is refused by the first call.
    stranger = connect(server, IAM(ak="AKLTnobody", sk="x"))
    refused(lambda: stranger.collection(collection_name="c").fetch({"ids": [1]}, request_options=ONCE),
            "Unauthorized", 401)
    with pytest.raises(VikingConnectionException):
        VikingDB(host="127.0.0.1:1", region=REGION, auth=IAM(ak="a", sk="b"), scheme="http")


def test_api_keys_are_refused_with_a_reason(server):
    client = connect(server, APIKey(api_key="abc"))
    refused(lambda: client.collection(collection_name="c").fetch({"ids": [1]}, request_options=ONCE),
            "Unauthorized", 401, "API keys are not offered")


def test_rows_live_and_die(collection):
    written = collection.upsert(UpsertDataRequest(data=[
        {"id": 1000, "user_id": 1, "city": "北京", "score": 0.5, "v": [1.0, 2.0, 3.0, 4.0]},
        {"id": 1001, "user_id": 2, "city": "x", "score": 1.5, "v": [0.0] * 4}], ttl=3600, async_write=True))
    assert (written.code, written.message) == ("Success", "The API call was executed successfully.")
    assert written.result.token_usage == {} and len(written.request_id) == 53
    collection.update(UpdateDataRequest(data=[{"id": 1001, "city": "y"}], ignore_unknown_fields=False))
    got = collection.fetch(FetchDataInCollectionRequest(ids=[1001, 7777, 1000])).result
    assert [item.id for item in got.items] == [1001, 1000] and got.ids_not_exist == [7777]
    assert got.items[0].fields == {"id": 1001, "user_id": 2, "city": "y", "score": 1.5, "v": [0.0] * 4}
    assert got.items[1].fields["city"] == "北京"

    gone = collection.delete(DeleteDataRequest(ids=[1000, 1001, 5555]))
    assert gone.code == "Success" and gone.result is None
    assert collection.fetch({"ids": [1000, 1001]}).result.ids_not_exist == [1000, 1001]
    collection.delete(DeleteDataRequest(delete_all=True))
    assert collection.fetch({"ids": [1, 2]}).result.items == []


def test_unknown_fields_are_left_out_where_that_is_asked_for(collection):
    row = {"id": 1000, "user_id": 1, "city": "x", "score": 0.5, "v": [1.0] * 4}
    more = {**row, "nobody": {"knows": [1, "}"]}}
    refused(lambda: collection.upsert(UpsertDataRequest(data=[more]), request_options=ONCE), "InvalidParameter", 400,
            "no such field")
    collection.upsert(UpsertDataRequest(data=[more], ignore_unknown_fields=True))
    assert collection.fetch({"ids": [1000]}).result.items[0].fields == row
    change = [{"id": 1000, "city": "y", "nobody": 1}]
    refused(lambda: collection.update(UpdateDataRequest(data=change, ignore_unknown_fields=False), request_options=ONCE),
            "InvalidParameter", 400, "no such field")
    collection.update(UpdateDataRequest(data=change, ignore_unknown_fields=True))
    assert collection.fetch({"ids": [1000]}).result.items[0].fields == {**row, "city": "y"}


def test_fetch_in_index(index):
    got = index.fetch(FetchDataInIndexRequest(ids=[7, 1000], output_fields=["city"])).result
    assert got.ids_not_exist == [1000]
    (one,) = got.items
    assert (one.id, one.fields, one.dense_dim, one.dense_vector) == (7, {"city": "O'Higgins"}, 4, [7.0] * 4)
    everything = index.fetch(FetchDataInIndexRequest(ids=[7])).result.items[0]
    assert everything.fields == {"id": 7, "user_id": 7, "city": "O'Higgins", "score": 0.875}
    assert index.fetch(FetchDataInIndexRequest(ids=[7], output_fields=[])).result.items[0].fields == {}


def test_search_in_every_order(index):
    near = index.search_by_vector(SearchByVectorRequest(dense_vector=[20.2] * 4, limit=3, output_fields=["city"]))
    assert ids(near) == [20, 21, 19] and near.result.total_return_count == 3
    best = near.result.data[0]
    assert best.score == best.ann_score == pytest.approx(0.4, abs=1e-4) and best.fields == {"city": "beijing"}
    assert near.result.filter_matched_count is None and near.result.token_usage == {}
    assert ids(index.search_by_vector({"dense_vector": [20.2] * 4, "limit": 2, "offset": 1})) == [21, 19]
    assert ids(index.search_by_id(SearchByIDRequest(id=50, limit=1))) == [50]

    by_score = index.search_by_scalar(SearchByScalarRequest(field="score", order="desc", limit=2, offset=1))
    assert [(d.id, d.score, d.ann_score) for d in by_score.result.data] == [(98, 98 / 8, None), (97, 97 / 8, None)]
    assert by_score.result.data[0].fields == {"id": 98, "user_id": 8, "city": "北京", "score": 98 / 8}
    assert ids(index.search_by_scalar({"field": "score", "limit": 1})) == [99]
    assert ids(index.search_by_scalar({"field": "score", "order": "asc", "limit": 1})) == [0]

    anything = index.search_by_random(SearchByRandomRequest(limit=5000, output_fields=[]))
    assert sorted(ids(anything)) == list(range(100)) and anything.result.data[0].fields == {}
    assert len(ids(index.search_by_random())) == 10


def test_filters_keys_and_operations(index):
    must = {"op": "must", "field": "user_id", "conds": [3]}
    found = index.search_by_vector(SearchByVectorRequest(dense_vector=[0.0] * 4, filter=must, limit=3,
                                                         return_detail_info=True))
    assert (ids(found), found.result.filter_matched_count) == ([3, 13, 23], 10)
    both = {"op": "and", "conds": [must, {"op": "range", "field": "score", "gte": 2, "lt": 5.5}]}
    assert sorted(ids(index.search_by_random({"filter": both}))) == [23, 33, 43]
    among = SearchAdvance(ids_in=[9, 8], ids_not_in=[8], scale_k=2, filter_pre_ann_limit=10, filter_pre_ann_ratio=0.5)
    assert ids(index.search_by_vector(SearchByVectorRequest(dense_vector=[0.0] * 4, advance=among))) == [9]
    ops = [{"op": "string_match", "field": "city", "pattern": "^(bei|shang)"},
           {"op": "enum_freq_limiter", "field": "city", "threshold": 2}]
    found = index.search_by_vector({"dense_vector": [0.0] * 4,
                                    "advance": {"post_process_ops": ops, "post_process_input_limit": 100}})
    assert ids(found) == [0, 1, 4, 5]
    # Without a limit of its own an operation sees three rows for each that is wanted.
    found = index.search_by_vector({"dense_vector": [0.0] * 4, "limit": 2, "advance": {"post_process_ops": [
        {"op": "string_contain", "field": "city", "pattern": "Higgins"}]}})
    assert ids(found) == [3]


def test_partitions(db, service, people):
    name = people.collection_name
    service.create_index(name, "by_city", VectorIndexParams(DistanceType.L2, IndexType.FLAT, QuantType.Float),
                         partition_by="city")
    by_city = db.index(collection_name=name, index_name="by_city")
    assert ids(by_city.search_by_vector({"dense_vector": [0.0] * 4, "limit": 3})) == [0, 1, 2], "all of them"
    assert ids(by_city.search_by_vector({"dense_vector": [0.0] * 4, "partition": "shanghai", "limit": 2})) == [1, 5]
    assert ids(by_city.search_by_vector({"dense_vector": [0.0] * 4, "partition": "default"})) == []
    assert by_city.fetch({"ids": [0], "partition": "shanghai"}).result.ids_not_exist == [0]
    assert by_city.aggregate({"op": "count", "partition": "beijing"}).result.agg["_total"] == 25


def test_aggregate(index):
    total = index.aggregate(AggRequest(op="count")).result
    assert (total.agg, total.op, total.field) == ({"__TOTAL__": 100, "_total": 100}, "count", "__NONE__")
    some = {"op": "range", "field": "score", "lt": 12.375}
    grouped = index.aggregate(AggRequest(op="count", group_by="city", cond={"gt": 20}, filter=some, order="asc")).result
    assert (grouped.group_by, grouped.field) == ("city", "city")
    assert grouped.agg == {"beijing": 25, "shanghai": 25, "北京": 25, "O'Higgins": 24}
    assert list(grouped.agg)[0] == "O'Higgins"
    assert index.aggregate({"op": "count", "field": "city", "cond": {"gt": 25}}).result.agg == {}


def test_hybrid_search(db, service, name):
    fields = [Field("id", FieldType.String, is_primary_key=True), Field("v", FieldType.Vector, dim=4),
              Field("s", FieldType.Sparse_Vector)]
    service.create_collection(name, fields)
    db.collection(collection_name=name).upsert({"data": [{"id": f"k{i}", "v": [i, 0, 0, 0], "s": {f"w{i % 3}": 1.0}}
                                                         for i in range(1, 10)]})
    service.create_index(name, INDEX, VectorIndexParams(DistanceType.IP, IndexType.HNSW_HYBRID, QuantType.Float))
    hybrid = db.index(collection_name=name, index_name=INDEX)
    got = hybrid.search_by_vector(SearchByVectorRequest(
        dense_vector=[1.0, 0, 0, 0], sparse_vector={"w1": 100.0}, advance=SearchAdvance(dense_weight=0.5), limit=3))
    assert [(d.id, d.score) for d in got.result.data] == [("k7", 53.5), ("k4", 52.0), ("k1", 50.5)]
    (one,) = hybrid.fetch({"ids": ["k4"]}).result.items
    assert (one.id, one.dense_vector, one.sparse_vector) == ("k4", [4.0, 0, 0, 0], {"w1": 1.0})


@pytest.fixture
def with_model(server):
    """A client of a server of its own, which has a model and a collection `c` of three rows."""
    with served(server.binary) as own:
        make(own, "c")
        yield connect(own)


def make(server, name):
    """The collection of three rows, over the wire: v1's client is one instance for ever, and belongs to the other server."""
    for path, body in [
        ("/api/collection/create", {"collection_name": name, "primary_key": "id", "fields": [
            {"field_name": "id", "field_type": "int64"}, {"field_name": "v", "field_type": "vector", "dim": 4}]}),
        ("/api/collection/upsert_data", {"collection_name": name, "fields": [{"id": i, "v": [i] * 4} for i in range(3)]}),
        ("/api/index/create", {"collection_name": name, "index_name": INDEX, "vector_index": {
            "index_type": "flat", "distance": "l2", "quant": "float"}}),
    ]:
        answer = call(server, "POST", path, body)
        assert answer.status == 200, answer.text


def test_texts_are_searched_and_embedded_by_a_configured_model(with_model):
    index = with_model.index(collection_name="c", index_name=INDEX)
    found = index.search_by_multi_modal(SearchByMultiModalRequest(text="2", need_instruction=False, limit=2))
    assert ids(found) == [2, 1] and found.result.real_text_query == "2"
    assert [d.score for d in found.result.data] == [0.0, 2.0]
    embed = with_model.embedding().embedding
    got = embed(EmbeddingRequest(dense_model=EmbeddingModelOpt(name="m", version="1", dim=4),
                                 data=[EmbeddingData(text="1"), EmbeddingData(text="2.5")]))
    assert [item.dense for item in got.result.data] == [[1.0] * 4, [2.5] * 4]
    other = EmbeddingRequest(dense_model=EmbeddingModelOpt(name="m", dim=8), data=[EmbeddingData(text="1")])
    refused(lambda: embed(other, request_options=ONCE), "InvalidParameter", 400, "makes vectors of 4 elements")
    refused(lambda: index.search_by_multi_modal({"image": "aGk="}, request_options=ONCE), "EmbeddingFailed", 500,
            "takes no images")
    refused(lambda: embed({"dense_model": {"name": "m"}, "data": [{"image": "aGk="}]}, request_options=ONCE),
            "EmbeddingFailed", 500, "takes no images")
    images = EmbeddingRequest(dense_model=EmbeddingModelOpt(name="v"), data=[EmbeddingData(image="aGk=", text="1")])
    assert [item.dense for item in embed(images).result.data] == [[5.0] * 4]
    refused(lambda: embed({"dense_model": {"name": "v"}, "data": [{"video": "tos://b/o"}]}, request_options=ONCE),
            "NotImplemented", 400, "video")


def test_without_a_model_nothing_is_made_up(db, index):
    refused(lambda: index.search_by_multi_modal({"text": "x"}, request_options=ONCE), "EmbeddingFailed", 500,
            "no embedding model is configured")
    refused(lambda: db.embedding().embedding({"dense_model": {"name": "bge-m3"}, "data": [{"text": "x"}]},
                                             request_options=ONCE), "EmbeddingFailed", 500, "bge-m3")


def test_what_is_not_offered_says_so(db, collection, index):
    rerank = RerankRequest(model_name="m", query=[{"text": "q"}], data=[[{"text": "a"}]])
    for call in [
        lambda: index.search_by_keywords(SearchByKeywordsRequest(keywords=["a"]), request_options=ONCE),
        lambda: db.rerank().rerank(rerank, request_options=ONCE),
        lambda: index.search_by_vector({"dense_vector": [1.0] * 4, "tensor_rerank": {"tensor": [[1.0]]}},
                                       request_options=ONCE),
        lambda: index.search_by_random({"return_schema": True}, request_options=ONCE),
        lambda: index.search_by_random({"ignore_unknown_fields": True}, request_options=ONCE),
    ]:
        refused(call, "NotImplemented", 400)


def test_refusals(db, collection, index, people):
    name = people.collection_name
    fetch = FetchDataInCollectionRequest(ids=[1])
    for call, code, status in [
        (lambda: db.collection(collection_name="nope").fetch(fetch, request_options=ONCE),
         "NotFound.VikingdbCollection", 404),
        (lambda: db.index(collection_name=name, index_name="nope").search_by_random(request_options=ONCE),
         "NotFound.VikingdbIndex", 404),
        (lambda: db.collection(resource_id="vdb-1").fetch(fetch, request_options=ONCE), "MissingParameter", 400),
        (lambda: db.index(collection_name=name).search_by_random(request_options=ONCE), "MissingParameter", 400),
        (lambda: collection.delete({}, request_options=ONCE), "MissingParameter", 400),
        (lambda: collection.delete({"ids": [1], "del_all": True}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: collection.upsert({"data": [{"id": 1, "nope": 1}]}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: collection.upsert({"data": [{"id": i} for i in range(101)]}, request_options=ONCE),
         "InvalidParameter", 400),
        (lambda: collection.update({"data": [{"id": 4711, "city": "x"}]}, request_options=ONCE),
         "NotFound.VikingdbData", 404),
        (lambda: index.fetch({"ids": ["x"]}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: index.search_by_vector({"dense_vector": [1.0] * 3}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: index.search_by_random({"limit": 5001}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: index.search_by_random({"filtr": {"op": "must"}}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: index.search_by_random({"filter": {"op": "must", "field": "v", "conds": [1]}}, request_options=ONCE),
         "InvalidParameter", 400),
        (lambda: index.search_by_id({"id": 4711}, request_options=ONCE), "NotFound.VikingdbData", 404),
        (lambda: index.search_by_scalar({"field": "city"}, request_options=ONCE), "InvalidParameter", 400),
        (lambda: index.aggregate({"op": "max"}, request_options=ONCE), "InvalidParameter", 400),
    ]:
        refused(call, code, status)
    refused(lambda: db.collection(collection_name="nope").fetch(fetch), "NotFound.VikingdbCollection", 404)


def test_a_key_without_the_right_is_refused(server, people):
    name = people.collection_name
    key = json.loads(server.command("key", "create", "--grant", f"read:{name}", "--json"))
    reader = connect(server, IAM(ak=key["access_key"], sk=key["secret_key"])).collection(collection_name=name)
    assert reader.fetch({"ids": [1]}).result.items[0].id == 1
    for call in [lambda: reader.upsert({"data": [{"id": 1}]}, request_options=ONCE),
                 lambda: reader.delete({"del_all": True}, request_options=ONCE)]:
        refused(call, "AccessDenied", 403)


def test_through_aiohttp(db, people, index):
    """The client's asynchronous half is one method, without the models."""
    name = people.collection_name

    def send(api, **body):
        return db.async_json(api, None, json.dumps({"collection_name": name, **body}))

    async def life():
        assert (await send("VectorDataUpsert", data=[{"id": 200, "v": [200] * 4}]))["code"] == "Success"
        found = await send("VectorSearchByVector", index_name=INDEX, dense_vector=[200] * 4, limit=1)
        assert [item["id"] for item in found["result"]["data"]] == [200]
        got = await asyncio.gather(*(send("VectorDataFetchInCollection", ids=[i]) for i in range(20)))
        assert [answer["result"]["fetch"][0]["fields"]["user_id"] for answer in got] == [i % 10 for i in range(20)]
        # This method wraps its own exceptions, so that the code is in the text.
        with pytest.raises(VikingAPIException, match="ids is required.*MissingParameter"):
            await send("VectorDataFetchInCollection")

    asyncio.run(life())
