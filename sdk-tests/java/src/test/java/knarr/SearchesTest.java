package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.Index;
import com.volcengine.service.vikingDB.common.DataObject;
import com.volcengine.service.vikingDB.common.DistanceType;
import com.volcengine.service.vikingDB.common.FieldType;
import com.volcengine.service.vikingDB.common.IndexSortParam;
import com.volcengine.service.vikingDB.common.IndexSortResult;
import com.volcengine.service.vikingDB.common.IndexType;
import com.volcengine.service.vikingDB.common.Order;
import com.volcengine.service.vikingDB.common.PageDataObject;
import com.volcengine.service.vikingDB.common.QuantType;
import com.volcengine.service.vikingDB.common.RawOrderParam;
import com.volcengine.service.vikingDB.common.ScalarOrder;
import com.volcengine.service.vikingDB.common.SearchAggParam;
import com.volcengine.service.vikingDB.common.SearchAggResult;
import com.volcengine.service.vikingDB.common.SearchByIdParam;
import com.volcengine.service.vikingDB.common.SearchByTextParam;
import com.volcengine.service.vikingDB.common.SearchByVectorParam;
import com.volcengine.service.vikingDB.common.SearchParam;
import com.volcengine.service.vikingDB.common.SearchWithMultiModalParam;
import com.volcengine.service.vikingDB.common.Text;
import com.volcengine.service.vikingDB.common.VectorOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class SearchesTest extends Live {
    /** Exact, over people, nearest by Euclidean distance. */
    private Index flat() throws Exception {
        return indexOfPeople(IndexType.FLAT, DistanceType.L2);
    }

    private Index indexOfPeople(String type, String distance) throws Exception {
        return service.createIndex(
            IndexesTest.index(people().getCollectionName(), type, distance, QuantType.Float).build());
    }

    private static List<Double> all(double x) {
        return Collections.nCopies(4, x);
    }

    private static SearchByVectorParam near(double x, int limit) throws Exception {
        return new SearchByVectorParam().setVector(all(x)).setLimit(limit).build();
    }

    private static SearchParam by(VectorOrder order, int limit) throws Exception {
        return new SearchParam().setVectorOrder(order).setLimit(limit).build();
    }

    private static SearchParam byScore(String order, int limit) throws Exception {
        return new SearchParam().setScalarOrder(new ScalarOrder("score", order).build()).setLimit(limit).build();
    }

    private static List<Double> scores(List<DataObject> found) {
        List<Double> scores = new ArrayList<>();
        found.forEach(data -> scores.add(data.getScore()));
        return scores;
    }

    @Test
    void searchInEveryOrder() throws Exception {
        Index known = flat();
        for (Index index : List.of(known, IndexesTest.clientOf(known))) {
            List<DataObject> found = index.searchByVector(near(20.2, 3));
            assertEquals(List.of(20L, 21L, 19L), ids(found));
            assertEquals(0.4, found.get(0).getScore(), 1e-4);
            assertEquals(map("user_id", 0L, "city", "beijing", "score", 2.5), found.get(0).getFields());
            found = index.searchById(new SearchByIdParam().setId(50).setLimit(2).build());
            assertEquals(List.of(50L, 49L), ids(found));
            assertEquals(List.of(0.0, 2.0), scores(found));
            assertEquals(List.of(1L), ids(index.search(by(new VectorOrder().setVector(all(1)).build(), 1))));
            assertEquals(List.of(2L), ids(index.search(by(new VectorOrder().setId(2).build(), 1))));
            found = index.search(byScore(Order.Desc, 2));
            assertEquals(List.of(99L, 98L), ids(found));
            assertEquals(List.of(99 / 8.0, 98 / 8.0), scores(found));
            assertEquals(List.of(0L, 1L), ids(index.search(byScore(Order.Asc, 2))));
            found = index.search(new SearchParam().setLimit(5000).setOutputFields(List.of()).build());
            assertEquals(100, new HashSet<>(ids(found)).size());
            assertEquals(Collections.nCopies(100, Map.of()), fields(found));
        }
    }

    @Test
    void pagesCountWhatPassesTheFilter() throws Exception {
        Index known = flat();
        Map<String, Object> third = map("op", "must", "field", "user_id", "conds", List.of(3));
        for (Index index : List.of(known, IndexesTest.clientOf(known))) {
            PageDataObject page = index.searchPagination(
                by(new VectorOrder().setVector(all(0)).build(), 2).setFilter(third).setOffset(2));
            assertEquals(List.of(23L, 33L), ids(page.getItems()));
            assertEquals(map("search_count", 10L), page.getPagination());
            page = index.searchPagination(by(new VectorOrder().setId(50).build(), 1).setOffset(1));
            assertEquals(List.of(49L), ids(page.getItems()));
            page = index.searchPagination(byScore(Order.Desc, 2).setOffset(1).setScaleK(2f));
            assertEquals(List.of(98L, 97L), ids(page.getItems()));
            page = index.searchPagination(new SearchParam().setLimit(7).setFilter(third).build());
            assertEquals(7, page.getItems().size());
            assertEquals(map("search_count", 10L), page.getPagination());
            refused(EMBEDDING_FAILED, () -> index.searchPagination(
                new SearchParam().setRawOrder(new RawOrderParam().setText("hello")).build()));
        }
    }

    @Test
    void filtersKeysAndOperations() throws Exception {
        Index index = flat();
        Map<String, Object> must = map("op", "must", "field", "user_id", "conds", List.of(3));
        assertEquals(List.of(3L, 13L, 23L), ids(index.searchByVector(near(0, 3).setFilter(must))));
        Map<String, Object> range = map("op", "range", "field", "score", "gte", 0.5, "lt", 0.75);
        Map<String, Object> either = map("op", "or", "conds", List.of(must, range));
        assertEquals(List.of(3L, 4L, 5L, 13L), ids(index.searchByVector(near(0, 4).setFilter(either))));
        SearchByVectorParam keys = near(0, 9).setPrimaryKeyIn(List.of(9, 8)).setPrimaryKeyNotIn(List.of(8));
        assertEquals(List.of(9L), ids(index.searchByVector(keys)));
        List<Map<String, Object>> ops = List.of(map("op", "string_match", "field", "city", "pattern", "^(bei|shang)"),
            map("op", "enum_freq_limiter", "field", "city", "threshold", 2));
        SearchByVectorParam limited = near(0, 9).setPostProcessOps(ops).setPostProcessInputLimit(90).setScaleK(2f);
        assertEquals(List.of(0L, 1L, 4L, 5L), ids(index.searchByVector(limited)));
        SearchByVectorParam full = near(5, 1).setNeedReturnVector(true).setOutputFields(List.of("city"));
        assertEquals(map("city", "shanghai", "v", all(5)), index.searchByVector(full).get(0).getFields());
    }

    @Test
    void refusedSearches() throws Exception {
        Index index = flat();
        Map<String, Object> onVector = map("op", "must", "field", "v", "conds", List.of(1));
        refused(INVALID_VECTOR, () -> index.searchByVector(near(1, 1).setVector(List.of(1.0)).setRetry(true)));
        refused(INVALID_REQUEST, () -> index.searchByVector(near(1, 5001)));
        refused(INVALID_CONDITION, () -> index.searchByVector(near(1, 1).setFilter(onVector)));
        refused(INVALID_REQUEST, () -> index.searchByVector(near(1, 1).setOutputFields(List.of("nope"))));
        refused(INVALID_KEY, () -> index.searchById(new SearchByIdParam().setId("x").build()));
        // No model is configured for texts, and there is none for images.
        refused(EMBEDDING_FAILED, () -> index.searchByText(
            new SearchByTextParam().setText(new Text().setText("hello").build()).build()));
        refused(EMBEDDING_FAILED, () -> index.searchWithMultiModal(new SearchWithMultiModalParam().setText("hello")
            .setImage("aGVsbG8=").setNeedInstruction(true).build()));
    }

    @Test
    void hybridSearch() throws Exception {
        Collection made = create(freshName(), key(), field("v", FieldType.Vector).setDim(4),
            field("s", FieldType.Sparse_Vector));
        List<DataObject> rows = new ArrayList<>();
        for (int i = 1; i < 10; i++) {
            rows.add(data(map("id", i, "v", List.of(i, 0, 0, 0), "s", map("w" + i % 3, 1.0))));
        }
        made.upsertData(rows);
        Index index = service.createIndex(
            IndexesTest.index(made.getCollectionName(), IndexType.HNSW_HYBRID, DistanceType.IP, QuantType.Float).build());
        HashMap<String, Object> sparse = map("w1", 100.0);
        List<DataObject> found = index.searchByVector(new SearchByVectorParam().setVector(List.of(1.0, 0.0, 0.0, 0.0))
            .setSparseVectors(sparse).setDenseWeight(0.5).setLimit(3).build());
        assertEquals(List.of(7L, 4L, 1L), ids(found));
        assertEquals(List.of(53.5, 52.0, 50.5), scores(found));
        VectorOrder both = new VectorOrder().setVector(List.of(1.0, 0.0, 0.0, 0.0)).setSparseVectors(sparse).build();
        assertEquals(List.of(7L), ids(index.search(by(both, 1))));
    }

    @Test
    void aggregate() throws Exception {
        Index index = flat();
        SearchAggResult count = index.searchAgg(new SearchAggParam()
            .setAgg(map("op", "count", "field", "city", "cond", map("gt", 24)))
            .setFilter(map("op", "range", "field", "score", "lt", 12.375)).build());
        assertEquals(List.of("count", "city"), List.of(count.getAggOp(), count.getGroupByField()));
        assertEquals(map("beijing", 25L, "shanghai", 25L, "北京", 25L), count.getAggResult());
        SearchAggParam total = new SearchAggParam().setAgg(map("op", "count")).build();
        assertEquals(map("_total", 100L), index.searchAgg(total).getAggResult());
        SearchAggParam sum = new SearchAggParam().setAgg(map("op", "sum", "field", "score")).build();
        refused(INVALID_REQUEST, () -> index.searchAgg(sum));
    }

    @Test
    void sortScoresTheGivenRows() throws Exception {
        Index index = indexOfPeople(IndexType.SORT, DistanceType.IP);
        IndexSortResult<Long> sorted = index.sort(
            new IndexSortParam<Long>().setQueryVector(all(1)).setPrimaryKeys(List.of(3L, 1000L, 9L)).build());
        assertEquals(List.of(1000L), sorted.getPrimaryKeyNotExist());
        assertEquals(List.of(item(9, 36), item(3, 12)), sorted.getSortResult());
        // The client takes a score for a Double: one without a fraction is a Long to it, and it fails.
        sorted = index.sort(new IndexSortParam<Long>().setQueryVector(all(1e15)).setPrimaryKeys(List.of(4L, 8L)).build());
        assertEquals(List.of(), sorted.getPrimaryKeyNotExist());
        assertEquals(List.of(item(8, 32e15), item(4, 16e15)), sorted.getSortResult());
    }

    private static IndexSortResult.InnerSortResult<Long> item(long key, double score) {
        return new IndexSortResult.InnerSortResult<Long>().setPrimaryKey(key).setScore(score);
    }
}
