package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.VikingDBException;
import com.volcengine.service.vikingDB.VikingDBService;
import com.volcengine.service.vikingDB.common.CreateCollectionParam;
import com.volcengine.service.vikingDB.common.DataObject;
import com.volcengine.service.vikingDB.common.Field;
import com.volcengine.service.vikingDB.common.FieldType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.function.Executable;

/** A live server, named by the environment, and what tests of it share. */
abstract class Live {
    static final String REGION = "cn-north-1";
    static final String HOST = environment("KNARR_HOST");
    static final String ACCESS_KEY = environment("KNARR_ACCESS_KEY");
    static final String SECRET_KEY = environment("KNARR_SECRET_KEY");
    /** The server's binary, for its command line. */
    static final String BINARY = environment("KNARR_BIN");

    // Codes of docs/wire/vikingdb.md section 2.1.
    static final int INVALID_REQUEST = 1000003;
    static final int COLLECTION_EXIST = 1000004;
    static final int COLLECTION_NOT_EXIST = 1000005;
    static final int INDEX_EXIST = 1000007;
    static final int INDEX_NOT_EXIST = 1000008;
    static final int DATA_NOT_FOUND = 1000011;
    static final int INVALID_VECTOR = 1000016;
    static final int INVALID_KEY = 1000017;
    static final int INVALID_PARTITION = 1000018;
    static final int INVALID_CONDITION = 1000019;
    static final int NOT_IMPLEMENTED = 1000024;
    static final int EMBEDDING_FAILED = 1000025;
    static final int TASK_NOT_FOUND = 1000035;

    static final String MISSING = "no data found";
    static final List<String> CITIES = List.of("beijing", "shanghai", "北京", "O'Higgins");

    final VikingDBService service;
    private final List<String> made = new ArrayList<>();

    Live() {
        try {
            service = connect(SECRET_KEY);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static String environment(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalStateException(name + " is not set: sdk-tests/run.sh starts a server and then these tests");
        }
        return value;
    }

    static VikingDBService connect(String secretKey) throws Exception {
        return patient(new VikingDBService(HOST, REGION, ACCESS_KEY, secretKey, "http"));
    }

    /** Waits longer than the client's own 5 seconds, which a sync to a busy disk can take. */
    static VikingDBService patient(VikingDBService service) {
        service.setSocketTimeout(60_000);
        return service;
    }

    /** A name that no other test has; its collection is dropped at the end if it is still there. */
    String freshName() {
        String name = "java_" + UUID.randomUUID().toString().replace('-', '_');
        made.add(name);
        return name;
    }

    @AfterEach
    void dropWhatWasMade() throws Exception {
        for (String name : made) {
            try {
                service.dropCollection(name);
            } catch (VikingDBException gone) {
                assertEquals(COLLECTION_NOT_EXIST, gone.getCode());
            }
        }
        service.destroy();
    }

    static Field field(String name, String type) {
        return new Field().setFieldName(name).setFieldType(type);
    }

    static Field key() {
        return field("id", FieldType.Int64).setPrimaryKey(true);
    }

    Collection create(String name, Field... fields) throws Exception {
        return service.createCollection(
            new CreateCollectionParam().setCollectionName(name).setFields(List.of(fields)).build());
    }

    /** 100 rows: user_id = id % 10, city one of four, score = id / 8, v = [id] * 4. */
    Collection people() throws Exception {
        Collection people = create(freshName(), key(), field("user_id", FieldType.Int64), field("city", FieldType.String),
            field("score", FieldType.Float32), field("v", FieldType.Vector).setDim(4));
        List<DataObject> rows = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            rows.add(data(person(i)));
        }
        people.upsertData(rows);
        return people;
    }

    static HashMap<String, Object> person(long i) {
        return map("id", i, "user_id", i % 10, "city", CITIES.get((int) (i % 4)), "score", i / 8.0,
            "v", Collections.nCopies(4, (double) i));
    }

    static DataObject data(HashMap<String, Object> fields) throws Exception {
        return new DataObject().setFields(fields).build();
    }

    /** Names and values in turn. */
    static HashMap<String, Object> map(Object... members) {
        HashMap<String, Object> map = new HashMap<>();
        for (int i = 0; i < members.length; i += 2) {
            map.put((String) members[i], members[i + 1]);
        }
        return map;
    }

    static List<Object> ids(List<DataObject> found) {
        return found.stream().map(DataObject::getId).collect(Collectors.toList());
    }

    static List<Map<String, Object>> fields(List<DataObject> found) {
        return found.stream().map(DataObject::getFields).collect(Collectors.toList());
    }

    static void refused(int code, Executable call) {
        VikingDBException refusal = assertThrows(VikingDBException.class, call);
        assertEquals(code, refusal.getCode(), refusal.getMessage());
        assertTrue(refusal.getRequestId().matches("[0-9a-f]{53}"), refusal.getRequestId());
    }

    static void isTime(String text) {
        OffsetDateTime.parse(text);
    }

    /** Waits for something that the server does in its own time. */
    static void eventually(Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.call()) {
            assertTrue(System.nanoTime() < deadline, "gave up waiting");
            Thread.sleep(20);
        }
    }

    /** The text of the object `bucket/key`. */
    static String download(String path) throws Exception {
        Path target = Files.createTempFile("knarr-object", null);
        try {
            Process get = new ProcessBuilder(BINARY, "bucket", "get", path, target.toString(), "--server", "http://" + HOST)
                .redirectErrorStream(true).start();
            String output = new String(get.getInputStream().readAllBytes());
            assertEquals(0, get.waitFor(), output);
            return Files.readString(target);
        } finally {
            Files.delete(target);
        }
    }
}
