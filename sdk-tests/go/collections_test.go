package clients

import (
	"fmt"
	"strings"
	"testing"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

var key = vikingdb.Field{FieldName: "id", FieldType: vikingdb.Int64, IsPrimaryKey: true}

func TestAWrongSecretIsRefusedByTheFirstPing(t *testing.T) {
	defer func() {
		said := fmt.Sprint(recover())
		if !strings.HasPrefix(said, "host or region is incorrect") {
			t.Fatal(said)
		}
		refused(t, fmt.Errorf("%s", said), unauthorized)
	}()
	vikingdb.NewVikingDBService(host, region, accessKey, secretKey+"x", "http")
	t.Fatal("a wrong secret was taken")
}

func TestAHeaderOfTheCallersIsSignedWithTheRest(t *testing.T) {
	service := connect()
	service.SetHeader(map[string]string{"X-Trace-Id": " a  b "})
	_, err := service.ListCollections()
	must(t, err)
}

func TestEveryFieldTypeIsEchoed(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	fields := []vikingdb.Field{
		key,
		{FieldName: "i", FieldType: vikingdb.Int64, DefaultVal: int64(-1 << 63)},
		{FieldName: "f", FieldType: vikingdb.Float32, DefaultVal: 0.5},
		{FieldName: "s", FieldType: vikingdb.String, DefaultVal: "北京 <&>"},
		{FieldName: "b", FieldType: vikingdb.Bool, DefaultVal: true},
		{FieldName: "li", FieldType: vikingdb.ListInt64, DefaultVal: []int64{1<<63 - 1}},
		{FieldName: "ls", FieldType: vikingdb.ListString, DefaultVal: []string{"x", ""}},
		{FieldName: "v", FieldType: vikingdb.Vector, Dim: 8},
		{FieldName: "sv", FieldType: vikingdb.Sparse_Vector},
		{FieldName: "t", FieldType: vikingdb.Text},
		{FieldName: "img", FieldType: vikingdb.Image},
	}
	made, err := service.CreateCollection(name, fields, "all types", vikingdb.Project{ProjectName: "go_tests"})
	must(t, err)
	same(t, list{made.CollectionName, made.PrimaryKey}, list{name, "id"})

	seen, err := service.GetCollection(name)
	must(t, err)
	same(t, list{seen.PrimaryKey, seen.Description, len(seen.Indexes), len(seen.Vectorize)}, list{"id", "all types", 0, 0})
	same(t, list{seen.Stat["data_number"], seen.UpdatePerson}, list{0, accessKey})
	isTime(t, seen.CreateTime)
	isTime(t, seen.UpdateTime)
	same(t, seen.Fields, fields)
}

func TestANameIsTakenUntilItIsDropped(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	made, err := service.CreateCollection(name, []vikingdb.Field{key}, "")
	must(t, err)
	_, err = service.CreateCollection(name, []vikingdb.Field{key}, "")
	refused(t, err, collectionExist)
	must(t, made.UpsertData(vikingdb.Data{Fields: object{"id": 1}}))
	must(t, service.DropCollection(name))
	refused(t, service.DropCollection(name), collectionNotExist)
	_, err = service.GetCollection(name)
	refused(t, err, collectionNotExist)
	_, err = service.CreateCollection("1a", []vikingdb.Field{key}, "")
	refused(t, err, invalidRequest)
}

func TestWithoutAKeyFieldKeysAreGenerated(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	made, err := service.CreateCollection(name, []vikingdb.Field{{FieldName: "s", FieldType: vikingdb.String}}, "")
	must(t, err)
	must(t, made.UpsertData([]vikingdb.Data{{Fields: object{"s": "a"}}, {Fields: object{"s": "a"}}}))
	seen, err := service.GetCollection(name)
	must(t, err)
	same(t, list{seen.PrimaryKey, len(seen.Fields), seen.Stat["data_number"]}, list{"__AUTO_ID__", 1, 2})
}

func TestListShowsAProjectOrEverything(t *testing.T) {
	service := connect()
	here, there := freshName(t, service), freshName(t, service)
	_, err := service.CreateCollection(here, []vikingdb.Field{key}, "one", vikingdb.Project{ProjectName: "go_here"})
	must(t, err)
	_, err = service.CreateCollection(there, []vikingdb.Field{key}, "two", vikingdb.Project{ProjectName: "go_there"})
	must(t, err)

	everything, err := service.ListCollections()
	must(t, err)
	described := object{}
	for _, one := range everything {
		described[one.CollectionName] = one.Description + "/" + one.PrimaryKey
	}
	same(t, list{described[here], described[there]}, list{"one/id", "two/id"})

	some, err := service.ListCollections(vikingdb.Project{ProjectName: "go_here"})
	must(t, err)
	same(t, list{len(some), some[0].CollectionName}, list{1, here})
}

func TestUpdateAddsFieldsThatOldRowsReadByDefault(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	made, err := service.CreateCollection(name, []vikingdb.Field{key}, "before")
	must(t, err)
	must(t, made.UpsertData(vikingdb.Data{Fields: object{"id": 1}}))
	added := []vikingdb.Field{{FieldName: "n", FieldType: vikingdb.Int64, DefaultVal: 7}}
	must(t, service.UpdateCollection(name, vikingdb.NewUpdateCollectionOptions().SetFields(added)))
	// Without fields the client sends `"fields":null`.
	must(t, service.UpdateCollection(name, vikingdb.NewUpdateCollectionOptions().SetDescription("after")))

	seen, err := service.GetCollection(name)
	must(t, err)
	same(t, seen.Description, "after")
	same(t, seen.Fields, append([]vikingdb.Field{key}, added...))
	row, err := seen.FetchData(1)
	must(t, err)
	same(t, row[0].Fields, object{"id": 1, "n": 7})

	other := []vikingdb.Field{{FieldName: "n", FieldType: vikingdb.String}}
	refused(t, service.UpdateCollection(name, vikingdb.NewUpdateCollectionOptions().SetFields(other)), invalidRequest)
}

func TestVectorizeIsEchoed(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	dense := vikingdb.NewVectorizeModelConf().SetTextField("t").SetModelName("doubao-embedding").SetModelVersion("240715")
	sparse := vikingdb.NewVectorizeModelConf().SetTextField("t").SetModelName("bge-m3")
	vectorize := []*vikingdb.VectorizeTuple{vikingdb.NewVectorizeTuple().SetDense(dense.SetDim(2048)).SetSparse(sparse)}
	fields := []vikingdb.Field{key, {FieldName: "t", FieldType: vikingdb.Text}}
	_, err := service.CreateCollection(name, fields, "", vectorize)
	must(t, err)
	seen, err := service.GetCollection(name)
	must(t, err)
	same(t, seen.Vectorize, vectorize)
}
