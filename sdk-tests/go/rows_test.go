package clients

import (
	"testing"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

// pairs is an empty collection with the fields id, a and n.
func pairs(t *testing.T, service *vikingdb.VikingDBService) *vikingdb.Collection {
	t.Helper()
	fields := []vikingdb.Field{key, {FieldName: "a", FieldType: vikingdb.String}, {FieldName: "n", FieldType: vikingdb.Int64}}
	made, err := service.CreateCollection(freshName(t, service), fields, "")
	must(t, err)
	return made
}

func pair(id int, a string, n int) vikingdb.Data {
	return vikingdb.Data{Fields: object{"id": id, "a": a, "n": n}}
}

const missing = "no data found"

func fetched(t *testing.T, collection *vikingdb.Collection, id interface{}) list {
	t.Helper()
	found, err := collection.FetchData(id)
	must(t, err)
	rows := list{}
	for _, data := range found {
		rows = append(rows, data.Fields)
	}
	return rows
}

func TestEveryTypeComesBackExactly(t *testing.T) {
	service := connect()
	made, err := service.CreateCollection(freshName(t, service), []vikingdb.Field{
		key,
		{FieldName: "i", FieldType: vikingdb.Int64},
		{FieldName: "f", FieldType: vikingdb.Float32},
		{FieldName: "s", FieldType: vikingdb.String},
		{FieldName: "b", FieldType: vikingdb.Bool},
		{FieldName: "li", FieldType: vikingdb.ListInt64},
		{FieldName: "ls", FieldType: vikingdb.ListString},
		{FieldName: "v", FieldType: vikingdb.Vector, Dim: 4},
		{FieldName: "sv", FieldType: vikingdb.Sparse_Vector},
		{FieldName: "t", FieldType: vikingdb.Text},
		{FieldName: "img", FieldType: vikingdb.Image},
	}, "")
	must(t, err)
	row := object{
		"id": 1<<63 - 1, "i": int64(-1 << 63), "f": 0.1, "s": "北京 \u0000 \U0001f6a2 \" \\ \n <&>", "b": true,
		"li": []int64{1<<53 + 1, -1<<53 - 1, 0}, "ls": []string{"", "a\tb", "北"},
		"v": []float64{0.1, -2.5, 1e30, 0}, "sv": map[string]float64{"tok": 0.25, "北": -1.5},
		"t": "long text", "img": "tos://bucket/a/b.png",
	}
	must(t, made.UpsertData(vikingdb.Data{Fields: row}))
	same(t, fetched(t, made, 1<<63-1), list{row})
}

func TestUpsertFetchAndDeleteOneOrMany(t *testing.T) {
	rows := pairs(t, connect())
	must(t, rows.UpsertData(pair(1, "x", 1)))
	must(t, rows.UpsertData([]vikingdb.Data{pair(2, "y", 2), pair(3, "z", 3), pair(4, "w", 4)}))
	must(t, rows.UpsertData(vikingdb.Data{Fields: object{"id": 1, "n": 9}}))
	same(t, fetched(t, rows, 1), list{object{"id": 1, "a": "default", "n": 9}})
	found, err := rows.FetchData([]int{4, 7, 2})
	must(t, err)
	same(t, ids(found), list{4, 7, 2})
	same(t, found[0].Fields, object{"id": 4, "a": "w", "n": 4})
	same(t, found[1].Fields, object{"id": 7, "message": missing})
	same(t, fetched(t, rows, 8), list{object{"id": 8, "message": missing}})

	must(t, rows.DeleteData(1))
	must(t, rows.DeleteData([]int{2, 3, 77}))
	found, err = rows.FetchData([]int{1, 2, 3, 4})
	must(t, err)
	for _, data := range found[:3] {
		same(t, data.Fields["message"], missing)
	}
	same(t, found[3].Fields["n"], 4)
	must(t, rows.DeleteAllData())
	same(t, fetched(t, rows, 4), list{object{"id": 4, "message": missing}})
}

func TestAsynchronousUpsertsAreThereAfterTheirAnswer(t *testing.T) {
	rows := pairs(t, connect())
	must(t, rows.UpsertData(pair(1, "x", 1), vikingdb.WithAsyncUpsert(true)))
	must(t, rows.UpsertData([]vikingdb.Data{pair(2, "x", 2)}, vikingdb.WithAsyncUpsert(true)))
	must(t, rows.AsyncUpsertData(pair(3, "x", 3)))
	must(t, rows.AsyncUpsertData([]vikingdb.Data{pair(4, "x", 4)}))
	for id, row := range fetched(t, rows, []int{1, 2, 3, 4}) {
		same(t, row, object{"id": id + 1, "a": "x", "n": id + 1})
	}
}

func TestUpdateTouchesOnlyWhatItNames(t *testing.T) {
	rows := pairs(t, connect())
	must(t, rows.UpsertData([]vikingdb.Data{pair(1, "x", 1), pair(2, "y", 2)}))
	must(t, rows.UpdateData(vikingdb.Data{Fields: object{"id": 1, "n": 10}}))
	must(t, rows.UpdateData([]vikingdb.Data{
		{Fields: object{"id": 1, "a": "z"}}, {Fields: object{"id": 2, "n": 20}, TTL: 3600},
	}))
	same(t, fetched(t, rows, []int{1, 2}), list{object{"id": 1, "a": "z", "n": 10}, object{"id": 2, "a": "y", "n": 20}})
	refused(t, rows.UpdateData(vikingdb.Data{Fields: object{"id": 3, "n": 1}}), dataNotFound)
}

func TestAListIsSplitByTTL(t *testing.T) {
	rows := pairs(t, connect())
	short, long, never := pair(1, "x", 1), pair(2, "x", 2), pair(3, "x", 3)
	short.TTL, long.TTL = 1, 3600
	must(t, rows.UpsertData([]vikingdb.Data{short, long, never}))
	eventually(t, func() bool { return fetched(t, rows, 1)[0].(object)["message"] == missing })
	same(t, fetched(t, rows, []int{2, 3}), list{long.Fields, never.Fields})
}

func TestStringKeysAndTheClientThatDoesNotKnowTheirName(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	fields := []vikingdb.Field{
		{FieldName: "k", FieldType: vikingdb.String, IsPrimaryKey: true}, {FieldName: "n", FieldType: vikingdb.Int64},
	}
	made, err := service.CreateCollection(name, fields, "")
	must(t, err)
	must(t, made.UpsertData(vikingdb.Data{Fields: object{"k": "a/b", "n": 1}}))
	same(t, fetched(t, made, "a/b"), list{object{"k": "a/b", "n": 1}})

	client := vikingdb.NewCollectionClient(name, host, region, accessKey, secretKey, "http")
	patient(client.VikingDBService)
	must(t, client.UpsertData(vikingdb.Data{Fields: object{"k": "c", "n": 2}}))
	found, err := client.FetchData([]string{"c", "d", "a/b"})
	must(t, err)
	same(t, ids(found), list{"c", "d", "a/b"})
	same(t, found[0].Fields, object{"__primary_key": "c", "k": "c", "n": 2})
	_, err = client.FetchData([]int{1})
	refused(t, err, invalidKey)
	must(t, client.DeleteData([]string{"c"}))
	same(t, fetched(t, made, []string{"c"}), list{object{"k": "c", "message": missing}})
	refused(t, client.UpsertData(vikingdb.Data{Fields: object{"n": 1}}), invalidRequest)
}
