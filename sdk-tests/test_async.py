"""The methods of the SDK that go through aiohttp."""
import asyncio

import pytest
from volcengine.viking_db import Data, Field, FieldType
from volcengine.viking_db.exception import VikingDBException

FIELDS = [Field("id", FieldType.Int64, is_primary_key=True), Field("s", FieldType.String)]


def test_the_life_of_a_collection(service, name):
    async def life():
        collection = await service.async_create_collection(name, FIELDS, description="d")
        await collection.async_upsert_data(Data({"id": 1, "s": "a"}))
        await collection.async_upsert_data([Data({"id": 2, "s": "b"}, TTL=3600), Data({"id": 3, "s": "北"})],
                                           async_upsert=True)
        assert (await collection.async_fetch_data(1)).fields == {"id": 1, "s": "a"}
        got = await collection.async_fetch_data([3, 9, 2])
        assert [(d.id, d.fields.get("s")) for d in got] == [(3, "北"), (9, None), (2, "b")]

        await service.async_update_collection(name, [Field("n", FieldType.Int64)], description="e")
        seen = await service.async_get_collection(name)
        assert ([f.field_name for f in seen.fields], seen.description) == (["id", "s", "n"], "e")
        assert name in [c.collection_name for c in await service.async_list_collections()]

        await collection.async_delete_data(1)
        await collection.async_delete_data([2])
        assert ["message" in d.fields for d in await collection.async_fetch_data([1, 2, 3])] == [True, True, False]
        await collection.async_delete_all_data()
        assert "message" in (await collection.async_fetch_data(3)).fields
        await service.async_drop_collection(name)
        with pytest.raises(VikingDBException, match='"code":1000005'):
            await service.async_get_collection(name)

    asyncio.run(life())


def test_many_calls_at_once(service, name):
    collection = service.create_collection(name, FIELDS)

    async def write():
        await asyncio.gather(*(collection.async_upsert_data([Data({"id": c * 100 + i, "s": str(c)})
                                                             for i in range(100)]) for c in range(20)))
        return await asyncio.gather(*(collection.async_fetch_data(list(range(c * 100, c * 100 + 100)))
                                      for c in range(20)))

    for c, batch in enumerate(asyncio.run(write())):
        assert [d.fields for d in batch] == [{"id": c * 100 + i, "s": str(c)} for i in range(100)]


def test_later_operations(service):
    """These methods cannot decode an error: whatever it is, they raise 1000028 with the server's text inside."""
    calls = [lambda: service.async_rerank("q", "c"),
             lambda: service.async_batch_rerank([{"query": "q", "content": "c", "title": ""}])]
    for call in calls:
        with pytest.raises(VikingDBException, match='"code":1000024') as error:
            asyncio.run(call())
        assert error.value.code == 1000028
