"""What other clients put on the wire: Go, Java, curl, and those who try."""
import json
import re
import struct
import time

import pytest
from harness import call, connect, frame, receive, sign
from volcengine.Credentials import Credentials
from volcengine.auth.SignerV4 import SignerV4
from volcengine.base.Request import Request

# How the Go client finds the code in an error's text, to decide whether to try again.
GO_ERROR = re.compile(r'"code":(\d+),"message":"(.*?)","request_id":"([a-fA-F0-9]+)"')
FETCH = "/api/collection/fetch_data"


def fetch_body(people, keys):
    return {"collection_name": people.collection_name, "primary_keys": keys}


def test_success_has_one_shape(server):
    answer = call(server, "GET", "/api/viking_db/data/ping", {})
    assert answer.status == 200
    assert re.match(r'\{"code":0,"message":"success","request_id":"02[0-9a-f]{51}"', answer.text), answer.text
    assert answer.json["msg"] == "success"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Tt-Logid"] == answer.json["request_id"]
    assert call(server, "GET", "/api/viking_db/data/ping").status == 200
    assert call(server, "POST", "/api/index/batch_rerank", {}).status == 200, "how older Java clients ping"


def test_go_reads_every_error(server, name):
    refused = [call(server, "GET", "/api/collection/info", {"collection_name": name}),
               call(server, "POST", "/api/collection/drop", {}), call(server, "POST", "/api/nowhere", {}),
               call(server, "POST", "/api/task/info", {"task_id": "00000000-0000-4000-8000-000000000000"}),
               call(server, "POST", "/api/index/rerank", {}), call(server, "GET", FETCH, "{"),
               call(server, "GET", "/api/collection/list", sk="wrong")]
    seen = []
    for answer in refused:
        code, message, request_id = GO_ERROR.search(answer.text).groups()
        assert (int(code), message, request_id) == (
            answer.code, answer.json["message"], answer.json["request_id"])
        assert answer.json["msg"] == message
        seen.append((answer.status, answer.code))
    assert seen == [(400, 1000005), (400, 1000003), (404, 1000024), (404, 1000035), (400, 1000024), (400, 1000003),
                    (401, 1000001)]


def test_every_path_takes_get_and_post(server, people):
    for method in ("GET", "POST"):
        assert call(server, method, FETCH, fetch_body(people, [1])).json["data"][0]["user_id"] == 1
        assert call(server, method, "/api/task/list", {}).status == 200
        assert call(server, method, "/api/collection/list").status == 200
        assert call(server, method, "/api/collection/list", "null").status == 200, "Java sends it for no arguments"
    assert call(server, "PUT", FETCH, fetch_body(people, [1])).status in (404, 405)


def test_arguments_in_the_query_string(server, people):
    query = {"collection_name": people.collection_name}
    assert call(server, "GET", "/api/collection/info", query=query).json["data"]["primary_key"] == "id"
    assert call(server, "GET", FETCH, query={**query, "primary_keys": "7"}).json["data"][0]["user_id"] == 7
    both = call(server, "GET", FETCH, {"primary_keys": [3]}, query={**query, "primary_keys": "7"})
    assert both.json["data"][0]["user_id"] == 3, "the body wins per key"


def test_go_chunks_the_body_of_a_get(server, people):
    """net/http does so when a GET has a body of unknown length; the newline is part of the hash."""
    body = (json.dumps(fetch_body(people, [1, 2])) + "\n").encode()
    headers = sign(server, "GET", FETCH, body.decode(), host=server.host)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(frame(server, "GET", FETCH, headers, chunks, framing=["Transfer-Encoding: chunked"]))
        answer = receive(connection)
    assert [row["user_id"] for row in answer.json["data"]] == [1, 2]


def test_content_types_are_taken_literally(server, people):
    for headers in ({"Content-Type": "application/json; charset=utf-8"}, {}, {"Content-Type": "text/plain"}):
        answer = call(server, "GET", FETCH, fetch_body(people, [1]), headers=headers)
        assert answer.status == 200, headers


def test_a_bare_question_mark_is_no_query(server, people):
    body = json.dumps(fetch_body(people, 5)).encode()
    with connect(server) as connection:
        connection.sendall(frame(server, "GET", FETCH + "?", sign(server, "GET", FETCH, body.decode()), body))
        assert receive(connection).json["data"][0]["user_id"] == 5


def test_a_refused_body_is_consumed(server, people):
    """The next request on the same connection is read from its own first byte."""
    body = json.dumps(fetch_body(people, 5)).encode()
    with connect(server) as connection:
        for sk, status in (("wrong", 401), (server.sk, 200), ("wrong", 401), (server.sk, 200)):
            connection.sendall(frame(server, "GET", FETCH, sign(server, "GET", FETCH, body.decode(), sk=sk), body))
            assert receive(connection).status == status


def test_pipelined_requests_are_answered_in_order(server, people):
    def one(key):
        body = json.dumps(fetch_body(people, key))
        return frame(server, "GET", FETCH, sign(server, "GET", FETCH, body), body.encode())

    with connect(server) as connection:
        connection.sendall(b"".join(one(key) for key in (1, 2, 3)))
        assert [receive_next(connection) for _ in range(3)] == [1, 2, 3]


def receive_next(connection):
    """One answer and not a byte more: a buffering reader would swallow the start of the next."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return json.loads(body)["data"][0]["user_id"]


def test_two_lengths_are_refused(server, people):
    body = json.dumps(fetch_body(people, 5)).encode()
    headers = sign(server, "GET", FETCH, body.decode())
    framing = [f"Content-Length: {len(body)}", f"Content-Length: {len(body) - 1}"]
    with connect(server) as connection:
        connection.sendall(frame(server, "GET", FETCH, headers, body, framing))
        assert receive(connection).status == 400


def unsigned(server, headers, method="GET", path=FETCH, body=b"{}", target=None):
    with connect(server) as connection:
        connection.sendall(frame(server, method, target or path, headers, body))
        answer = receive(connection)
    return answer.status, answer.code


REFUSED = (401, 1000001)


def test_every_signed_part_is_checked(server, people):
    body = json.dumps(fetch_body(people, 5))
    signed = dict(sign(server, "GET", FETCH, body))

    def send(body=body.encode(), headers={}, **other):
        return unsigned(server, {**signed, **headers}, body=body, **other)

    assert send() == (200, 0)
    assert send(body=body.replace("5", "6").encode()) == REFUSED
    assert send(method="POST") == REFUSED
    assert send(path="/api/collection/info") == REFUSED
    assert send(target=FETCH + "?a=b") == REFUSED
    assert send(headers={"Content-Type": "text/plain"}) == REFUSED
    assert send(headers={"X-Content-Sha256": "0" * 64}) == REFUSED
    for part in ("Credential=X", "Signature=0", "SignedHeaders=y;"):
        name = part.split("=")[0]
        forged = signed["Authorization"].replace(name + "=", part, 1)
        assert send(headers={"Authorization": forged}) == REFUSED, part


@pytest.mark.parametrize("authorization", [
    "", "HMAC-SHA256", "Bearer x", "HMAC-SHA256 Credential=, SignedHeaders=, Signature=",
    "HMAC-SHA256 Credential=a/b/c, SignedHeaders=x-date, Signature=00", "\u00e9" * 10, "x" * 5000])
def test_malformed_authorizations(server, people, authorization):
    headers = dict(sign(server, "GET", FETCH, "{}"))
    headers["Authorization"] = authorization
    assert unsigned(server, headers) == REFUSED
    del headers["Authorization"]
    assert unsigned(server, headers) == REFUSED


def dated(server, monkeypatch, seconds):
    text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + seconds))
    monkeypatch.setattr(SignerV4, "get_current_format_date", staticmethod(lambda: text))
    return call(server, "GET", "/api/collection/list").status


def test_dates_may_be_a_quarter_of_an_hour_off(server, monkeypatch):
    assert [dated(server, monkeypatch, s) for s in (0, 840, -840, 960, -960)] == [200, 200, 200, 401, 401]


def test_query_signatures_leave_the_body_open_and_are_refused(server, people):
    request = Request()
    request.set_method("GET")
    request.set_path("/api/collection/info")
    request.set_query({"collection_name": people.collection_name})
    query = SignerV4.sign_url(request, Credentials(server.ak, server.sk, "air", "cn-north-1"))
    assert unsigned(server, {}, path="/api/collection/info", target="/api/collection/info?" + query) == REFUSED


def test_the_body_has_a_limit(server):
    body = b'{"collection_name": "%s"}' % (b"x" * (16 * 1024 * 1024))
    headers = sign(server, "POST", "/api/collection/create", body.decode())
    with connect(server) as connection:
        try:
            connection.sendall(frame(server, "POST", "/api/collection/create", headers, body))
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused by its length before all of it was sent
        answer = receive(connection, "POST")
    assert (answer.status, answer.code) == (413, 1000003)


def test_numbers_keep_their_64_bits(server, people):
    big = 2**53 + 1
    row = {"collection_name": people.collection_name, "fields": [{"id": big, "user_id": -big, "v": [0, 0, 0, 0]}]}
    assert call(server, "POST", "/api/collection/upsert_data", row).code == 0
    answer = call(server, "GET", FETCH, fetch_body(people, big))
    assert f'"id":{big}' in answer.text and f'"user_id":{-big}' in answer.text


def test_vectors_may_come_as_packed_doubles(server, people):
    import base64
    packed = base64.b64encode(struct.pack("<4d", 1, 2, 3, 0.5)).decode()
    row = {"collection_name": people.collection_name, "fields": [{"id": 500, "v": packed}]}
    assert call(server, "POST", "/api/collection/upsert_data", row).code == 0
    assert call(server, "GET", FETCH, fetch_body(people, 500)).json["data"][0]["v"] == [1, 2, 3, 0.5]


def test_repeated_names_in_a_filter_are_refused(server, people):
    body = ('{"task_type":"filter_delete","task_params":{"collection_name":"%s",'
            '"filter":{"user_id":[1],"user_id":[2]}}}' % people.collection_name)
    assert call(server, "POST", "/api/task/create", body).code == 1000003


def test_an_exact_retransmission_is_the_same_task(server, people):
    body = json.dumps({"task_type": "filter_delete", "task_params": {"collection_name": people.collection_name,
                                                                     "filter": {"user_id": [1]}}})
    headers = sign(server, "POST", "/api/task/create", body)
    with connect(server) as connection:
        ids = []
        for _ in range(2):
            connection.sendall(frame(server, "POST", "/api/task/create", headers, body.encode()))
            ids.append(receive(connection, "POST").json["data"]["task_id"])
    assert ids[0] == ids[1]
