package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.common.CreateCollectionParam;
import com.volcengine.service.vikingDB.common.Field;
import com.volcengine.service.vikingDB.common.FieldType;
import com.volcengine.service.vikingDB.common.UpdateCollectionParam;
import com.volcengine.service.vikingDB.common.VectorizeTuple;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

class CollectionsTest extends Live {
    @Test
    void aWrongSecretIsRefusedByTheFirstPing() {
        Exception refusal = assertThrows(Exception.class, () -> connect(SECRET_KEY + "x"));
        assertTrue(refusal.getMessage().startsWith("host or region is incorrect"), refusal.getMessage());
        assertTrue(refusal.getMessage().contains("\"code\":1000001,"), refusal.getMessage());
    }

    @Test
    void aHeaderOfTheCallersIsSignedWithTheRest() throws Exception {
        service.setHeader(new HashMap<>(Map.of("X-Trace-Id", "a b")));
        service.listCollections();
    }

    @Test
    void everyFieldTypeIsEchoed() throws Exception {
        String name = freshName();
        List<Field> fields = List.of(key(), field("i", FieldType.Int64).setDefaultVal(Long.MIN_VALUE),
            field("f", FieldType.Float32).setDefaultVal(0.5), field("s", FieldType.String).setDefaultVal("北京 <&>"),
            field("b", FieldType.Bool).setDefaultVal(true),
            field("li", FieldType.List_Int64).setDefaultVal(List.of(Long.MAX_VALUE)),
            field("ls", FieldType.List_String).setDefaultVal(List.of("x", "")), field("v", FieldType.Vector).setDim(8),
            field("sv", FieldType.Sparse_Vector), field("t", FieldType.Text), field("img", FieldType.Image));
        Collection made = service.createCollection(new CreateCollectionParam().setCollectionName(name).setFields(fields)
            .setDescription("all types").SetProject("java_tests").build());
        assertEquals(List.of(name, "id"), List.of(made.getCollectionName(), made.getPrimaryKey()));

        Collection seen = service.getCollection(name);
        assertEquals(List.of("id", "all types", List.of()),
            List.of(seen.getPrimaryKey(), seen.getDescription(), seen.getIndexes()));
        assertEquals(0L, seen.getStat().get("data_number"));
        assertEquals(ACCESS_KEY, seen.getUpdatePerson());
        isTime(seen.getCreateTime());
        isTime(seen.getUpdateTime());
        assertEquals(fields, seen.getFields());
    }

    @Test
    void aNameIsTakenUntilItIsDropped() throws Exception {
        String name = freshName();
        create(name, key()).upsertData(data(map("id", 1)));
        refused(COLLECTION_EXIST, () -> create(name, key()));
        service.dropCollection(name);
        refused(COLLECTION_NOT_EXIST, () -> service.dropCollection(name));
        refused(COLLECTION_NOT_EXIST, () -> service.getCollection(name));
        refused(INVALID_REQUEST, () -> create("1a", key()));
    }

    @Test
    void withoutAKeyFieldKeysAreGenerated() throws Exception {
        String name = freshName();
        create(name, field("s", FieldType.String)).upsertData(List.of(data(map("s", "a")), data(map("s", "a"))));
        Collection seen = service.getCollection(name);
        assertEquals("__AUTO_ID__", seen.getPrimaryKey());
        assertEquals(1, seen.getFields().size());
        assertEquals(2L, seen.getStat().get("data_number"));
    }

    @Test
    void listShowsAProjectOrEverything() throws Exception {
        String here = freshName();
        String there = freshName();
        for (String name : List.of(here, there)) {
            service.createCollection(new CreateCollectionParam().setCollectionName(name).setFields(List.of(key()))
                .setDescription("of " + name).SetProject("p_" + name).build());
        }
        // Without a project the client sends the body `null`.
        Map<String, Collection> all = service.listCollections().stream()
            .collect(Collectors.toMap(Collection::getCollectionName, collection -> collection));
        assertEquals("of " + here, all.get(here).getDescription());
        assertEquals("of " + there, all.get(there).getDescription());
        assertEquals(List.of(key()), all.get(here).getFields());
        assertEquals(List.of(here), service.listCollections("p_" + here).stream().map(Collection::getCollectionName)
            .collect(Collectors.toList()));
    }

    @Test
    void updateAddsFieldsThatOldRowsReadByDefault() throws Exception {
        String name = freshName();
        create(name, key()).upsertData(data(map("id", 1)));
        Field added = field("n", FieldType.Int64).setDefaultVal(7L);
        service.updateCollection(new UpdateCollectionParam().setCollectionName(name).setFields(List.of(added)).build());
        service.updateCollection(new UpdateCollectionParam().setCollectionName(name).setFields(List.of())
            .setDescription("after").build());
        Collection seen = service.getCollection(name);
        assertEquals("after", seen.getDescription());
        assertEquals(List.of(key(), added), seen.getFields());
        assertEquals(map("id", 1L, "n", 7L), seen.fetchData(1).getFields());

        UpdateCollectionParam other = new UpdateCollectionParam().setCollectionName(name)
            .setFields(List.of(field("n", FieldType.String))).build();
        refused(INVALID_REQUEST, () -> service.updateCollection(other));
    }

    @Test
    void vectorizeIsEchoed() throws Exception {
        String name = freshName();
        VectorizeTuple tuple = new VectorizeTuple()
            .setDense(new VectorizeTuple.VectorizeModelConf().setTextField("t").setModelName("doubao-embedding")
                .setModelVersion("240715").setDim(2048).build())
            .setSparse(new VectorizeTuple.VectorizeModelConf().setTextField("t").setModelName("bge-m3").build()).build();
        service.createCollection(new CreateCollectionParam().setCollectionName(name)
            .setFields(List.of(key(), field("t", FieldType.Text))).setVectorize(List.of(tuple)).build());
        assertEquals(List.of(tuple), service.getCollection(name).getVectorize());
    }
}
