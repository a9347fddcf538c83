// Package clients drives the vendor's Go client, unmodified, against a live server. sdk-tests/run.sh starts both.
package clients

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

const region = "cn-north-1"

// Where the server is, its administrator's key, and the binary with the command line.
var (
	host      = os.Getenv("KNARR_HOST")
	accessKey = os.Getenv("KNARR_ACCESS_KEY")
	secretKey = os.Getenv("KNARR_SECRET_KEY")
	binary    = os.Getenv("KNARR_BIN")
)

// Codes of docs/wire/vikingdb.md section 2.1.
const (
	unauthorized       = 1000001
	invalidRequest     = 1000003
	collectionExist    = 1000004
	collectionNotExist = 1000005
	indexExist         = 1000007
	indexNotExist      = 1000008
	dataNotFound       = 1000011
	invalidVector      = 1000016
	invalidKey         = 1000017
	invalidPartition   = 1000018
	invalidCondition   = 1000019
	notImplemented     = 1000024
	embeddingFailed    = 1000025
	taskNotFound       = 1000035
)

func TestMain(m *testing.M) {
	if host == "" || accessKey == "" || secretKey == "" || binary == "" {
		fmt.Fprintln(os.Stderr, "no server: sdk-tests/run.sh starts one and then these tests")
		os.Exit(2)
	}
	os.Exit(m.Run())
}

type object = map[string]interface{}

type list = []interface{}

func connect() *vikingdb.VikingDBService {
	return patient(vikingdb.NewVikingDBService(host, region, accessKey, secretKey, "http"))
}

// patient waits longer than the client's own 5 seconds, which a sync to a busy disk can take.
func patient(service *vikingdb.VikingDBService) *vikingdb.VikingDBService {
	service.SetConnectionTimeout(60)
	return service
}

// freshName is a name that no other test has; its collection is dropped at the end if it is still there.
func freshName(t *testing.T, service *vikingdb.VikingDBService) string {
	t.Helper()
	random := make([]byte, 6)
	_, err := rand.Read(random)
	must(t, err)
	name := "go_" + hex.EncodeToString(random)
	t.Cleanup(func() {
		if err := service.DropCollection(name); err != nil {
			refused(t, err, collectionNotExist)
		}
	})
	return name
}

var cities = []string{"beijing", "shanghai", "北京", "O'Higgins"}

// people is a collection of 100 rows: user_id = id % 10, city one of four, score = id / 8, v = [id] * 4.
func people(t *testing.T, service *vikingdb.VikingDBService) *vikingdb.Collection {
	t.Helper()
	collection, err := service.CreateCollection(freshName(t, service), []vikingdb.Field{
		{FieldName: "id", FieldType: vikingdb.Int64, IsPrimaryKey: true},
		{FieldName: "user_id", FieldType: vikingdb.Int64},
		{FieldName: "city", FieldType: vikingdb.String},
		{FieldName: "score", FieldType: vikingdb.Float32},
		{FieldName: "v", FieldType: vikingdb.Vector, Dim: 4},
	}, "")
	must(t, err)
	rows := []vikingdb.Data{}
	for i := 0; i < 100; i++ {
		rows = append(rows, vikingdb.Data{Fields: person(i)})
	}
	must(t, collection.UpsertData(rows))
	return collection
}

func person(i int) object {
	return object{"id": i, "user_id": i % 10, "city": cities[i%4], "score": float64(i) / 8, "v": list{i, i, i, i}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The text by which the client itself finds the code of an error, to see whether it should try again.
var failure = regexp.MustCompile(`"code":(\d+),"message":"(.*?)","request_id":"([a-fA-F0-9]+)"`)

func refused(t *testing.T, err error, code int) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, expected code %d", code)
	}
	if found := failure.FindStringSubmatch(err.Error()); found == nil || found[1] != strconv.Itoa(code) {
		t.Fatalf("expected code %d, got: %v", code, err)
	}
}

// same compares two values as JSON: numbers by value, int64 exactly.
func same(t *testing.T, got, want interface{}) {
	t.Helper()
	if g, w := plain(t, got), plain(t, want); !reflect.DeepEqual(g, w) {
		t.Fatalf("got  %v\nwant %v", g, w)
	}
}

func plain(t *testing.T, value interface{}) interface{} {
	t.Helper()
	text, err := json.Marshal(value)
	must(t, err)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var decoded interface{}
	must(t, decoder.Decode(&decoded))
	return numbers(decoded)
}

// numbers replaces every number of a decoded value by an int64, or by a float64 where it has a fraction.
func numbers(value interface{}) interface{} {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		float, _ := value.Float64()
		if whole := int64(float); float64(whole) == float && whole < 1<<53 && whole > -1<<53 {
			return whole
		}
		return float
	case list:
		for i := range value {
			value[i] = numbers(value[i])
		}
	case object:
		for name := range value {
			value[name] = numbers(value[name])
		}
	}
	return value
}

func ids(found []*vikingdb.Data) list {
	keys := list{}
	for _, data := range found {
		keys = append(keys, data.Id)
	}
	return keys
}

func isTime(t *testing.T, text string) {
	t.Helper()
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that the server does in its own time.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("gave up waiting")
		}
	}
}

// download returns the bytes of the object `bucket/key`.
func download(t *testing.T, path string) []byte {
	t.Helper()
	target := filepath.Join(t.TempDir(), "object")
	output, err := exec.Command(binary, "bucket", "get", path, target, "--server", "http://"+host).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	content, err := os.ReadFile(target)
	must(t, err)
	return content
}
