//! The three endpoints on axum, as its documentation shows them: a task for each
//! connection, and a `broadcast` channel of tokio for each channel.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Messages that a subscriber may be behind before it loses some.
const BEHIND_MAX: usize = 65_536;

#[derive(Clone)]
struct Server {
    channels: Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>,
    tuned: bool,
}

/// What is published, by POST or over a WebSocket.
#[derive(Deserialize, Serialize)]
struct Publish {
    #[serde(default)]
    channel_id: String,
    author: String,
    content: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut tuned = false;
    let mut port = 0_u16;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--tuned" => tuned = true,
            number => port = number.parse()?,
        }
    }
    let server = Server { channels: Arc::default(), tuned };
    let app = Router::new()
        .route("/api/ws", get(echo))
        .route("/api/ws/{channel}", get(subscribe))
        .route("/api/messages", post(publish))
        .with_state(server);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

impl Server {
    fn upgrade(&self, upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
        if self.tuned { upgrade.read_buffer_size(4096).write_buffer_size(0) } else { upgrade }
    }

    fn channel(&self, name: &str) -> Option<broadcast::Sender<Utf8Bytes>> {
        let mut channels = self.channels.lock().ok()?;
        if let Some(sender) = channels.get(name) {
            return Some(sender.clone());
        }
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        channels.insert(name.to_owned(), sender.clone());
        Some(sender)
    }

    /// Tells everybody on the channel, and returns the message.
    fn publish(&self, message: &Publish) -> Value {
        let data = json!({
            "channel_id": message.channel_id, "author": message.author, "content": message.content,
            "lane": null, "provider": null, "token_count": null,
        });
        if let Some(channel) = self.channel(&message.channel_id) {
            let text = json!({"type": "message", "data": &data}).to_string();
            // Nobody is there.
            let _ = channel.send(text.into());
        }
        data
    }
}

async fn echo(upgrade: WebSocketUpgrade, State(server): State<Server>) -> Response {
    server.upgrade(upgrade).on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn subscribe(
    upgrade: WebSocketUpgrade,
    Path(name): Path<String>,
    State(server): State<Server>,
) -> Response {
    server.upgrade(upgrade).on_upgrade(async move |socket| member(socket, name, server).await)
}

async fn member(mut socket: WebSocket, name: String, server: Server) {
    let Some(mut messages) = server.channel(&name).map(|channel| channel.subscribe()) else { return };
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(mut message) = serde_json::from_str::<Publish>(&text) {
                        message.channel_id.clone_from(&name);
                        server.publish(&message);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            message = messages.recv() => {
                let Ok(text) = message else { return };
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn publish(State(server): State<Server>, Json(message): Json<Publish>) -> Json<Value> {
    Json(json!({"success": true, "message": server.publish(&message)}))
}
