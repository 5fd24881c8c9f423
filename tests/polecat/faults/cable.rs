//! Two network namespaces and the cable between them, which can be pulled:
//! PROTOCOL.md, "9. Heartbeats and liveness".

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The server's address within its namespace.
pub(crate) const SERVER: &str = "10.77.0.1";
const CLIENTS: &str = "10.77.0.2";

/// It is removed, with both namespaces, when it is dropped.
pub(crate) struct Cable {
    pub(crate) server: String,
    pub(crate) clients: String,
}

impl Cable {
    /// `None` if the system does not allow it.
    pub(crate) fn lay() -> Option<Self> {
        static LAID: AtomicU32 = AtomicU32::new(0);
        let number = LAID.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("polecat-{side}-{}-{number}", std::process::id());
        let cable = Self { server: name("server"), clients: name("clients") };
        let (server, clients) = (&*cable.server, &*cable.clients);
        let is_laid = ip(&["netns", "add", server])
            && ip(&["netns", "add", clients])
            && ip(&[
                "-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns",
                clients,
            ])
            && ip(&["-n", server, "address", "add", &format!("{SERVER}/24"), "dev", "cable"])
            && ip(&["-n", clients, "address", "add", &format!("{CLIENTS}/24"), "dev", "cable"])
            && ip(&["-n", server, "link", "set", "lo", "up"])
            && ip(&["-n", server, "link", "set", "cable", "up"])
            && ip(&["-n", clients, "link", "set", "cable", "up"]);
        is_laid.then_some(cable)
    }

    /// From now on nothing gets through, and nobody is told.
    pub(crate) fn pull(&self) {
        assert!(ip(&["-n", &self.clients, "link", "set", "cable", "down"]), "the cable can be pulled");
    }

    pub(crate) fn plug_in(&self) {
        assert!(ip(&["-n", &self.clients, "link", "set", "cable", "up"]), "the cable can be plugged in");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The cable disappears with its ends.
        for name in [&self.server, &self.clients] {
            ip(&["netns", "delete", name]);
        }
    }
}

/// Opens sockets within the namespace; they stay there.
pub(crate) fn within<T: Send>(name: &str, open: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let namespace = File::open(format!("/run/netns/{name}")).expect("the namespace has a name");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("it can be entered");
        open()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("sockets can be opened there"))
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|output| output.status.success())
}
