"""The vendor's documented sample for an export by filter: create, wait, download, read the parquet file row by row.

Host and keys come from the environment; the calls and their values are the documented ones. The download goes through
`knarr bucket`, where the vendor's page uses its object store's client.
"""
import json
import os
import subprocess
import tempfile
import time

import pyarrow.parquet as pq
import requests
from volcengine.Credentials import Credentials
from volcengine.auth.SignerV4 import SignerV4
from volcengine.base.Request import Request

DOMAIN = os.environ["KNARR_HOST"]
AK = os.environ["KNARR_ACCESS_KEY"]
SK = os.environ["KNARR_SECRET_KEY"]
COLLECTION_NAME = "example"
BUCKET_NAME = "data-export"
TOS_DIR = "task_example"


def prepare_request(method, path, ak, sk, params=None, data=None):
    request = Request()
    request.set_method(method)
    # Not a header: the host of a sample is not part of its signature.
    request.set_host("api-vikingdb.volces.com")
    request.set_path(path)
    request.set_headers({"Accept": "application/json", "Content-Type": "application/json"})
    if params:
        request.set_query(params)
    if data:
        request.set_body(json.dumps(data))
    SignerV4.sign(request, Credentials(ak, sk, "air", "cn-north-1"))
    return request


def send(path, data):
    request = prepare_request("POST", path, AK, SK, data=data)
    url = "http://{}{}".format(DOMAIN, request.path)
    return requests.request(method=request.method, url=url, headers=request.headers, data=request.body)


def bucket(*arguments):
    command = [os.environ["KNARR_BIN"], "bucket", *arguments, "--server", "http://" + DOMAIN]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def process_parquet(path):
    parquet_file = pq.ParquetFile(path)
    counts = [parquet_file.metadata.row_group(i).num_rows for i in range(parquet_file.num_row_groups)]
    print("rows:", sum(counts))
    print("columns:", parquet_file.schema.to_arrow_schema().names)
    for batch in parquet_file.iter_batches(batch_size=100):
        for _, row in batch.to_pandas().iterrows():
            print("row:", row["id"], row["user_id"], row["city"])


task_params = {
    "collection_name": COLLECTION_NAME,
    "tos_path": "{}/{}".format(BUCKET_NAME, TOS_DIR),
    "filter": {"user_id": [5, 9], "city": ["beijing"]},
}
created = send("/api/task/create", {"task_type": "data_export", "task_params": task_params})
task_id = json.loads(created.text)["data"]["task_id"]

while True:
    answer = send("/api/task/info", {"task_id": task_id})
    if json.loads(answer.text)["data"]["task_status"] in ("done", "fail"):
        print(answer.text)
        break
    time.sleep(0.1)

listing = json.loads(bucket("ls", "{}/{}/{}/".format(BUCKET_NAME, TOS_DIR, task_id), "--json"))
with tempfile.TemporaryDirectory() as local:
    for entry in listing:
        if entry["key"].endswith(".parquet"):
            file_path = os.path.join(local, os.path.basename(entry["key"]))
            bucket("get", "{}/{}".format(BUCKET_NAME, entry["key"]), file_path)
            process_parquet(file_path)
