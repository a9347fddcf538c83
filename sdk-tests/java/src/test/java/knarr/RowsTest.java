package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.CollectionClient;
import com.volcengine.service.vikingDB.common.DataObject;
import com.volcengine.service.vikingDB.common.FieldType;
import java.util.HashMap;
import java.util.List;
import org.junit.jupiter.api.Test;

class RowsTest extends Live {
    /** Empty, with the fields id, a and n. */
    private Collection pairs() throws Exception {
        return create(freshName(), key(), field("a", FieldType.String), field("n", FieldType.Int64));
    }

    private static HashMap<String, Object> pair(long id, String a, long n) {
        return map("id", id, "a", a, "n", n);
    }

    private static HashMap<String, Object> gone(long id) {
        return map("id", id, "message", MISSING);
    }

    @Test
    void everyTypeComesBackExactly() throws Exception {
        Collection wide = create(freshName(), key(), field("i", FieldType.Int64), field("f", FieldType.Float32),
            field("s", FieldType.String), field("b", FieldType.Bool), field("li", FieldType.List_Int64),
            field("ls", FieldType.List_String), field("v", FieldType.Vector).setDim(4),
            field("sv", FieldType.Sparse_Vector), field("t", FieldType.Text), field("img", FieldType.Image));
        HashMap<String, Object> row = map("id", Long.MAX_VALUE, "i", Long.MIN_VALUE, "f", 0.1,
            "s", "北京 \u0000 \uD83D\uDEA2 \" \\ \n <&>", "b", true, "li", List.of((1L << 53) + 1, -(1L << 53) - 1, 0L),
            "ls", List.of("", "a\tb", "北"), "v", List.of(0.1, -2.5, 1e30, 0.0), "sv", map("tok", 0.25, "北", -1.5),
            "t", "long text", "img", "tos://bucket/a/b.png");
        wide.upsertData(data(row));
        assertEquals(row, wide.fetchData(Long.MAX_VALUE).getFields());
    }

    @Test
    void upsertFetchAndDeleteOneOrMany() throws Exception {
        Collection rows = pairs();
        rows.upsertData(data(pair(1, "x", 1)));
        rows.upsertData(List.of(data(pair(2, "y", 2)), data(pair(3, "z", 3)), data(pair(4, "w", 4))));
        rows.upsertData(data(map("id", 1, "n", 9)));
        assertEquals(pair(1, "default", 9), rows.fetchData(1).getFields());
        List<DataObject> found = rows.fetchData(List.of(4, 7, 2));
        assertEquals(List.of(4L, 7L, 2L), ids(found));
        assertEquals(List.of(pair(4, "w", 4), gone(7), pair(2, "y", 2)), fields(found));
        assertEquals(gone(8), rows.fetchData(8).getFields());

        rows.deleteData(1);
        rows.deleteData(List.of(2, 77));
        rows.deleteData(List.of(3), true);
        assertEquals(List.of(gone(1), gone(2), gone(3), pair(4, "w", 4)), fields(rows.fetchData(List.of(1, 2, 3, 4))));
        rows.deleteAllData();
        assertEquals(gone(4), rows.fetchData(4).getFields());
    }

    @Test
    void asynchronousUpsertsAreThereAfterTheirAnswer() throws Exception {
        Collection rows = pairs();
        rows.upsertData(data(pair(1, "x", 1)), true);
        rows.upsertData(List.of(data(pair(2, "x", 2))), true);
        assertEquals(List.of(pair(1, "x", 1), pair(2, "x", 2)), fields(rows.fetchData(List.of(1, 2))));
    }

    @Test
    void updateTouchesOnlyWhatItNames() throws Exception {
        Collection rows = pairs();
        rows.upsertData(List.of(data(pair(1, "x", 1)), data(pair(2, "y", 2))));
        rows.updateData(data(map("id", 1, "n", 10)));
        rows.updateData(List.of(data(map("id", 1, "a", "z")), data(map("id", 2, "n", 20)).setTTL(3600)));
        assertEquals(List.of(pair(1, "z", 10), pair(2, "y", 20)), fields(rows.fetchData(List.of(1, 2))));
        refused(DATA_NOT_FOUND, () -> rows.updateData(data(map("id", 3, "n", 1))));
    }

    @Test
    void aListIsSplitByTtl() throws Exception {
        Collection rows = pairs();
        rows.upsertData(List.of(data(pair(1, "x", 1)).setTTL(1), data(pair(2, "x", 2)).setTTL(3600), data(pair(3, "x", 3)),
            data(pair(4, "x", 4)).setTTL(0)));
        eventually(() -> rows.fetchData(1).getFields().equals(gone(1)));
        assertEquals(List.of(pair(2, "x", 2), pair(3, "x", 3), pair(4, "x", 4)), fields(rows.fetchData(List.of(2, 3, 4))));
    }

    @Test
    void stringKeysAndTheClientThatDoesNotKnowTheirName() throws Exception {
        String name = freshName();
        Collection rows = create(name, field("k", FieldType.String).setPrimaryKey(true), field("n", FieldType.Int64));
        rows.upsertData(data(map("k", "a/b", "n", 1)));
        assertEquals(map("k", "a/b", "n", 1L), rows.fetchData("a/b").getFields());

        CollectionClient client = new CollectionClient(name, HOST, REGION, ACCESS_KEY, SECRET_KEY, "http");
        patient(client.getVikingDBService());
        client.upsertData(data(map("k", "c", "n", 2)));
        List<DataObject> found = client.fetchData(List.of("c", "d", "a/b"));
        assertEquals(List.of("c", "d", "a/b"), ids(found));
        assertEquals(map("__primary_key", "c", "k", "c", "n", 2L), found.get(0).getFields());
        assertEquals(2L, client.fetchData("c").getFields().get("n"));
        refused(INVALID_KEY, () -> client.fetchData(List.of(1)));
        client.deleteData("c");
        assertEquals(map("k", "c", "message", MISSING), rows.fetchData("c").getFields());
        refused(INVALID_REQUEST, () -> client.upsertData(data(map("n", 1))));
    }
}
