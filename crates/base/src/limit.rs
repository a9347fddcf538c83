//! Every bound of the system, with its unit and its reason. Nothing else in the code invents a limit.

use std::ops::RangeInclusive;
use std::time::Duration;

// Names and rows (docs/wire/vikingdb.md sections 2.2, 2.4, 3.7).

/// Bytes of a collection, index, field or alias name.
pub const NAME_BYTES: usize = 128;
/// Bytes of a bucket name; the common rule of S3, TOS and BOS.
pub const BUCKET_NAME_BYTES: usize = 63;
/// Bytes of an object key; the common rule of S3, TOS and BOS.
pub const OBJECT_KEY_BYTES: usize = 1024;
/// Bytes of a string primary key: keeps key ranges in metadata small.
pub const KEY_BYTES: usize = 1024;
/// Rows of one upsert, update, delete or fetch call; the vendor's limit, and it must stay below 128 because generated
/// keys keep the row's place in the call in 7 bits.
pub const ROWS_PER_CALL: usize = 100;
/// Stored bytes of one row; the vendor's limit.
pub const ROW_BYTES: usize = 65_535;
/// Fields of a collection; the vendor's limit.
pub const FIELDS: usize = 200;
/// Collections of an account; the vendor's limit.
pub const COLLECTIONS_PER_ACCOUNT: usize = 200;
/// Aliases of a collection.
pub const ALIASES_PER_COLLECTION: usize = 100;
/// Dimensions of a dense vector, and the number they are a multiple of; the vendor's limits.
pub const VECTOR_DIM_MIN: u32 = 4;
/// See [`VECTOR_DIM_MIN`].
pub const VECTOR_DIM_MAX: u32 = 4096;
/// See [`VECTOR_DIM_MIN`].
pub const VECTOR_DIM_STEP: u32 = 4;
/// Elements of a list field; bounded again by [`ROW_BYTES`].
pub const LIST_ELEMENTS: usize = 4096;
/// Bytes of a description.
pub const DESCRIPTION_BYTES: usize = 65_535;
/// Seconds of a TTL: a hundred years, so that adding it to a date cannot overflow.
pub const TTL_SECONDS: i64 = 3_155_760_000;

// Requests.

/// Bytes of a request body. 100 rows of the largest size fit as JSON text.
pub const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of an object put by one request; the common rule of S3, TOS and BOS.
pub const OBJECT_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Bytes of a refused body that are read and dropped, so that its sender gets to see the answer.
pub const REFUSED_BODY_BYTES: u64 = 4 * BODY_BYTES as u64;
/// Bytes of an error's sentence in an answer; it may quote the request.
pub const ERROR_MESSAGE_BYTES: usize = 1024;
/// Nesting of a JSON body; no documented call needs more than 14.
pub const JSON_DEPTH: usize = 32;
/// Headers of a request.
pub const HEADERS: usize = 64;
/// Bytes of a request's head (request line and headers).
pub const HEAD_BYTES: usize = 64 * 1024;
/// Time for a client to send its headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a client to send its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for one request from its last byte to its answer; past it the client gets 1000028 and the work is dropped.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Open connections; past it new ones wait in the kernel's queue.
pub const CONNECTIONS: usize = 1024;
/// Requests being handled at once; past it 429 / 1000029.
pub const REQUESTS_IN_FLIGHT: usize = 512;
/// Of them, those of one access key unless the settings say otherwise: a client in a loop leaves half to the others.
pub const REQUESTS_PER_KEY: usize = 256;
/// Access keys whose requests are counted; idle ones are forgotten first.
pub const KEYS_COUNTED: usize = 4096;
/// Body bytes held by all requests at once; past it 429 / 1000029.
pub const BODY_BYTES_IN_FLIGHT: usize = 512 * 1024 * 1024;
/// Distance of a request's date from the server's clock.
pub const CLOCK_SKEW: Duration = Duration::from_secs(900);
/// Derived signing keys kept, one per (key, day, region, service).
pub const SIGNING_KEYS_CACHED: usize = 1024;
/// Time for running requests to end after SIGTERM.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

// Filters (docs/wire/vikingdb.md section 4).

/// Nesting of a filter.
pub const FILTER_DEPTH: usize = 12;
/// Nodes of a filter.
pub const FILTER_NODES: usize = 1024;
/// Values of one `must` or `must_not`.
pub const FILTER_VALUES: usize = 10_000;

// Indexes and searches (docs/wire/vikingdb.md sections 2.5 to 2.8, 3.4, 3.7).

/// Indexes of a collection; the vendor's limit.
pub const INDEXES_PER_COLLECTION: usize = 100;
/// Indexes of an account; the vendor's limit.
pub const INDEXES_PER_ACCOUNT: usize = 200;
/// Cores an index may ask for; the vendor's range. Kept and echoed, nothing is reserved.
pub const INDEX_CPU_QUOTA: RangeInclusive<u32> = 1..=10_240;
/// Shards an index may ask for; the vendor's range. Kept and echoed.
pub const INDEX_SHARDS: RangeInclusive<u32> = 1..=256;
/// `hnsw_m`: wider than any graph that pays, so that no client's setting is refused without need.
pub const HNSW_M: RangeInclusive<u32> = 1..=512;
/// `hnsw_cef` and `hnsw_sef`: see [`HNSW_M`].
pub const HNSW_CANDIDATES: RangeInclusive<u32> = 1..=65_536;
/// Query vectors or keys of one search; the vendor's limit.
pub const SEARCH_QUERIES: usize = 10;
/// Rows of one search; the vendor's limit in v1, and ours in V2, whose pages say 100,000 in one place and 5000 in another:
/// an answer is built in memory, and whoever wants more rows than this wants an export.
pub const SEARCH_LIMIT: usize = 5000;
/// Rows that a search may skip: it bounds the candidates that one search keeps.
pub const SEARCH_OFFSET: usize = 100_000;
/// Operations after a search.
pub const POST_OPS: usize = 16;
/// Rows that operations after a search look at, and how many they may for one row of the answer; the vendor's limits.
pub const POST_OPS_INPUT: usize = 1600;
/// See [`POST_OPS_INPUT`].
pub const POST_OPS_INPUT_PER_ROW: usize = 10;
/// Rows that operations after a search look at when nothing is said; the vendor's default.
pub const POST_OPS_INPUT_DEFAULT: usize = 1000;
/// Bytes of a pattern of an operation after a search.
pub const PATTERN_BYTES: usize = 1024;
/// Bytes of a compiled pattern: a short text can stand for a huge automaton, and the worst case of reading a text is
/// its length times this.
pub const PATTERN_COMPILED_BYTES: usize = 256 * 1024;
/// Bytes of text that the patterns of one list may read; see [`PATTERN_COMPILED_BYTES`].
pub const PATTERN_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Tokens of a sparse query vector.
pub const SPARSE_QUERY_TOKENS: usize = 4096;
/// Factor on the candidates of a search; the vendor's range.
pub const SEARCH_SCALE: RangeInclusive<f64> = 0.1..=100.0;
/// Share of the dense score in a hybrid one; the vendor's range.
pub const DENSE_WEIGHT: RangeInclusive<f64> = 0.2..=1.0;
/// Groups of an aggregation: bounds the answer, and what one scan keeps in memory.
pub const AGG_GROUPS: usize = 100_000;
/// Bytes of a partition's name.
pub const PARTITION_BYTES: usize = 256;
/// Partitions that one call may name; the most a collection may have at the vendor.
pub const PARTITIONS_PER_CALL: usize = 1000;
/// Partitions that index/info lists; past it the list is cut.
pub const PARTITIONS_LISTED: usize = 1000;
/// Keys of index/sort.
pub const SORT_KEYS: usize = 5000;

// Embedding models.

/// Items of one request to embed; the vendor's limit.
pub const EMBEDDING_ITEMS: usize = 100;
/// The same of the V2 API; the vendor's limit.
pub const EMBEDDING_ITEMS_V2: usize = 10;
/// Items of one call to an endpoint: what common servers take unless they are told otherwise.
pub const EMBEDDING_BATCH: usize = 32;
/// Bytes of their texts and images, images as base64.
pub const EMBEDDING_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Time for all calls to an endpoint that one request needs; [`REQUEST_TIMEOUT`] leaves a write itself the rest.
pub const EMBEDDING_CALLS_TIME: Duration = Duration::from_secs(100);
/// Bytes of an image that a model reads; what hosted models take, and with base64 it fits a batch.
pub const EMBEDDING_IMAGE_BYTES: usize = 5 * 1024 * 1024;
/// Requests that hold images for a model at once; each holds a batch, and a copy of it on its way.
pub const EMBEDDING_IMAGE_REQUESTS: usize = 8;
/// Embedding calls on their way at once: each holds a blocking thread.
pub const EMBEDDING_CALLS: usize = 16;
/// Time a call waits for its turn before 429 / 1000029: a refusal throws away the vectors that a write's earlier calls
/// made.
pub const EMBEDDING_WAIT: Duration = Duration::from_secs(10);
/// Time to reach a model's endpoint.
pub const EMBEDDING_CONNECT: Duration = Duration::from_secs(3);
/// Time for its whole answer; well within [`REQUEST_TIMEOUT`].
pub const EMBEDDING_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of its answer: 100 vectors of the largest size, as text.
pub const EMBEDDING_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

// Tables.

/// Bytes of rows in a memtable before it is frozen and flushed.
pub const MEMTABLE_BYTES: usize = 64 * 1024 * 1024;
/// The same for a table whose vectors are searched: every search scans what is in memory, a tenth of a millisecond of it.
pub const MEMTABLE_BYTES_SEARCHED: usize = 2 * 1024 * 1024;
/// And while the memtable before it is still being flushed.
pub const MEMTABLE_BYTES_SEARCHED_BUSY: usize = 8 * 1024 * 1024;
/// Time without a write after which such a table's memtable is flushed, if it has rows enough for a search structure.
pub const MEMTABLE_IDLE: Duration = Duration::from_secs(2);
/// Frozen memtables waiting for their flush; past it writers wait.
pub const MEMTABLES_FROZEN: usize = 2;
/// Time a writer waits for memtable room before 429 / 1000029.
pub const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Calls queued for a table's committer; past it 429 / 1000029.
pub const COMMIT_QUEUE_CALLS: usize = 1024;
/// Bytes of one group commit: bounds the latency of the calls in it.
pub const COMMIT_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one log file; small enough that trimming frees space soon.
pub const LOG_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a growing file that are not synced yet: some milliseconds of a disk's work.
pub const UNSYNCED_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one log record: a call's rows of the largest size, with room for framing.
pub const LOG_RECORD_BYTES: usize = 16 * 1024 * 1024;
/// Rows of a record batch in a segment.
pub const BATCH_ROWS: usize = 64 * 1024;
/// Bytes of a record batch in a segment; bounds 32-bit string offsets and the cost of a first touch.
pub const BATCH_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of a segment; bounds the work of one compaction.
pub const SEGMENT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Segments of one size tier before they are merged.
pub const COMPACTION_FANOUT: usize = 4;
/// Dead share, in percent, at which a lone segment is rewritten.
pub const COMPACTION_DEAD_PERCENT: u64 = 30;
/// Time between two looks for expired rows and unreferenced files.
pub const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);

// Tasks (docs/wire/vikingdb.md section 5).

/// Bytes of `task_params`, which every info and list answer repeats; 10,000 texts of 200 bytes fit.
pub const TASK_PARAMS_BYTES: usize = 2 * 1024 * 1024;
/// Tasks of an account that are not final; past it task/create answers 429 / 1000029.
pub const TASKS_OPEN_PER_ACCOUNT: usize = 1000;
/// Units running at once on one machine; the compute pool is the real bound.
pub const UNITS_RUNNING: usize = 2;
/// Input bytes from which an export is cut in two, so that two workers share it.
pub const UNIT_SPLIT_BYTES: u64 = 16 * 1024 * 1024;
/// Rows that a scan's plan counts together: units begin and end at multiples of it, in row numbers of a batch.
pub const COUNT_BLOCK_ROWS: usize = 4096;
/// Rows of a row group in an exported parquet file; what a reader that wants one row must decode.
pub const ROW_GROUP_ROWS: usize = 64 * 1024;
/// Bytes of its columns past which it is closed; bounds the memory of a unit.
pub const ROW_GROUP_BYTES: usize = 48 * 1024 * 1024;
/// Bytes of a page of vectors in it; what readers expect of a page.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Rows encoded by one job of the compute pool: some ten milliseconds of work.
pub const EXPORT_STEP_ROWS: usize = 8 * 1024;
/// Units of one task.
pub const UNITS_PER_TASK: usize = 100_000;
/// Matched rows of an export unit, which is one file.
pub const UNIT_ROWS: u64 = 1_000_000;
/// Input bytes of an export unit.
pub const UNIT_BYTES: u64 = 256 * 1024 * 1024;
/// Failures of one unit through panics or child aborts before the task fails.
pub const UNIT_STRIKES: u32 = 3;
/// Retries of a unit whose store or disk was unavailable, with doubling pauses.
pub const UNIT_RETRIES: u32 = 8;
/// First pause of those; the last is about two minutes.
pub const UNIT_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Time a lease on a unit lasts without renewal.
pub const LEASE: Duration = Duration::from_secs(30);
/// Time a task waits in `confirm` before it fails, unless the settings say otherwise.
pub const CONFIRM_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Time in which a finished filter_delete can be undone, unless the settings say otherwise; so long its rows take space.
pub const UNDO_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// Deletions of one table that can be undone; past it the oldest cannot any more. Each costs memory for the numbers of its
/// rows, and every flush a look at them.
pub const UNDOABLE_PER_TABLE: usize = 64;
/// Rows shown in `sampled_data`.
pub const SAMPLE_ROWS: usize = 5;
/// Rows looked at between two looks at the cancel flag of a scan: a few milliseconds of work.
pub const CANCEL_CHECK_ROWS: usize = 64 * 1024;
/// Objects listed per page.
pub const LIST_PAGE: usize = 1000;
/// Tasks of a list answer that names no page size.
pub const TASKS_PER_PAGE: u64 = 100;
/// Final tasks kept per account; the oldest go first. Deletes whose time to be undone is not over count apart, as many
/// again.
pub const TASKS_FINAL_PER_ACCOUNT: usize = 10_000;
/// Time a final task is kept, unless the settings say otherwise.
pub const TASK_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

// Search structures.

/// Rows of a cell, about: twice as many halve the cost of ranking cells and double that of reading them.
pub const INDEX_CELL_ROWS: u64 = 100;
/// Cells of an index; ranking more would cost more than it saves.
pub const INDEX_CELLS: usize = 4096;
/// Rows of a table from which structures pay, unless the settings say otherwise: fewer are scanned in about a millisecond.
pub const INDEX_SEGMENT_ROWS: u32 = 10_000;
/// Bytes of the vectors of a segment from which it then has one of its own: fewer are scanned in a tenth of a millisecond.
pub const INDEX_SEGMENT_BYTES: usize = 1024 * 1024;
/// Fields of an index whose codes are kept in memory in the order of the cells, for filters: some 36 bytes a row. Filters
/// that name others are told more slowly.
pub const INDEX_ARRANGED_FIELDS: usize = 16;
/// Times as many cells would be wanted before they are trained again: all trainings together then cost little more
/// than the last.
pub const INDEX_RETRAIN_GROWTH: usize = 4;
/// Candidates of a search in one segment, beyond a few for each row wanted. Many equal rows would otherwise all be scored; a
/// filter that forbids all that is near leaves many that are nearly equal, and those have to be.
pub const SEARCH_CANDIDATES: usize = 32 * 1024;
/// Tries of a search in one segment that leave out, one by one, found rows that newer writes hide; after them all that are
/// hidden there are looked up.
pub const SEARCH_TRIES: usize = 3;
/// Sampled rows per cell that training looks at.
pub const INDEX_TRAIN_ROWS_PER_CELL: usize = 32;
/// Sampled rows per cell below which there are fewer cells instead.
pub const INDEX_TRAIN_ROWS_PER_CELL_MIN: usize = 16;
/// Bytes of the sample that training holds.
pub const INDEX_TRAIN_BYTES: usize = 256 * 1024 * 1024;
/// Effort of a search that names none; the vendor's default of `hnsw_sef`.
pub const INDEX_SEF_DEFAULT: f32 = 800.0;

// Postings.

/// Rows with a value, and elements of lists, that the postings of one field may have; past it the field has none. They
/// are sorted in memory, 24 bytes each at most.
pub const POSTINGS_ENTRIES: u64 = 16 * 1024 * 1024;
/// Bitmaps of all rows with a smaller value that a field with ranges keeps: a range reads two of them and, at most, the
/// rows between two neighbours twice. Together 8 bytes a row.
pub const POSTINGS_MARKS: u32 = 64;
/// Codes that a field has for the values of its rows: numbers of 16 bits. With more distinct values, neighbours share one.
pub const POSTINGS_CODES: u32 = 1 << 16;
/// Rows whose code says no more than that they may pass, and that are therefore listed to be tested one by one; a filter
/// with more of them is evaluated for all rows.
pub const POSTINGS_UNSURE_ROWS: usize = 4096;
/// Bytes that are verified together at their first use: some microseconds of work.
pub const POSTINGS_BLOCK_BYTES: usize = 64 * 1024;

// Machine.

/// Jobs waiting in one lane of the compute pool: well above what open requests and running units can put there.
pub const COMPUTE_QUEUE_JOBS: usize = 4096;
/// Bytes of one part of a multipart upload; two are in flight per unit.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one upload on their way while the next is filled.
pub const PARTS_IN_FLIGHT: usize = 2;
/// Times that an object is given its name while its directory keeps being removed under it.
pub const PLACING_TRIES: u32 = 100;
/// Bytes of an object read at a time.
pub const OBJECT_READ_BYTES: u64 = 256 * 1024;
/// Free bytes that the data directory keeps: a write that would go below is refused before it starts.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Free bytes that files in buckets leave to the tables and the catalog: twice their reserve, so that rows can still be
/// written and deleted when exports have stopped.
pub const OBJECT_RESERVE_BYTES: u64 = 2 * DISK_RESERVE_BYTES;

// Control plane.

/// Access keys kept decrypted in memory.
pub const KEYS_CACHED: usize = 4096;
/// Collections whose names are kept resolved.
pub const COLLECTIONS_CACHED: usize = 4096;
/// Grants of one access key.
pub const GRANTS_PER_KEY: usize = 100;
/// Body text above which decoding leaves the runtime's thread, in bytes: about half a millisecond of work.
pub const DECODE_INLINE_BYTES: usize = 256 * 1024;
/// Time between two saves of a running task's progress.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Time task/drop and collection/drop wait for a running step to stop.
pub const STOP_WAIT: Duration = Duration::from_secs(20);
/// Tasks that run at once; the others stay queued. More would only share the same two units and hold more pins.
pub const TASKS_RUNNING: usize = 4;
/// Time a cancelled export waits for the store's last step: many times what a sync takes on a busy disk.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);
