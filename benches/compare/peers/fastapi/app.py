"""The three endpoints on FastAPI with the connection manager that everybody writes, storing in SQLite."""

import json
import sqlite3
import sys
from collections import defaultdict
from datetime import datetime, timezone

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL,
  author TEXT NOT NULL, content TEXT NOT NULL, timestamp TEXT NOT NULL, lane TEXT, provider TEXT,
  token_count INTEGER);
CREATE INDEX IF NOT EXISTS idx_messages_channel ON messages(channel_id);
CREATE INDEX IF NOT EXISTS idx_messages_time ON messages(timestamp);
"""

app = FastAPI()


class MessageIn(BaseModel):
    channel_id: str
    author: str
    content: str
    lane: str | None = None
    provider: str | None = None
    token_count: int | None = None


class Store:
    def __init__(self, path):
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.executescript(SCHEMA)

    def add(self, message):
        self.database.execute(
            "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider, token_count)"
            " VALUES (:channel_id, :author, :content, :timestamp, :lane, :provider, :token_count)",
            message,
        )
        self.database.commit()


class ConnectionManager:
    def __init__(self):
        self.active_connections = defaultdict(list)

    async def connect(self, channel_id, websocket):
        await websocket.accept()
        self.active_connections[channel_id].append(websocket)

    def disconnect(self, channel_id, websocket):
        self.active_connections[channel_id].remove(websocket)

    async def broadcast(self, channel_id, message):
        for connection in list(self.active_connections[channel_id]):
            try:
                await connection.send_text(message)
            except (RuntimeError, WebSocketDisconnect):
                pass


manager = ConnectionManager()


async def publish(message: MessageIn):
    stored = {
        "channel_id": message.channel_id,
        "author": message.author,
        "content": message.content,
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "lane": message.lane,
        "provider": message.provider,
        "token_count": message.token_count,
    }
    if app.state.store is not None:
        app.state.store.add(stored)
    await manager.broadcast(message.channel_id, json.dumps({"type": "message", "data": stored}))
    return stored


@app.post("/api/messages")
async def post_message(message: MessageIn):
    return {"success": True, "message": await publish(message)}


@app.websocket("/api/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/api/ws/{channel_id}")
async def channel(websocket: WebSocket, channel_id: str):
    await manager.connect(channel_id, websocket)
    try:
        while True:
            message = await websocket.receive_json()
            if message.get("type") == "message":
                author, content = message.get("author", "unknown"), message.get("content", "")
                await publish(MessageIn(channel_id=channel_id, author=author, content=content))
    except WebSocketDisconnect:
        pass
    finally:
        manager.disconnect(channel_id, websocket)


if __name__ == "__main__":
    port, database = int(sys.argv[1]), sys.argv[2]
    app.state.store = None if database == "off" else Store(database)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
