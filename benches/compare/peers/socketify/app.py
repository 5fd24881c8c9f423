"""The three endpoints on uWebSockets, by way of socketify: topics and fan-out are its C++."""

import json
import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()


def envelope(channel_id, message):
    data = {
        "channel_id": channel_id,
        "author": message["author"],
        "content": message["content"],
        "lane": None,
        "provider": None,
        "token_count": None,
    }
    return data, json.dumps({"type": "message", "data": data})


def settings(**more):
    return {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        "max_backpressure": 64 << 20,
        "idle_timeout": 120,
        **more,
    }


def echo(ws, message, opcode):
    ws.send(message, opcode)


def upgrade(res, req, context):
    key = req.get_header("sec-websocket-key")
    protocol = req.get_header("sec-websocket-protocol")
    extensions = req.get_header("sec-websocket-extensions")
    res.upgrade(key, protocol, extensions, context, req.get_parameter(0))


def join(ws):
    ws.subscribe(ws.get_user_data())


def publish(ws, message, opcode):
    channel_id = ws.get_user_data()
    _, text = envelope(channel_id, json.loads(message))
    # By the app: the sender is told, too.
    app.publish(channel_id, text, OpCode.TEXT)


def post(res, req):
    parts = []

    def take(res, chunk, is_end):
        parts.append(chunk or b"")
        if is_end:
            message = json.loads(b"".join(parts))
            data, text = envelope(message["channel_id"], message)
            app.publish(message["channel_id"], text, OpCode.TEXT)
            body = json.dumps({"success": True, "message": data})
            res.write_header("content-type", "application/json").end(body)

    res.on_data(take)


app.ws("/api/ws", settings(message=echo))
app.ws("/api/ws/:channel", settings(upgrade=upgrade, open=join, message=publish))
app.post("/api/messages", post)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
