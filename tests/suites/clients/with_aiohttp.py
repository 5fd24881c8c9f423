"""polecat by the package `aiohttp`, WebSocket and HTTP: with_aiohttp.py BINARY"""

import asyncio, itertools, json

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType, WSServerHandshakeError

from polecat import FRAME_BYTES_MAX, KILLED_AFTER, MESSAGE_BYTES_MAX, PATIENCE, ROUNDS
from polecat import Reader, Server, check, equal, sized


async def receive(socket, kind=None):
    """The next message, or the next of that type."""
    while True:
        message = await socket.receive_json(timeout=PATIENCE)
        if kind in (None, message["type"]):
            return message


async def closed(socket):
    """Code and reason of the server's Close."""
    message = await socket.receive(timeout=PATIENCE)
    equal(message.type, WSMsgType.CLOSE, "what comes")
    return message.data, message.extra


async def post(session, server, path, body, **headers):
    async with session.post(server.http(path), json=body, headers=headers) as response:
        equal(response.status, 200, f"the status of {path}")
        return await response.json()


async def rest(session, server):
    """One connection of the pool for all of it, answers by status and type."""
    body = {"channel_id": "a/b ü", "author": "ann", "content": "hello", "provider": "p", "token_count": 12}
    first = await post(session, server, "/api/messages", body, **{"Idempotency-Key": "k"})
    async with session.post(server.http("/api/messages"), json=body, headers={"Idempotency-Key": "k"}) as response:
        equal(response.headers["Idempotency-Replayed"], "true", "the mark of a replay")
        equal(await response.json(), first, "the replay of a POST")
    async with session.get(server.http("/api/messages"), params={"channel_id": "a/b ü", "limit": 1}) as response:
        equal((await response.json())["messages"], [first["message"]], "the list")
    for path, key, value in (
        ("/api/channels", "channels", ["a/b ü"]),
        ("/api/health", "status", "ok"),
        ("/api/summary", "summary", {"total_messages": 1, "total_tokens": 12, "by_provider": {"p": 1}, "by_lane": {}}),
    ):
        async with session.get(server.http(path)) as response:
            equal((response.status, response.content_type), (200, "application/json"), path)
            equal((await response.json())[key], value, path)
        async with session.head(server.http(path)) as response:
            equal((response.status, await response.read()), (200, b""), f"HEAD {path}")

    async def pieces():
        for piece in (b'{"channel_id":"chunked",', b'"author":"",', b'"content":"in pieces"}'):
            yield piece

    headers = {"Content-Type": "application/json"}
    async with session.post(server.http("/api/messages"), data=pieces(), headers=headers, expect100=True) as response:
        equal((await response.json())["message"]["content"], "in pieces", "a body in chunks")
    async with session.post(server.http("/api/messages"), json={"channel_id": "c", "author": 5}) as response:
        equal(response.status, 422, "the status of a wrong body")
        equal([mistake["type"] for mistake in (await response.json())["detail"]], ["string_type", "missing"], "mistakes")
    async with session.post(server.http("/api/messages"), data={"form": "field"}) as response:
        equal(response.status, 415, "the status of a form")


async def broadcasts(session, server):
    url = server.ws("/api/ws/caf%C3%A9")
    async with session.ws_connect(url) as one, session.ws_connect(url) as other:
        for number in range(100):
            if number % 2:
                await one.send_json({"type": "message", "author": "one", "content": str(number)})
            else:
                await post(session, server, "/api/messages", {"channel_id": "café", "author": "", "content": str(number)})
            for socket in (one, other):
                message = await receive(socket)
                equal(message["data"]["content"], str(number), "the broadcast")
        middle = message["data"]["id"] - 50
    async with session.ws_connect(url, headers={"Last-Event-ID": f"message-{middle:05}"}) as late:
        contents = [(await receive(late))["data"]["content"] for _ in range(50)]
        equal(contents, [str(number) for number in range(50, 100)], "the replay")
    async with session.ws_connect(server.ws("/ws")) as events:
        body = {"type": "scan", "payload": {"n": 1}}
        answer = await post(session, server, "/api/events", body, **{"X-Correlation-ID": "r-1"})
        equal(await receive(events), answer["event"], "the event")
        equal(answer["event"]["correlation_id"], "r-1", "its correlation id")
        equal((await receive(events, "heartbeat"))["event_id"], answer["event"]["event_id"], "the heartbeat's id")


async def pings(session, server):
    async with session.ws_connect(server.ws("/api/ws/pings"), autoping=False) as socket:
        await socket.ping(b"payload")
        pong = await socket.receive(timeout=PATIENCE)
        equal((pong.type, bytes(pong.data)), (WSMsgType.PONG, b"payload"), "the answer to a Ping")
        equal((await socket.receive(timeout=PATIENCE)).type, WSMsgType.PONG, "a heartbeat that asks for nothing")
        equal((await socket.receive(timeout=PATIENCE)).type, WSMsgType.PING, "the server's Ping")
        await socket.send_json({"type": "ping"})
        equal(await receive(socket), {"type": "pong"}, "the answer to a ping")


async def subprotocol(session, server):
    async with session.ws_connect(server.ws("/api/ws/v1"), protocols=("other", "polecat.v1")) as socket:
        equal(socket.protocol, "polecat.v1", "the subprotocol")
        hello = await receive(socket)
        equal((hello["type"], hello["payload"]["channel"]), ("hello", "v1"), "the first message")
        equal((await receive(socket))["type"], "live", "the second message")
        for _ in range(2):
            await socket.send_json({"type": "message", "id": "a", "idempotency_key": "k", "content": "once"})
        acks = [await receive(socket, "ack") for _ in range(2)]
        equal(acks[0]["payload"], acks[1]["payload"], "the ack of the same key")
        await socket.send_json({"type": "message", "id": 7, "content": 7})
        error = await receive(socket, "error")
        equal((error["payload"]["code"], error["payload"]["id"]), ("wrong_type", 7), "the error")


async def sizes(session, server):
    async with session.ws_connect(server.ws("/api/ws"), max_msg_size=FRAME_BYTES_MAX) as echo:
        await echo.send_bytes(bytes(range(256)) * 4096)
        equal(await echo.receive_bytes(timeout=PATIENCE), bytes(range(256)) * 4096, "the echo")
    async with session.ws_connect(server.ws("/api/ws/large"), max_msg_size=FRAME_BYTES_MAX) as socket:
        await socket.send_str(sized(MESSAGE_BYTES_MAX, author="a"))
        check(len((await receive(socket))["data"]["content"]) > MESSAGE_BYTES_MAX - 100, "a large message comes back")
        await socket.send_str(sized(MESSAGE_BYTES_MAX + 1, author="a"))
        equal(await closed(socket), (1009, "message is too long"), "the close of a message too large")


async def closes(session, server):
    async with session.ws_connect(server.ws("/ws?subscribe_token=x")) as socket:
        equal(await closed(socket), (4400, "Invalid subscribe_token format"), "the close of a bad token")
    async with session.ws_connect(server.ws("/api/ws/closes")) as socket:
        await socket.close(code=3456, message=b"bye")
        equal(socket.close_code, 3456, "the answer to a Close")
    try:
        async with session.ws_connect(server.ws("/api/ws/closes"), origin="http://example.org"):
            check(False, "a foreign origin is let in")
    except WSServerHandshakeError as error:
        equal(error.status, 403, "the answer to a foreign origin")
    async with session.ws_connect(server.ws("/api/ws/closes"), protocols=("polecat.v1",)) as socket:
        await receive(socket, "live")
        server.ask_to_stop()
        check((await receive(socket, "reconnect"))["payload"]["after_ms"] >= 500, "it is told when to reconnect")
        equal(await closed(socket), (1001, "going away"), "the close of a shutdown")


async def follow(session, reader, url, by_header):
    while not reader.is_done:
        try:
            if by_header:
                connecting = session.ws_connect(url, headers={"Last-Event-ID": reader.event_id})
            else:
                known = {"last_event_id": reader.event_id, "epoch": reader.epoch}
                connecting = session.ws_connect(url, params=known, protocols=("polecat.v1",))
            async with connecting as socket:
                reader.connects += 1
                async for message in socket:
                    reader.take(message.data)
                    if reader.is_done:
                        return
        except ClientError:
            await asyncio.sleep(0.02)


async def insist(session, server, path, body, key):
    """A POST until it is answered."""
    while True:
        try:
            return await post(session, server, path, body, **{"Idempotency-Key": key})
        except ClientError:
            await asyncio.sleep(0.02)


async def post_all(session, server, acknowledged):
    for number in range(ROUNDS):
        body = {"channel_id": "room", "author": "rest", "content": f"rest {number}"}
        await insist(session, server, "/api/messages", body, f"rest-{number}")
        body = {"type": "note", "payload": {"content": f"event {number}"}}
        await insist(session, server, "/api/events", body, f"event-{number}")
        acknowledged.release()


async def send_all(session, server, acknowledged):
    """Sends what is not acknowledged again, over as many connections as it takes."""
    number = 0
    while number < ROUNDS:
        try:
            async with session.ws_connect(server.ws("/api/ws/room"), protocols=("polecat.v1",)) as socket:
                for unsent in itertools.count(number):
                    if unsent == ROUNDS:
                        return
                    message = {"type": "message", "id": unsent, "idempotency_key": f"ws-{unsent}"}
                    await socket.send_json({**message, "content": f"ws {unsent}"})
                    async for answer in socket:
                        if json.loads(answer.data)["type"] == "ack":
                            equal(json.loads(answer.data)["payload"]["id"], unsent, "the id of the ack")
                            number += 1
                            acknowledged.release()
                            break
                    else:
                        break
        except (ClientError, ConnectionError):
            await asyncio.sleep(0.02)


async def kill_now_and_then(server, acknowledged):
    for before, now in zip((0, *KILLED_AFTER), KILLED_AFTER):
        for _ in range(now - before):
            await acknowledged.acquire()
        server.kill()
        await asyncio.to_thread(server.start)


async def resume(session, server):
    readers = [Reader("by header", "message-00000"), Reader("by query", "message-00000"), Reader("events", "event-00000")]
    follows = [
        asyncio.create_task(follow(session, reader, server.ws(path), by_header))
        for reader, path, by_header in zip(readers, ("/api/ws/room", "/api/ws/room", "/ws"), (True, False, True))
    ]
    acknowledged = asyncio.Semaphore(0)
    await asyncio.gather(
        post_all(session, server, acknowledged), send_all(session, server, acknowledged), kill_now_and_then(server, acknowledged)
    )
    await insist(session, server, "/api/messages", {"channel_id": "room", "author": "", "content": "end"}, "end")
    await insist(session, server, "/api/events", {"type": "note", "payload": {"content": "end"}}, "end")
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*follows)
    for reader, publishers in zip(readers, (("rest", "ws"), ("rest", "ws"), ("event",))):
        reader.check(publishers)


async def main():
    async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as session:
        with Server("--heartbeat-interval", "2") as server:
            for part in (rest, broadcasts, pings, subprotocol, sizes, closes):
                await part(session, server)
                print("ok", part.__name__)
        with Server() as server:
            await resume(session, server)
            print("ok resume")


asyncio.run(main())
