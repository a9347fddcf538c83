package knarr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.volcengine.service.vikingDB.Collection;
import com.volcengine.service.vikingDB.Task;
import com.volcengine.service.vikingDB.common.CreateTaskParam;
import com.volcengine.service.vikingDB.common.TaskStatus;
import com.volcengine.service.vikingDB.common.TaskType;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class TasksTest extends Live {
    /** user_id is 2 or 6 and the city is 北京. */
    private static final Map<String, Object> USERS = map("user_id", List.of(2L, 6L), "city", List.of("北京"));
    private static final List<Long> MATCHES = List.of(2L, 6L, 22L, 26L, 42L, 46L, 62L, 66L, 82L, 86L);

    private String create(String type, Object... params) throws Exception {
        return service.createTask(new CreateTaskParam().setTaskType(type).setTaskParams(map(params)).build());
    }

    /** The task, as soon as it is in that state. */
    private Task awaited(String id, String status) throws Exception {
        List<Task> last = new ArrayList<>();
        eventually(() -> {
            Task task = service.getTask(id);
            last.add(task);
            boolean ended = List.of(TaskStatus.Done, TaskStatus.Fail).contains(task.getTaskStatus());
            assertTrue(!ended || task.getTaskStatus().equals(status), () -> "the task ended: " + task);
            return task.getTaskStatus().equals(status);
        });
        return last.get(last.size() - 1);
    }

    private static List<Object> alive(Collection collection) throws Exception {
        List<Long> keys = LongStream.range(0, 100).boxed().collect(Collectors.toList());
        return collection.fetchData(keys).stream().filter(data -> !data.getFields().containsKey("message"))
            .map(data -> data.getId()).collect(Collectors.toList());
    }

    @Test
    void filterDeleteShowsAsksAndDeletes() throws Exception {
        Collection people = people();
        String name = people.getCollectionName();
        String id = create(TaskType.FilterDelete, "collection_name", name, "filter", USERS);
        Task task = awaited(id, TaskStatus.Confirm);
        assertEquals(List.of(id, "filter_delete", name, ACCESS_KEY),
            List.of(task.getTaskId(), task.getTaskType(), task.getCollectionName(), task.getUpdatePerson()));
        assertEquals(map("collection_name", name, "filter", USERS), task.getTaskParams());
        isTime(task.getCreateTime());
        isTime(task.getUpdateTime());
        HashMap<String, Object> info = task.getProcessInfo();
        assertEquals(List.of(100L, 10L, 0L, "50%"), List.of(info.get("total_data_count"), info.get("total_filter_count"),
            info.get("total_deleted_count"), info.get("task_progress")));
        List<Map<String, Object>> samples = MATCHES.stream().limit(5).map(Live::person).collect(Collectors.toList());
        samples.forEach(sample -> sample.remove("v"));
        assertEquals(samples, info.get("sampled_data"));
        assertEquals(100, alive(people).size());

        // The client sends the body `null`.
        Task first = service.listTasks().get(0);
        assertEquals(List.of(id, "confirm"), List.of(first.getTaskId(), first.getTaskStatus()));
        service.updateTask(id, TaskStatus.Confirmed);
        assertEquals(10L, awaited(id, TaskStatus.Done).getProcessInfo().get("total_deleted_count"));
        assertEquals(LongStream.range(0, 100).boxed().filter(key -> !MATCHES.contains(key)).collect(Collectors.toList()),
            alive(people));
        service.dropTask(id);
        refused(TASK_NOT_FOUND, () -> service.dropTask(id));
        refused(TASK_NOT_FOUND, () -> service.updateTask(id, TaskStatus.Confirmed));
        refused(TASK_NOT_FOUND, () -> service.getTask(id));
    }

    @Test
    void aDroppedDeleteDeletesNothing() throws Exception {
        Collection people = people();
        String id = create(TaskType.FilterDelete, "collection_name", people.getCollectionName(), "filter", USERS);
        awaited(id, TaskStatus.Confirm);
        refused(INVALID_REQUEST, () -> service.updateTask(id, TaskStatus.Done));
        service.dropTask(id);
        for (Task task : service.listTasks()) {
            assertNotEquals(id, task.getTaskId());
        }
        assertEquals(100, alive(people).size());
    }

    @Test
    void exportWritesTheRowsOfTheFilter() throws Exception {
        String id = create(TaskType.DataExport, "collection_name", people().getCollectionName(), "filter", USERS,
            "file_type", "json", "tos_path", "exports/java");
        HashMap<String, Object> info = awaited(id, TaskStatus.Done).getProcessInfo();
        assertEquals(List.of(100L, 10L, "100%"),
            List.of(info.get("total_data_count"), info.get("total_filter_count"), info.get("task_progress")));
        String file = "exports/java/" + id + "/0.json";
        assertEquals(List.of(file), info.get("files"));

        Gson gson = new GsonBuilder().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();
        List<Object> rows = new ArrayList<>();
        for (String line : download(file).split("\n")) {
            rows.add(gson.fromJson(line, Map.class));
        }
        assertEquals(MATCHES.stream().map(Live::person).collect(Collectors.toList()), rows);
        service.dropTask(id);
    }

    @Test
    void refusedTasks() throws Exception {
        String name = people().getCollectionName();
        refused(INVALID_REQUEST, () -> create(TaskType.FilterDelete, "collection_name", name));
        refused(COLLECTION_NOT_EXIST,
            () -> create(TaskType.FilterDelete, "collection_name", name + "_not", "filter", USERS));
        refused(INVALID_REQUEST,
            () -> create(TaskType.DataExport, "collection_name", name, "tos_path", "exports/../x"));
        refused(INVALID_REQUEST, () -> create("nonsense", "collection_name", name));
        refused(NOT_IMPLEMENTED,
            () -> create(TaskType.DataImport, "collection_name", name, "tos_path", "a/b", "file_type", "parquet"));
        refused(TASK_NOT_FOUND, () -> service.getTask("00000000-0000-4000-8000-000000000000"));
    }
}
