//! The floor: what a server of these endpoints costs if it only makes the system calls. One thread,
//! edge-triggered polling, one `read` for the bytes that have arrived, one `write` for those to send.
//!
//! It trusts its clients: of a request it finds the end, the path and the key; of a frame the length, the
//! mask and the opcode. All clients on `/api/ws/…` are on one channel.

mod frame;
mod http;
mod server;

use std::error::Error;
use std::time::Duration;

use server::{Options, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let mut port = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--heartbeat" => {
                let seconds = arguments.next().ok_or("--heartbeat SECONDS")?.parse()?;
                options.heartbeat = Some(Duration::from_secs_f64(seconds));
            }
            "--deaf" => options.is_deaf = true,
            "--each" => options.writes_each = true,
            number => port = number.parse()?,
        }
    }
    Server::start(port, options)?.run()?;
    Ok(())
}
