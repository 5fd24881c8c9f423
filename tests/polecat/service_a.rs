//! The channel service: PROTOCOL.md, "4. Channels: `/api/ws/{channel_id}`". The tests named `criterion`
//! are its seven criteria.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::socket::message;
use crate::support::{Home, Server, Socket, assert_keys_in_order, assert_timestamp, get, post};

#[test]
fn criterion_1_clients_connect_disconnect_and_are_broadcast_to() {
    let server = Server::start();
    let mut ann = Socket::connect(server.addr(), "/api/ws/room");
    let mut bob = Socket::connect(server.addr(), "/api/ws/room");
    ann.send_json(&json!({"type": "message", "author": "ann", "content": "hello"}));
    assert_eq!(bob.next_data()["content"], "hello");
    assert_eq!(ann.next_data()["content"], "hello");
    assert_eq!(ann.close().0, 1000);
    bob.send_json(&json!({"type": "message", "author": "bob", "content": "alone now"}));
    assert_eq!(bob.next_data()["content"], "alone now");
    assert_eq!(bob.close().0, 1000);
}

#[test]
fn criterion_2_the_path_names_the_channel() {
    let server = Server::start();
    let mut red = Socket::connect(server.addr(), "/api/ws/red");
    let mut blue = Socket::connect(server.addr(), "/api/ws/blue");
    red.send_json(&json!({"type": "message", "content": "for red", "channel_id": "blue"}));
    let data = red.next_data();
    assert_eq!(data["channel_id"], "red", "the path decides, not the message");
    blue.expect_nothing_more();
    red.expect_nothing_more();
}

#[test]
fn criterion_3_many_clients_share_a_channel() {
    let server = Server::start();
    let mut clients = (0..50).map(|_| Socket::connect(server.addr(), "/api/ws/room")).collect::<Vec<_>>();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_json(&json!({"type": "message", "author": format!("client {number}"), "content": "hi"}));
    }
    let first = (0..50).map(|_| clients[0].next_data()).collect::<Vec<_>>();
    for client in &mut clients[1..] {
        for data in &first {
            assert_eq!(client.next_data(), *data, "all see the same, in the same order");
        }
    }
}

#[test]
fn criterion_4_a_message_is_broadcast_to_all_of_its_channel_the_sender_included() {
    let server = Server::start();
    let mut clients = (0..4).map(|_| Socket::connect(server.addr(), "/api/ws/room")).collect::<Vec<_>>();
    clients[2].send_json(&json!({"type": "message", "author": "third", "content": "to all",
        "lane": "fast", "provider": "acme", "token_count": 12}));
    for client in &mut clients {
        let text = client.next_text();
        assert_keys_in_order(&text, &["type", "data", "event_id"]);
        let keys = ["id", "channel_id", "author", "content", "timestamp", "lane", "provider", "token_count"];
        assert_keys_in_order(&text, &keys);
        let broadcast = serde_json::from_str::<Value>(&text).expect("JSON");
        assert_timestamp(broadcast["data"]["timestamp"].as_str().expect("a string"));
        let expected = json!({"type": "message", "event_id": "message-00001", "data": {
            "id": 1, "channel_id": "room", "author": "third", "content": "to all",
            "timestamp": broadcast["data"]["timestamp"], "lane": "fast", "provider": "acme", "token_count": 12}});
        assert_eq!(broadcast, expected);
    }
}

#[test]
fn criterion_5_a_post_is_broadcast_like_a_message() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    let mut elsewhere = Socket::connect(server.addr(), "/api/ws/other");
    let answer = post(server.addr(), "/api/messages", &message("room", "rest", "posted")).ok();
    assert_eq!(answer["success"], true);
    let broadcast = client.next_of_type("message");
    assert_eq!(broadcast["data"], answer["message"]);
    assert_eq!(broadcast["event_id"], "message-00001");
    elsewhere.expect_nothing_more();
}

#[test]
fn criterion_6_a_clean_disconnect_is_answered_and_harms_nobody() {
    let server = Server::start();
    let mut stays = Socket::connect(server.addr(), "/api/ws/room");
    for _ in 0..10 {
        let mut leaves = Socket::connect(server.addr(), "/api/ws/room");
        leaves.send_json(&json!({"type": "ping"}));
        leaves.next_of_type("pong");
        assert_eq!(leaves.close(), (1000, String::new()));
    }
    post(server.addr(), "/api/messages", &message("room", "rest", "still here")).ok();
    assert_eq!(stays.next_data()["content"], "still here");
}

#[test]
fn criterion_7_dead_connections_do_not_disturb_a_broadcast() {
    let server = Server::start();
    let mut living = Vec::new();
    for _ in 0..5 {
        let dead = Socket::connect(server.addr(), "/api/ws/room");
        living.push(Socket::connect(server.addr(), "/api/ws/room"));
        dead.reset();
        // Dropped without a Close: the stream ends in the middle of the protocol.
        drop(Socket::connect(server.addr(), "/api/ws/room"));
    }
    for content in ["one", "two"] {
        post(server.addr(), "/api/messages", &message("room", "rest", content)).ok();
        for client in &mut living {
            assert_eq!(client.next_data()["content"], content);
        }
    }
}

#[test]
fn a_ping_is_answered_by_a_pong() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    client.send_text("{\"type\":\"ping\"}");
    assert_eq!(client.next_text(), "{\"type\":\"pong\"}");
    let mut other = Socket::connect(server.addr(), "/api/ws/room");
    client.send_json(&json!({"type": "ping", "more": [1]}));
    client.next_of_type("pong");
    other.expect_nothing_more();
}

#[test]
fn a_message_has_defaults_for_what_it_leaves_out() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    let nulls = json!({"type": "message", "author": null, "content": null, "lane": null, "provider": null,
        "token_count": null});
    for bare in [json!({"type": "message"}), nulls] {
        client.send_json(&bare);
        let data = client.next_data();
        assert_eq!((&data["author"], &data["content"]), (&json!("unknown"), &json!("")));
        for key in ["lane", "provider", "token_count"] {
            assert_eq!(data.get(key), Some(&Value::Null), "{key} is there, and null");
        }
    }
}

#[test]
fn what_is_no_message_is_ignored_and_the_connection_stays() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    let rubbish = [
        "{\"type\":\"typing\",\"author\":\"ann\"}",
        "{\"content\":\"no type\"}",
        "{\"type\":7}",
        "{\"type\":\"message\",\"content\":7}",
        "{\"type\":\"message\",\"token_count\":\"many\"}",
        "{\"type\":\"message\"",
        "{\"type\":\"message\"}}",
        "[]",
        "null",
        "\"message\"",
        "",
        "\u{1F980}",
    ];
    for text in rubbish {
        client.send_text(text);
    }
    client.send_text(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    client.send(Message::binary(b"{\"type\":\"message\"}".to_vec()));
    client.expect_nothing_more();
    client.send_json(&json!({"type": "ping"}));
    client.next_of_type("pong");
    let stored = get(server.addr(), "/api/messages").ok();
    assert_eq!(stored["messages"].as_array().map(Vec::len), Some(1), "the marker alone: {stored}");
}

#[test]
fn channel_names_are_percent_decoded_utf_8_and_may_hold_a_slash() {
    let server = Server::start();
    for (target, name) in [
        ("/api/ws/caf%C3%A9%2Fbar", "café/bar"),
        ("/api/ws/%e6%97%a5%E6%9C%AC", "日本"),
        ("/api/ws/a%20b+c%25", "a b+c%"),
        ("/api/ws/tilde~dot.dash-_?ignored=1", "tilde~dot.dash-_"),
    ] {
        let mut client = Socket::connect(server.addr(), target);
        client.send_json(&json!({"type": "message", "content": "by socket"}));
        assert_eq!(client.next_data()["channel_id"], name);
        post(server.addr(), "/api/messages", &message(name, "rest", "by post")).ok();
        assert_eq!(client.next_data()["content"], "by post");
    }
    let found = get(server.addr(), "/api/messages?channel_id=caf%C3%A9%2Fbar").ok();
    assert_eq!(found["messages"].as_array().map(Vec::len), Some(2));
}

#[test]
fn text_is_kept_as_it_was_sent() {
    let home = Home::new();
    let server = home.serve();
    let contents =
        ["quotes \" and \\ \u{8}\u{c}\n\r\t", "\u{0}\u{1f}\u{7f}", "\u{1F980} é 日本 \u{2028}", "", " "];
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    for content in contents {
        client.send_json(&json!({"type": "message", "author": content, "content": content}));
        let data = client.next_data();
        assert_eq!((&data["author"], &data["content"]), (&json!(content), &json!(content)));
    }
    drop(client);
    server.stop();
    let server = home.serve();
    let stored = get(server.addr(), "/api/messages").ok();
    for (number, content) in contents.iter().enumerate() {
        assert_eq!(stored["messages"][number]["content"], *content);
    }
}

#[test]
fn without_a_channel_every_message_is_echoed() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/api/ws");
    let mut other = Socket::connect(server.addr(), "/api/ws");
    let long = "ü".repeat(100_000);
    for text in ["hello", "{\"type\":\"ping\"}", "", &long] {
        client.send_text(text);
        assert_eq!(client.next_text(), text);
    }
    for bytes in [vec![], vec![0, 255, 128], vec![7; 70_000]] {
        client.send(Message::binary(bytes.clone()));
        assert_eq!(client.next_message(), Message::binary(bytes));
    }
    other.send_text("mine");
    assert_eq!(other.next_text(), "mine", "nobody else's echo came before");
    let stored = get(server.addr(), "/api/messages").ok();
    assert_eq!(stored, json!({"messages": []}), "an echo is not stored");
}
