"""Collections whose vectors a model makes, with both clients."""
import base64
import io

import pytest
import vikingdb
from harness import REGION, wait
from models import served
from pyarrow import parquet
from vikingdb.vector import SearchByMultiModalRequest, UpsertDataRequest
from volcengine.viking_db import (Data, EmbModel, Field, FieldType, RawData, TaskType, VectorIndexParams,
                                  VectorizeModelConf, VectorizeTuple, VikingDBService)
from volcengine.viking_db.common import DistanceType, IndexType, QuantType
from volcengine.viking_db.exception import CalcEmbeddingFailedException, InvalidRequestException

KEY = Field("id", FieldType.Int64, is_primary_key=True)
INDEX = "idx"
EXACT = VectorIndexParams(DistanceType.L2, IndexType.FLAT, QuantType.Float)
PICTURE = b"a picture of thirty bytes....."


@pytest.fixture(scope="module")
def own(server):
    with served(server.binary) as own:
        yield own


@pytest.fixture
def service(own):
    if "_instance" in vars(VikingDBService):
        del VikingDBService._instance
    return VikingDBService(own.host, REGION, own.ak, own.sk)


@pytest.fixture
def notes(service, name):
    """A collection with a text field, three rows, and an index."""
    dense = VectorizeModelConf("m", text_field="t")
    fields = [KEY, Field("t", FieldType.Text), Field("n", FieldType.Int64)]
    collection = service.create_collection(name, fields, vectorize=[VectorizeTuple(dense)])
    collection.upsert_data([Data({"id": i, "t": str(10 * i), "n": i}) for i in (1, 2, 3)])
    return collection, service.create_index(name, INDEX, EXACT)


def found(rows):
    return [(row.id, row.score) for row in rows]


def test_a_model_makes_the_vectors_of_rows(service, notes):
    collection, index = notes
    assert found(index.search_with_multi_modal(text="20", limit=1)) == [(2, 0.0)]
    assert found(index.search_by_vector([31.0] * 4, limit=2)) == [(3, 2.0), (2, 22.0)]
    assert found(index.search_by_id(1, limit=1)) == [(1, 0.0)]
    assert collection.fetch_data(2).fields == {"id": 2, "t": "20", "n": 2}
    assert index.fetch_data(2).fields == {"t": "20", "n": 2}
    collection.update_data([Data({"id": 2, "t": "50"}), Data({"id": 3, "n": 4})])
    assert found(index.search_with_multi_modal(text="50", limit=2)) == [(2, 0.0), (3, 40.0)]
    seen = service.get_collection(collection.collection_name)
    assert [field.field_name for field in seen.fields] == ["id", "t", "n"]
    assert seen.vectorize[0].dense.text_field == "t"


def test_a_failing_model_fails_the_write(notes):
    collection, index = notes
    with pytest.raises(CalcEmbeddingFailedException, match="gave no vectors"):
        collection.upsert_data([Data({"id": 8, "t": "80"}), Data({"id": 9, "t": "fail"})])
    assert "message" in collection.fetch_data(8).fields
    with pytest.raises(InvalidRequestException, match="each row needs t"):
        collection.upsert_data(Data({"id": 8, "n": 1}))


def test_exports_hold_what_was_written(own, service, notes):
    collection, _ = notes
    service.update_collection(collection.collection_name, [Field("later", FieldType.String)])
    params = {"collection_name": collection.collection_name, "tos_path": "files/notes"}
    task = wait(service, service.create_task(TaskType.Data_export, params), "done")
    [path] = [item["key"] for item in own.objects(f"files/notes/{task.task_id}") if item["key"].endswith(".parquet")]
    rows = parquet.read_table(io.BytesIO(own.download(f"files/{path}"))).to_pylist()
    assert rows == [{"id": i, "t": str(10 * i), "n": i, "later": "default"} for i in (1, 2, 3)]


def test_images_of_the_servers_buckets(own, service, name):
    file = own.root / "picture"
    file.write_bytes(PICTURE)
    own.command("bucket", "create", "pictures")
    own.command("bucket", "put", str(file), "pictures/a.png")
    dense = VectorizeModelConf("v", dim=4, image_field="i")
    fields = [KEY, Field("i", FieldType.Image)]
    collection = service.create_collection(name, fields, vectorize=[VectorizeTuple(dense)])
    given = base64.b64encode(b"another").decode()
    collection.upsert_data([Data({"id": 1, "i": "tos://pictures/a.png"}), Data({"id": 2, "i": given})])
    index = service.create_index(name, INDEX, EXACT)
    assert found(index.search_with_multi_modal(image="tos://pictures/a.png", limit=1)) == [(1, 0.0)]
    assert found(index.search_with_multi_modal(image=given, limit=1)) == [(2, 0.0)]
    made = service.embedding_v2(EmbModel("v"), [RawData("image", image=given), RawData("text", text="3")])
    assert made["sentence_dense_embedding"] == [[float(len(given))] * 4, [3.0] * 4]
    with pytest.raises(InvalidRequestException, match="no bucket of this server has it"):
        index.search_with_multi_modal(image="tos://pictures/none.png")


def test_the_v2_client_writes_and_searches_them(own, notes):
    name = notes[0].collection_name
    auth = vikingdb.IAM(ak=own.ak, sk=own.sk)
    client = vikingdb.vector.VikingDB(host=own.host, region=REGION, auth=auth, scheme="http")
    client.collection(collection_name=name).upsert(UpsertDataRequest(data=[{"id": 4, "t": "40"}]))
    index = client.index(collection_name=name, index_name=INDEX)
    answer = index.search_by_multi_modal(SearchByMultiModalRequest(text="40", limit=1)).result
    assert [(item.id, item.score, item.fields) for item in answer.data] == [(4, 0.0, {"id": 4, "t": "40", "n": 0})]
    assert answer.real_text_query == "40"
    [row] = index.fetch({"ids": [4]}).result.items
    assert row.dense_vector == [40.0] * 4
