package clients

import (
	"sort"
	"testing"

	"github.com/volcengine/volc-sdk-golang/service/vikingdb"
)

const indexName = "idx"

func vectors(kind, distance string) *vikingdb.IndexOptions {
	params := &vikingdb.VectorIndexParams{IndexType: kind, Distance: distance, Quant: vikingdb.Float}
	return vikingdb.NewIndexOptions().SetVectorIndex(params)
}

// flat is an exact index over people, nearest by Euclidean distance.
func flat(t *testing.T, service *vikingdb.VikingDBService) *vikingdb.Index {
	t.Helper()
	index, err := service.CreateIndex(people(t, service).CollectionName, indexName, vectors(vikingdb.FLAT, vikingdb.L2))
	must(t, err)
	return index
}

func indexClient(index *vikingdb.Index) *vikingdb.Index {
	client := vikingdb.NewIndexClient(index.CollectionName, index.IndexName, host, region, accessKey, secretKey, "http")
	patient(client.VikingDBService)
	return &client.Index
}

func scalars(t *testing.T, index *vikingdb.Index) list {
	t.Helper()
	names := plain(t, index.ScalarIndex).(list)
	sort.Slice(names, func(a, b int) bool { return names[a].(string) < names[b].(string) })
	return names
}

func TestTheLifeOfAnIndex(t *testing.T) {
	service := connect()
	name := people(t, service).CollectionName
	params := &vikingdb.VectorIndexParams{Distance: vikingdb.COSINE, HnswM: 16, HnswCef: 100, HnswSef: 200}
	options := vikingdb.NewIndexOptions().SetVectorIndex(params).SetCpuQuota(3).SetDescription("d").
		SetPartitionBy("city").SetScalarIndex([]string{"city", "score"}).SetShardCount(2).SetShardPolicy(vikingdb.Custom)
	made, err := service.CreateIndex(name, indexName, options)
	must(t, err)
	same(t, list{made.CollectionName, made.IndexName}, list{name, indexName})
	_, err = service.CreateIndex(name, indexName, vikingdb.NewIndexOptions())
	refused(t, err, indexExist)

	seen, err := service.GetIndex(name, indexName)
	must(t, err)
	same(t, seen.VectorIndex, vikingdb.VectorIndexParams{
		IndexType: "hnsw", Distance: "cosine", Quant: "int8", HnswM: 16, HnswCef: 100, HnswSef: 200})
	same(t, list{seen.Stat, seen.Description, seen.PartitionBy, seen.ShardPolicy, seen.ShardCount, seen.UpdatePerson},
		list{"READY", "d", "city", "custom", 2, accessKey})
	same(t, scalars(t, seen), list{"city", "score"})
	// The client never fills in its CpuQuota; the cost has the same number.
	same(t, seen.IndexCost.(object)["cpu_core"], 3)
	isTime(t, seen.CreateTime)

	change := vikingdb.NewUpdateIndexOptions().SetDescription("e").SetCpuQuota(4).SetShardCount(3)
	change.SetScalarIndex([]string{"user_id"})
	must(t, service.UpdateIndex(name, indexName, change))
	listed, err := service.ListIndexes(name)
	must(t, err)
	same(t, list{len(listed), listed[0].IndexName, listed[0].Description, listed[0].ShardCount}, list{1, indexName, "e", 3})
	same(t, scalars(t, listed[0]), list{"city", "score", "user_id"})
	collection, err := service.GetCollection(name)
	must(t, err)
	same(t, list{len(collection.Indexes), collection.Indexes[0].IndexName}, list{1, indexName})

	must(t, service.DropIndex(name, indexName))
	refused(t, service.DropIndex(name, indexName), indexNotExist)
	_, err = service.GetIndex(name, indexName)
	refused(t, err, indexNotExist)
	listed, err = service.ListIndexes(name)
	must(t, err)
	same(t, len(listed), 0)
}

func TestEveryTypeOfIndexCanBeMade(t *testing.T) {
	service := connect()
	name := people(t, service).CollectionName
	for kind, quant := range map[string]string{
		vikingdb.FLAT: vikingdb.Fix16, vikingdb.HNSW: vikingdb.Int8, vikingdb.IVF: vikingdb.Int8,
		vikingdb.DiskANN: vikingdb.PQ, vikingdb.Sort: vikingdb.Float,
	} {
		options := vectors(kind, vikingdb.IP)
		options.SetVectorIndex(&vikingdb.VectorIndexParams{IndexType: kind, Distance: vikingdb.IP, Quant: quant})
		_, err := service.CreateIndex(name, "i_"+kind, options)
		must(t, err)
		seen, err := service.GetIndex(name, "i_"+kind)
		must(t, err)
		same(t, list{seen.VectorIndex.IndexType, seen.VectorIndex.Quant}, list{kind, quant})
	}
	listed, err := service.ListIndexes(name)
	must(t, err)
	same(t, len(listed), 5)
}

func TestFetchThroughAnIndex(t *testing.T) {
	index := flat(t, connect())
	one, err := index.FetchData(7, vikingdb.NewSearchOptions())
	must(t, err)
	same(t, list{len(one), one[0].Id, one[0].Fields}, list{1, 7, object{"user_id": 7, "city": "O'Higgins", "score": 0.875}})
	gone, err := index.FetchData(1000, vikingdb.NewSearchOptions())
	must(t, err)
	same(t, gone[0].Fields, object{"message": missing})

	for _, one := range []*vikingdb.Index{index, indexClient(index)} {
		found, err := one.FetchData([]int{3, 1000, 5}, vikingdb.NewSearchOptions().SetOutputFields([]string{"city", "v"}))
		must(t, err)
		same(t, ids(found), list{3, 1000, 5})
		same(t, found[0].Fields, object{"city": "O'Higgins", "v": list{3, 3, 3, 3}})
		same(t, found[1].Fields, object{"message": missing})
	}
	_, err = index.FetchData(7, vikingdb.NewSearchOptions().SetOutputFields([]string{"nope"}))
	refused(t, err, invalidRequest)
	_, err = index.FetchData("x", vikingdb.NewSearchOptions())
	refused(t, err, invalidKey)
}

func TestPartitions(t *testing.T) {
	service := connect()
	options := vectors(vikingdb.FLAT, vikingdb.L2).SetPartitionBy("city")
	index, err := service.CreateIndex(people(t, service).CollectionName, indexName, options)
	must(t, err)
	shanghai := vikingdb.NewSearchOptions().SetPartition("shanghai").SetLimit(2)
	found, err := index.SearchByVector(origin, shanghai)
	must(t, err)
	same(t, ids(found), list{1, 5})
	found, err = index.FetchData(0, shanghai)
	must(t, err)
	same(t, found[0].Fields, object{"message": missing})
	found, err = index.FetchData(0, vikingdb.NewSearchOptions().SetPartition("beijing"))
	must(t, err)
	same(t, found[0].Fields["city"], "beijing")
	count, err := index.SearchAgg(vikingdb.NewSearchAggOptions().SetAgg(object{"op": "count"}).SetPartition("shanghai"))
	must(t, err)
	same(t, count.AggResult, object{"_total": 25})

	byUser, err := service.CreateIndex(index.CollectionName, "by_user", options.SetPartitionBy("user_id"))
	must(t, err)
	_, err = byUser.SearchByVector(origin, shanghai)
	refused(t, err, invalidPartition)
}
