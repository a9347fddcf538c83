package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

// user_id is 2 or 6 and the city is 北京.
var (
	users   = object{"user_id": []int{2, 6}, "city": []string{"北京"}}
	matches = list{2, 6, 22, 26, 42, 46, 62, 66, 82, 86}
)

// awaited is the task, as soon as it is in that state.
func awaited(t *testing.T, service *vikingdb.VikingDBService, id, status string) *vikingdb.Task {
	t.Helper()
	var task *vikingdb.Task
	eventually(t, func() bool {
		var err error
		task, err = service.GetTask(id)
		must(t, err)
		ended := task.TaskStatus == vikingdb.Done || task.TaskStatus == vikingdb.Fail
		if ended && task.TaskStatus != status {
			t.Fatalf("the task ended as %s: %v", task.TaskStatus, task.ProcessInfo)
		}
		return task.TaskStatus == status
	})
	return task
}

func alive(t *testing.T, collection *vikingdb.Collection) list {
	t.Helper()
	all := []int{}
	for i := 0; i < 100; i++ {
		all = append(all, i)
	}
	left := list{}
	for _, row := range fetched(t, collection, all) {
		if row := row.(object); row["message"] == nil {
			left = append(left, row["id"])
		}
	}
	return left
}

func TestFilterDeleteShowsAsksAndDeletes(t *testing.T) {
	service := connect()
	rows := people(t, service)
	id, err := service.CreateTask(vikingdb.Filter_Delete, object{"collection_name": rows.CollectionName, "filter": users})
	must(t, err)
	task := awaited(t, service, id, vikingdb.Confirm)
	same(t, list{task.TaskID, task.TaskType, task.CollectionName, task.UpdatePerson},
		list{id, "filter_delete", rows.CollectionName, accessKey})
	same(t, task.TaskParams, object{"collection_name": rows.CollectionName, "filter": users})
	isTime(t, task.CreateTime)
	isTime(t, task.UpdateTime)
	info := task.ProcessInfo
	same(t, list{info["total_data_count"], info["total_filter_count"], info["total_deleted_count"], info["task_progress"]},
		list{100, 10, 0, "50%"})
	samples := list{}
	for _, key := range matches[:5] {
		sample := person(key.(int))
		delete(sample, "v")
		samples = append(samples, sample)
	}
	same(t, info["sampled_data"], samples)
	same(t, len(alive(t, rows)), 100)

	tasks, err := service.ListTasks()
	must(t, err)
	same(t, list{tasks[0].TaskID, tasks[0].TaskStatus}, list{id, "confirm"})
	must(t, service.UpdateTask(id, vikingdb.Confirmed))
	same(t, awaited(t, service, id, vikingdb.Done).ProcessInfo["total_deleted_count"], 10)
	left := alive(t, rows)
	same(t, len(left), 90)
	for _, key := range left {
		for _, doomed := range matches {
			if fmt.Sprint(key) == fmt.Sprint(doomed) {
				t.Fatalf("row %v survived", key)
			}
		}
	}
	must(t, service.DropTask(id))
	refused(t, service.DropTask(id), taskNotFound)
	refused(t, service.UpdateTask(id, vikingdb.Confirmed), taskNotFound)
	_, err = service.GetTask(id)
	refused(t, err, taskNotFound)
}

func TestADroppedDeleteDeletesNothing(t *testing.T) {
	service := connect()
	rows := people(t, service)
	id, err := service.CreateTask(vikingdb.Filter_Delete, object{"collection_name": rows.CollectionName, "filter": users})
	must(t, err)
	awaited(t, service, id, vikingdb.Confirm)
	refused(t, service.UpdateTask(id, vikingdb.Done), invalidRequest)
	must(t, service.DropTask(id))
	tasks, err := service.ListTasks()
	must(t, err)
	for _, task := range tasks {
		if task.TaskID == id {
			t.Fatal("a dropped task is listed")
		}
	}
	same(t, len(alive(t, rows)), 100)
}

func TestExportWritesTheRowsOfTheFilter(t *testing.T) {
	service := connect()
	rows := people(t, service)
	id, err := service.CreateTask(vikingdb.Data_Export, object{
		"collection_name": rows.CollectionName, "filter": users, "file_type": "json", "tos_path": "exports/go"})
	must(t, err)
	info := awaited(t, service, id, vikingdb.Done).ProcessInfo
	same(t, list{info["total_data_count"], info["total_filter_count"], info["task_progress"]}, list{100, 10, "100%"})
	same(t, info["files"], list{"exports/go/" + id + "/0.json"})

	exported := list{}
	for _, line := range strings.Split(strings.TrimSpace(string(download(t, "exports/go/"+id+"/0.json"))), "\n") {
		decoder := json.NewDecoder(bytes.NewBufferString(line))
		decoder.UseNumber()
		var row object
		must(t, decoder.Decode(&row))
		exported = append(exported, row)
	}
	want := list{}
	for _, key := range matches {
		want = append(want, person(key.(int)))
	}
	same(t, exported, want)
	must(t, service.DropTask(id))
}

func TestRefusedTasks(t *testing.T) {
	service := connect()
	name := people(t, service).CollectionName
	for _, one := range []struct {
		kind   string
		params object
		code   int
	}{
		{vikingdb.Filter_Delete, object{"collection_name": name}, invalidRequest},
		{vikingdb.Filter_Delete, object{"collection_name": name + "_not", "filter": users}, collectionNotExist},
		{vikingdb.Data_Export, object{"collection_name": name, "tos_path": "exports/../x"}, invalidRequest},
		{"nonsense", object{"collection_name": name}, invalidRequest},
		{vikingdb.Data_Import, object{"collection_name": name, "tos_path": "a/b", "file_type": "parquet"}, notImplemented},
	} {
		_, err := service.CreateTask(one.kind, one.params)
		refused(t, err, one.code)
	}
	_, err := service.GetTask("00000000-0000-4000-8000-000000000000")
	refused(t, err, taskNotFound)
}
