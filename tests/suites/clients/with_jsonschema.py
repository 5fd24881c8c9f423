"""The document at /api/schema by a validator that others wrote: its schemas are legal, and real answers are as it says."""

import json, sys, urllib.error, urllib.request

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from polecat import PATIENCE, Server, check, equal


def ask(server, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.http(path), data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.headers.get_content_type(), response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def nodes(value, path=""):
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}")


def is_legal(document):
    equal(document["openapi"], "3.1.0", "the version")
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
    named = dict(nodes(document))
    used = {value["$ref"] for value in named.values() if isinstance(value, dict) and "$ref" in value}
    check(all(name.removeprefix("#") in named for name in used), "a reference leads nowhere")
    unused = {name for name in schemas if f"#/components/schemas/{name}" not in used}
    equal(unused, set(), "schemas that nothing uses")


def answers_are_as_it_says(server, document):
    resource = Resource(contents=document, specification=DRAFT202012)
    registry = Registry().with_resource("urn:polecat", resource)
    message = {"channel_id": "room", "author": "a", "content": "x", "token_count": 2, "provider": "p"}
    requests = [
        ("POST", "/api/messages", message), ("POST", "/api/messages", {}), ("POST", "/api/events", {"type": "t"}),
        ("POST", "/api/events", {"type": 1, "payload": []}), ("GET", "/api/messages?limit=1", None),
        ("GET", "/api/messages?limit=0", None), ("GET", "/api/channels", None), ("GET", "/api/channels?detail=1", None),
        ("GET", "/api/summary", None), ("GET", "/api/health", None), ("GET", "/api/health?verbose=1", None),
        ("GET", "/api/connections", None), ("GET", "/api/connections?after=x", None), ("GET", "/api/schema", None),
        ("GET", "/metrics", None), ("GET", "/ws", None), ("GET", "/api/ws", None), ("GET", "/api/ws/room", None),
    ]
    for method, target, body in requests:
        status, kind, text = ask(server, method, target, body)
        path = target.split("?")[0].replace("/api/ws/room", "/api/ws/{channel_id}")
        described = document["paths"][path][method.lower()]["responses"][str(status)]
        place = described.get("$ref", "").removeprefix("#")
        if not place:
            escaped = path.replace("/", "~1")
            place = f"/paths/{escaped}/{method.lower()}/responses/{status}"
        if kind == "application/json":
            place = f"urn:polecat#{place}/content/application~1json/schema"
            Draft202012Validator({"$ref": place}, registry=registry).validate(json.loads(text))
        else:
            check(kind in (described["content"]), f"{kind} is not in the document")


with Server() as server:
    document = json.loads(ask(server, "GET", "/api/schema")[2])
    is_legal(document)
    print("ok is_legal")
    answers_are_as_it_says(server, document)
    print("ok answers_are_as_it_says")
