//! Messages that are for one connection alone, in its encoding.

use crate::wire::websocket::codec::{self, OpCode};

use super::server::Server;
use super::socket::Socket;

impl<S: Socket> Server<S> {
    /// Appends a message to the output of a connection.
    pub(super) fn write_message(&mut self, index: u32, opcode: OpCode, payload: &[u8]) {
        let encoding = self.connections.at(index).encoding();
        let (over, coded) = (self.config.compression.over, &mut self.metrics.coded);
        let output = self.connections.output(index);
        match self.encoders.encode_private(encoding, payload, over, coded) {
            Some(payload) => codec::write_compressed_frame(opcode, payload, output),
            None => codec::write_frame(opcode, payload, output),
        }
    }

    /// The same for a text that `write` writes.
    pub(super) fn write_text(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::with_capacity(256);
        write(&mut text);
        self.write_message(index, OpCode::Text, &text);
    }
}
