package clients

import (
	"math"
	"testing"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

var origin = []float64{0, 0, 0, 0}

func search(t *testing.T, index *vikingdb.Index, order interface{}, options *vikingdb.SearchOptions) []*vikingdb.Data {
	t.Helper()
	found, err := index.Search(order, options)
	must(t, err)
	return found
}

func near(vector ...float64) vikingdb.VectorOrder { return vikingdb.VectorOrder{Vector: vector} }

func limit(n int64) *vikingdb.SearchOptions { return vikingdb.NewSearchOptions().SetLimit(n) }

func TestSearchInEveryOrder(t *testing.T) {
	known := flat(t, connect())
	for _, index := range []*vikingdb.Index{known, indexClient(known)} {
		found, err := index.SearchByVector([]float64{20.2, 20.2, 20.2, 20.2}, limit(3))
		must(t, err)
		same(t, ids(found), list{20, 21, 19})
		if math.Abs(found[0].Score-0.4) > 1e-4 {
			t.Fatalf("score %v", found[0].Score)
		}
		same(t, found[0].Fields, object{"user_id": 0, "city": "beijing", "score": 2.5})
		same(t, ids(search(t, index, near(1, 1, 1, 1), limit(2).SetOffset(1))), list{0, 2})
		found, err = index.SearchById(50, limit(2))
		must(t, err)
		same(t, list{ids(found), found[0].Score, found[1].Score}, list{list{50, 49}, 0, 2})
		same(t, ids(search(t, index, vikingdb.VectorOrder{Id: 2}, limit(1))), list{2})
		byScore := search(t, index, vikingdb.ScalarOrder{FieldName: "score", Order: vikingdb.Desc}, limit(2).SetOffset(1))
		same(t, list{ids(byScore), byScore[0].Score}, list{list{98, 97}, 98.0 / 8})
		byScore = search(t, index, vikingdb.ScalarOrder{FieldName: "score", Order: vikingdb.Asc}, limit(2))
		same(t, ids(byScore), list{0, 1})
		anything := search(t, index, nil, limit(5000).SetOutputFields([]string{}))
		seen := map[interface{}]bool{}
		for _, data := range anything {
			seen[plain(t, data.Id)] = true
			same(t, data.Fields, object{})
		}
		same(t, list{len(anything), len(seen)}, list{100, 100})
	}
}

func TestFiltersKeysAndOperations(t *testing.T) {
	index := flat(t, connect())
	must := object{"op": "must", "field": "user_id", "conds": []int{3}}
	same(t, ids(search(t, index, near(origin...), limit(3).SetFilter(must))), list{3, 13, 23})
	either := object{"op": "or", "conds": list{must, object{"op": "range", "field": "score", "gte": 0.5, "lt": 0.75}}}
	same(t, ids(search(t, index, near(origin...), limit(4).SetFilter(either))), list{3, 4, 5, 13})
	keys := limit(9).SetPrimaryKeyIn(list{9, 8}).SetPrimaryKeyNotIn(list{8})
	same(t, ids(search(t, index, near(origin...), keys)), list{9})
	ops := []map[string]interface{}{
		{"op": "string_match", "field": "city", "pattern": "^(bei|shang)"},
		{"op": "enum_freq_limiter", "field": "city", "threshold": 2},
	}
	operated := limit(9).SetPostProcessOps(ops).SetPostProcessInputLimit(90)
	same(t, ids(search(t, index, near(origin...), operated)), list{0, 1, 4, 5})
	full := search(t, index, near(5, 5, 5, 5), limit(1).SetNeedReturnVector(true).SetOutputFields([]string{"city"}))
	same(t, full[0].Fields, object{"city": "shanghai", "v": list{5, 5, 5, 5}})
}

func TestRefusedSearches(t *testing.T) {
	index := flat(t, connect())
	onVector := object{"op": "must", "field": "v", "conds": []int{1}}
	for _, one := range []struct {
		order   interface{}
		options *vikingdb.SearchOptions
		code    int
	}{
		{near(1, 1, 1), limit(1), invalidVector},
		{near(origin...), limit(5001), invalidRequest},
		{near(origin...), limit(1).SetFilter(onVector), invalidCondition},
		{near(origin...), limit(1).SetOutputFields([]string{"nope"}), invalidRequest},
		{vikingdb.VectorOrder{Id: "x"}, limit(1), invalidKey},
		{vikingdb.ScalarOrder{FieldName: "city", Order: vikingdb.Asc}, limit(1), invalidRequest},
	} {
		_, err := index.Search(one.order, one.options.SetRetry(true))
		refused(t, err, one.code)
	}
	// No model is configured for texts, and there is none for images.
	_, err := index.SearchByText(vikingdb.TextObject{Text: "hello"}, limit(1))
	refused(t, err, embeddingFailed)
	_, err = index.SearchWithMultiModal(limit(1).SetText("hello").SetImage("aGVsbG8=").SetNeedInstruction(true))
	refused(t, err, embeddingFailed)
}

func TestHybridSearch(t *testing.T) {
	service := connect()
	name := freshName(t, service)
	made, err := service.CreateCollection(name, []vikingdb.Field{
		key, {FieldName: "v", FieldType: vikingdb.Vector, Dim: 4}, {FieldName: "s", FieldType: vikingdb.Sparse_Vector},
	}, "")
	must(t, err)
	rows := []vikingdb.Data{}
	for i := 1; i < 10; i++ {
		word := string(rune('a' + i%3))
		rows = append(rows, vikingdb.Data{Fields: object{"id": i, "v": list{i, 0, 0, 0}, "s": object{word: 1}}})
	}
	must(t, made.UpsertData(rows))
	index, err := service.CreateIndex(name, indexName, vectors(vikingdb.HNSW_HYBRID, vikingdb.IP))
	must(t, err)
	hybrid := limit(3).SetSparseVectors(object{"b": 100.0}).SetDenseWeight(0.5)
	found, err := index.SearchByVector([]float64{1, 0, 0, 0}, hybrid)
	must(t, err)
	same(t, ids(found), list{7, 4, 1})
	same(t, list{found[0].Score, found[1].Score, found[2].Score}, list{53.5, 52.0, 50.5})
}

func TestAggregate(t *testing.T) {
	index := flat(t, connect())
	below := object{"op": "range", "field": "score", "lt": 12.375}
	agg := object{"op": "count", "field": "city", "cond": object{"gt": 24}}
	count, err := index.SearchAgg(vikingdb.NewSearchAggOptions().SetAgg(agg).SetFilter(below))
	must(t, err)
	same(t, count, vikingdb.SearchAggResult{AggOp: "count", GroupByField: "city",
		AggResult: object{"beijing": 25, "shanghai": 25, "北京": 25}})
	total, err := index.SearchAgg(vikingdb.NewSearchAggOptions().SetAgg(object{"op": "count"}))
	must(t, err)
	same(t, total.AggResult, object{"_total": 100})
	_, err = index.SearchAgg(vikingdb.NewSearchAggOptions().SetAgg(object{"op": "sum", "field": "score"}))
	refused(t, err, invalidRequest)
}

func TestSortScoresTheGivenRows(t *testing.T) {
	service := connect()
	index, err := service.CreateIndex(people(t, service).CollectionName, indexName, vectors(vikingdb.Sort, vikingdb.IP))
	must(t, err)
	options := vikingdb.NewSortOptions().SetQueryVector([]float64{1, 1, 1, 1}).SetPrimaryKeys(list{3, 1000, 9})
	sorted, err := index.Sort(options)
	must(t, err)
	same(t, sorted.SortResult, []vikingdb.SortResultItem{{PrimaryKey: 9, Score: 36}, {PrimaryKey: 3, Score: 12}})
	same(t, sorted.PrimaryKeyNotExist, list{1000})
	sorted, err = index.Sort(options.SetQueryVector([]float64{1e15, 1e15, 1e15, 1e15}).SetPrimaryKeys(list{8}))
	must(t, err)
	same(t, list{len(sorted.PrimaryKeyNotExist), sorted.SortResult[0].Score}, list{0, 32e15})
}
