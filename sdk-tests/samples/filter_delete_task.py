"""The vendor's documented sample for a delete by filter: create, look, confirm, look again.

Host and keys come from the environment; the calls and their values are the documented ones.
"""
import json
import os
import time

import requests
from volcengine.Credentials import Credentials
from volcengine.auth.SignerV4 import SignerV4
from volcengine.base.Request import Request

DOMAIN = os.environ["KNARR_HOST"]
AK = os.environ["KNARR_ACCESS_KEY"]
SK = os.environ["KNARR_SECRET_KEY"]


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


def poll(task_id, *states):
    while True:
        answer = send("/api/task/info", {"task_id": task_id})
        if json.loads(answer.text)["data"]["task_status"] in states:
            print(answer.text)
            return
        time.sleep(0.1)


task_params = {"collection_name": "example", "filter": {"user_id": [5, 9], "city": ["beijing"]}}
created = send("/api/task/create", {"task_type": "filter_delete", "task_params": task_params})
task_id = json.loads(created.text)["data"]["task_id"]

poll(task_id, "confirm", "fail")
print(send("/api/task/update", {"task_id": task_id, "task_status": "confirmed"}).text)
poll(task_id, "done", "fail")
