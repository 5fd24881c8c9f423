"""polecat by the package `websockets`: with_websockets.py BINARY"""

import asyncio, http.client, itertools, json, pathlib, shutil, urllib.error, urllib.request
from urllib.parse import urlencode

from websockets import Headers, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from polecat import FRAME_BYTES_MAX, KILLED_AFTER, MESSAGE_BYTES_MAX, PATIENCE, ROUNDS
from polecat import Reader, Server, check, equal, sized


async def publish(server, path, body, **headers):
    """A POST by the standard library; the parsed answer."""
    headers = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    request = urllib.request.Request(server.http(path), json.dumps(body).encode(), headers)
    read = lambda: json.loads(urllib.request.urlopen(request, timeout=PATIENCE).read())
    return await asyncio.to_thread(read)


async def receive(socket, kind=None):
    """The next message, or the next of that type."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = json.loads(await socket.recv())
            if kind in (None, message["type"]):
                return message


async def closed(socket):
    """Code and reason of the server's Close."""
    async with asyncio.timeout(PATIENCE):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


async def broadcasts(server):
    async with connect(server.ws("/api/ws/caf%C3%A9")) as one, connect(server.ws("/api/ws/caf%C3%A9")) as other:
        for number in range(100):
            if number % 2:
                await one.send(json.dumps({"type": "message", "author": "one", "content": str(number)}))
            else:
                await publish(server, "/api/messages", {"channel_id": "café", "author": "two", "content": str(number)})
            for socket in (one, other):
                message = await receive(socket)
                equal(message["data"]["content"], str(number), "the broadcast")
        middle = message["data"]["id"] - 50
    async with connect(server.ws("/api/ws/caf%C3%A9"), additional_headers={"Last-Event-ID": f"message-{middle:05}"}) as late:
        contents = [(await receive(late))["data"]["content"] for _ in range(50)]
        equal(contents, [str(number) for number in range(50, 100)], "the replay")
    async with connect(server.ws("/ws")) as events:
        answer = await publish(server, "/api/events", {"type": "scan", "payload": {"n": 1}}, X_Correlation_ID="r-1")
        equal(await receive(events), answer["event"], "the event")
        equal(answer["event"]["correlation_id"], "r-1", "its correlation id")
        equal((await receive(events, "heartbeat"))["event_id"], answer["event"]["event_id"], "the heartbeat's id")


async def pings(server):
    async with connect(server.ws("/api/ws/pings")) as socket:
        async with asyncio.timeout(PATIENCE):
            await (await socket.ping(b"payload"))
        await socket.send('{"type":"ping"}')
        equal(await receive(socket), {"type": "pong"}, "the answer to a ping")


async def subprotocol(server):
    url = server.ws("/api/ws/v1")
    async with connect(url, subprotocols=["other", "polecat.v1"]) as socket:
        equal(socket.subprotocol, "polecat.v1", "the subprotocol")
        hello = await receive(socket)
        equal((hello["type"], hello["payload"]["channel"]), ("hello", "v1"), "the first message")
        equal((await receive(socket))["type"], "live", "the second message")
        for _ in range(2):
            await socket.send('{"type":"message","id":"a","idempotency_key":"k","content":"once"}')
        acks = [await receive(socket, "ack") for _ in range(2)]
        equal(acks[0]["payload"], acks[1]["payload"], "the ack of the same key")
        await socket.send('{"type":"message","id":7,"content":7}')
        error = await receive(socket, "error")
        equal((error["payload"]["code"], error["payload"]["id"]), ("wrong_type", 7), "the error")


async def sizes(server):
    async with connect(server.ws("/api/ws"), max_size=MESSAGE_BYTES_MAX) as echo:
        await echo.send(bytes(range(256)) * 4096)
        equal(await echo.recv(), bytes(range(256)) * 4096, "the echo")
        await echo.send("part " for _ in range(1000))
        equal(await echo.recv(), "part " * 1000, "the echo of fragments")
    async with connect(server.ws("/api/ws/large"), max_size=FRAME_BYTES_MAX) as socket:
        await socket.send(sized(MESSAGE_BYTES_MAX, author="a"))
        check(len((await receive(socket))["data"]["content"]) > MESSAGE_BYTES_MAX - 100, "a large message comes back")
        await socket.send(sized(MESSAGE_BYTES_MAX + 1, author="a"))
        equal(await closed(socket), (1009, "message is too long"), "the close of a message too large")


async def closes(server):
    async with connect(server.ws("/ws?subscribe_token=x")) as socket:
        equal(await closed(socket), (4400, "Invalid subscribe_token format"), "the close of a bad token")
    async with connect(server.ws("/api/ws/closes")) as socket:
        await socket.close(3456, "bye")
        equal(socket.close_code, 3456, "the answer to a Close")
    try:
        async with connect(server.ws("/api/ws/closes"), origin="http://example.org"):
            check(False, "a foreign origin is let in")
    except InvalidStatus as error:
        equal(error.response.status_code, 403, "the answer to a foreign origin")
    async with connect(server.ws("/api/ws/closes"), subprotocols=["polecat.v1"]) as socket:
        await receive(socket, "live")
        server.ask_to_stop()
        check((await receive(socket, "reconnect"))["payload"]["after_ms"] >= 500, "it is told when to reconnect")
        equal(await closed(socket), (1001, "going away"), "the close of a shutdown")


async def follow(reader, url, by_header):
    """The package reconnects by itself; what it says then is kept up to date."""
    headers = Headers({"Last-Event-ID": reader.event_id}) if by_header else None
    delays = lambda: itertools.repeat(0.02)
    while not reader.is_done:
        if by_header:
            connector = connect(url, additional_headers=headers, reconnect_delays=delays)
        else:
            query = urlencode({"last_event_id": reader.event_id, "epoch": reader.epoch})
            connector = connect(f"{url}?{query}", subprotocols=["polecat.v1"], reconnect_delays=delays)
        async for socket in connector:
            reader.connects += 1
            try:
                async for text in socket:
                    reader.take(text)
                    if by_header:
                        headers.clear()
                        headers["Last-Event-ID"] = reader.event_id
                    if reader.is_done:
                        return
            except ConnectionClosed:
                if not by_header:
                    break  # the query has to be written anew


async def insist(server, path, body, key):
    """A POST until it is answered."""
    while True:
        try:
            return await publish(server, path, body, Idempotency_Key=key)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException):
            await asyncio.sleep(0.02)


async def post_all(server, acknowledged):
    for number in range(ROUNDS):
        body = {"channel_id": "room", "author": "rest", "content": f"rest {number}"}
        await insist(server, "/api/messages", body, f"rest-{number}")
        body = {"type": "note", "payload": {"content": f"event {number}"}}
        await insist(server, "/api/events", body, f"event-{number}")
        acknowledged.release()


async def send_all(server, acknowledged):
    number = 0
    delays = lambda: itertools.repeat(0.02)
    async for socket in connect(server.ws("/api/ws/room"), subprotocols=["polecat.v1"], reconnect_delays=delays):
        try:
            while number < ROUNDS:
                message = {"type": "message", "id": number, "idempotency_key": f"ws-{number}", "content": f"ws {number}"}
                await socket.send(json.dumps(message))
                equal((await receive(socket, "ack"))["payload"]["id"], number, "the id of the ack")
                number += 1
                acknowledged.release()
            return
        except ConnectionClosed:
            continue


async def kill_now_and_then(server, acknowledged):
    for before, now in zip((0, *KILLED_AFTER), KILLED_AFTER):
        for _ in range(now - before):
            await acknowledged.acquire()
        server.kill()
        await asyncio.to_thread(server.start)


async def resume(server):
    readers = [Reader("by header", "message-00000"), Reader("by query", "message-00000"), Reader("events", "event-00000")]
    follows = [
        asyncio.create_task(follow(reader, server.ws(path), by_header))
        for reader, path, by_header in zip(readers, ("/api/ws/room", "/api/ws/room", "/ws"), (True, False, True))
    ]
    acknowledged = asyncio.Semaphore(0)
    await asyncio.gather(post_all(server, acknowledged), send_all(server, acknowledged), kill_now_and_then(server, acknowledged))
    await insist(server, "/api/messages", {"channel_id": "room", "author": "", "content": "end"}, "end")
    await insist(server, "/api/events", {"type": "note", "payload": {"content": "end"}}, "end")
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*follows)
    for reader, publishers in zip(readers, (("rest", "ws"), ("rest", "ws"), ("event",))):
        reader.check(publishers)


def documented_client():
    document = (pathlib.Path(__file__).parents[3] / "PROTOCOL.md").read_text()
    return compile(document.split("```python\n")[1].split("```")[0], "PROTOCOL.md", "exec")


async def documented(server):
    """The client of PROTOCOL 14.7, on a channel and on /ws, over a kill: each once, whatever its type."""
    code = documented_client()
    types = ["hello", "reconnect", "gap", "live", "heartbeat", "error", "message"]
    for path, first in (("/api/ws/documented", "message-00000"), ("/ws", "event-00000")):
        names = {"__name__": "client"}
        exec(code, names)
        names["URL"] = server.ws(path)
        seen = asyncio.Queue()
        follower = names["Follower"](seen.put_nowait, event_id=first)
        following = asyncio.create_task(follower.follow())
        for number, kind in enumerate(types):
            if path == "/ws":
                body = {"type": kind, "payload": {"after_ms": 1e9, "epoch": "other"}, "correlation_id": ""}
                expected = (await publish(server, "/api/events", body))["event"]
            else:
                body = {"channel_id": "documented", "author": "a", "content": kind}
                expected = (await publish(server, "/api/messages", body))["message"]
            async with asyncio.timeout(PATIENCE):
                equal(await seen.get(), expected, "what is handed on")
            if number == 3:
                server.kill()
                await asyncio.to_thread(server.start)
        check(seen.empty() and follower.epoch != "other", "it was told more than was published")
        following.cancel()


async def restored(server):
    """The client of PROTOCOL 14.7, and a copy that is put back while it is away."""
    names = {"__name__": "client"}
    exec(documented_client(), names)
    names["URL"] = server.ws("/api/ws/restored")
    seen = asyncio.Queue()
    follower = names["Follower"](seen.put_nowait, event_id="message-00000")

    async def sees(*contents):
        for content in contents:
            async with asyncio.timeout(PATIENCE):
                equal((await seen.get())["content"], content, "what is handed on")

    async def say(*contents):
        for content in contents:
            await publish(server, "/api/messages", {"channel_id": "restored", "author": "a", "content": content})

    following = asyncio.create_task(follower.follow())
    await say("1", "2")
    await sees("1", "2")
    copy = server.back_up()
    await say("lost 3", "lost 4")
    await sees("lost 3", "lost 4")
    following.cancel()
    server.stop()
    shutil.copy(copy, server.database)
    server.start()
    await say("3", "4", "5")
    following = asyncio.create_task(follower.follow())
    await sees("3", "4", "5")
    check(seen.empty(), "it was told more than was published")
    following.cancel()


async def main():
    with Server("--heartbeat-interval", "2") as server:
        for part in (broadcasts, pings, subprotocol, sizes, closes):
            await part(server)
            print("ok", part.__name__)
    with Server() as server:
        await resume(server)
        print("ok resume")
    with Server() as server:
        await documented(server)
        print("ok documented")
        await restored(server)
        print("ok restored")


asyncio.run(main())
