package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.Index;
import com.volcengine.service.vikingDB.IndexClient;
import com.volcengine.service.vikingDB.common.CreateIndexParam;
import com.volcengine.service.vikingDB.common.DataObject;
import com.volcengine.service.vikingDB.common.DistanceType;
import com.volcengine.service.vikingDB.common.FetchDataParam;
import com.volcengine.service.vikingDB.common.IndexType;
import com.volcengine.service.vikingDB.common.QuantType;
import com.volcengine.service.vikingDB.common.SearchAggParam;
import com.volcengine.service.vikingDB.common.SearchByVectorParam;
import com.volcengine.service.vikingDB.common.ShardType;
import com.volcengine.service.vikingDB.common.UpdateIndexParam;
import com.volcengine.service.vikingDB.common.VectorIndexParams;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class IndexesTest extends Live {
    static final String INDEX = "idx";

    static CreateIndexParam index(String collection, String type, String distance, String quant) {
        return new CreateIndexParam().setCollectionName(collection).setIndexName(INDEX)
            .setVectorIndex(new VectorIndexParams().setIndexType(type).setDistance(distance).setQuant(quant).build());
    }

    static Index clientOf(Index index) throws Exception {
        Index client = new IndexClient(index.getCollectionName(), INDEX, HOST, REGION, ACCESS_KEY, SECRET_KEY, "http");
        patient(client.getVikingDBService());
        return client;
    }

    private static FetchDataParam fetch() {
        return new FetchDataParam().build();
    }

    @Test
    void theLifeOfAnIndex() throws Exception {
        String name = people().getCollectionName();
        VectorIndexParams params = new VectorIndexParams().setIndexType(IndexType.HNSW).setDistance(DistanceType.COSINE)
            .setHnswM(16).setHnswCef(100).setHnswSef(200).build();
        CreateIndexParam asked = new CreateIndexParam().setCollectionName(name).setIndexName(INDEX).setVectorIndex(params)
            .setCpuQuoat(3).setDescription("d").setPartitionBy("city").setScalarIndex(List.of("city", "score"))
            .setShardCount(2).setShardPolicy(ShardType.Custom).build();
        assertEquals("id", service.createIndex(asked).requestPrimaryKey());
        refused(INDEX_EXIST, () -> service.createIndex(asked));

        Index seen = service.getIndex(name, INDEX);
        assertEquals(params.setQuant(QuantType.Int8), seen.getVectorIndex());
        assertEquals(List.of("READY", "d", "city", "custom", 2, 3, ACCESS_KEY),
            List.of(seen.getStat(), seen.getDescription(), seen.getPartitionBy(), seen.getShardPolicy(),
                seen.getShardCount(), seen.getCpuQuota(), seen.getUpdatePerson()));
        assertEquals(Set.of("city", "score"), Set.copyOf(seen.getScalarIndex()));
        assertEquals(3L, seen.getIndexCost().get("cpu_core"));
        isTime(seen.getCreateTime());
        isTime(seen.getUpdateTime());

        service.updateIndex(new UpdateIndexParam().setCollectionName(name).setIndexName(INDEX).setDescription("e")
            .setCpuQuoat(4).setScalarIndex(List.of("user_id")).setShardCount(3).build());
        List<Index> listed = service.listIndexes(name);
        assertEquals(1, listed.size());
        seen = listed.get(0);
        assertEquals(List.of(INDEX, "e", 4, 3),
            List.of(seen.getIndexName(), seen.getDescription(), seen.getCpuQuota(), seen.getShardCount()));
        assertEquals(Set.of("city", "score", "user_id"), Set.copyOf(seen.getScalarIndex()));
        assertEquals(List.of(INDEX), service.getCollection(name).getIndexes());

        service.dropIndex(name, INDEX);
        refused(INDEX_NOT_EXIST, () -> service.dropIndex(name, INDEX));
        refused(INDEX_NOT_EXIST, () -> service.getIndex(name, INDEX));
        assertEquals(List.of(), service.listIndexes(name));
    }

    @Test
    void everyTypeOfIndexCanBeMade() throws Exception {
        String name = people().getCollectionName();
        Map<String, String> types = Map.of(IndexType.FLAT, QuantType.Fix16, IndexType.HNSW, QuantType.Int8, IndexType.IVF,
            QuantType.Int8, IndexType.DiskANN, QuantType.PQ, IndexType.SORT, QuantType.Float);
        for (Map.Entry<String, String> type : types.entrySet()) {
            String made = "i_" + type.getKey();
            service.createIndex(index(name, type.getKey(), DistanceType.IP, type.getValue()).setIndexName(made).build());
            VectorIndexParams seen = service.getIndex(name, made).getVectorIndex();
            assertEquals(List.of(type.getKey(), type.getValue()), List.of(seen.getIndexType(), seen.getQuant()));
        }
        assertEquals(types.size(), service.listIndexes(name).size());
    }

    @Test
    void fetchThroughAnIndex() throws Exception {
        Collection people = people();
        Index index = service.createIndex(
            index(people.getCollectionName(), IndexType.FLAT, DistanceType.L2, QuantType.Float).build());
        DataObject one = index.fetchData(7L, fetch());
        assertEquals(7L, one.getId());
        assertEquals(map("user_id", 7L, "city", "O'Higgins", "score", 0.875), one.getFields());
        // The client takes an item without fields for the fields.
        assertEquals(map("id", 1000L, "message", MISSING), index.fetchData(1000, fetch()).getFields());

        for (Index each : List.of(index, clientOf(index))) {
            FetchDataParam some = new FetchDataParam().setOutputFields(List.of("city", "v")).build();
            List<DataObject> found = each.fetchData(List.of(3, 1000, 5), some);
            assertEquals(List.of(3L, 1000L, 5L), ids(found));
            assertEquals(map("city", "O'Higgins", "v", List.of(3.0, 3.0, 3.0, 3.0)), found.get(0).getFields());
            assertEquals(MISSING, found.get(1).getFields().get("message"));
            assertEquals("shanghai", each.fetchData(5, some).getFields().get("city"));
        }
        refused(INVALID_REQUEST, () -> index.fetchData(7, new FetchDataParam().setOutputFields(List.of("nope")).build()));
        refused(INVALID_KEY, () -> index.fetchData("x", fetch()));
    }

    @Test
    void partitions() throws Exception {
        Index index = service.createIndex(
            index(people().getCollectionName(), IndexType.FLAT, DistanceType.L2, QuantType.Float)
                .setPartitionBy("user_id").build());
        SearchByVectorParam near = new SearchByVectorParam().setVector(List.of(0.0, 0.0, 0.0, 0.0)).setLimit(3).build();
        assertEquals(List.of(4L, 14L, 24L), ids(index.searchByVector(near.setPartition(4))));
        assertEquals(List.of(4L, 5L, 14L), ids(index.searchByVector(near.setPartition(List.of(4, 5)))));
        refused(INVALID_PARTITION, () -> index.searchByVector(near.setPartition("beijing")));
        SearchAggParam count = new SearchAggParam().setAgg(map("op", "count")).setPartition(4).build();
        assertEquals(map("_total", 10L), index.searchAgg(count).getAggResult());
        assertEquals(4L, index.fetchData(4, fetch().setPartition(4)).getFields().get("user_id"));
        assertEquals(MISSING, index.fetchData(4, fetch().setPartition(5)).getFields().get("message"));
    }
}
