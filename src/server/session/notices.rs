//! The health of the store, as subscribers of events are told it. It is an event, but not one that could be stored now: it
//! has the id up to which its receiver has been sent everything.

use crate::hub::member::Member;
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::store::engine::Health;
use crate::wire::protocol::{Position, Sequence, write_envelope, write_json};

/// Tells of the store's health when that has changed. It is an event, but not
/// one that could be stored now: it has the id up to which its receiver has been
/// sent everything.
pub(in crate::server) fn watch_health<S: Socket>(owners: &mut Owners<S>) {
    match owners.store.take_health_change() {
        None => return,
        Some(Health::Sound) => log::info!("the store works again"),
        Some(Health::Degraded(reason)) => log::error!("nothing can be stored now: {reason}"),
    }
    owners.hub.notify_events();
}

pub(in crate::server) fn notify<S: Socket>(owners: &mut Owners<S>) {
    if !owners.hub.has_notices() {
        return;
    }
    let payload = health_payload(owners.store.health_told());
    let timestamp = owners.time.timestamp();
    for _ in 0..owners.config.budgets.sweep_members {
        let Some(member) = owners.hub.next_notice() else { return };
        let Some(subscriber) = owners.subscriber(member) else { continue };
        let index = subscriber.connection.index;
        let position = match member {
            Member::Connection(_) => Position::Id(Sequence::Events, owners.connections.at(index).cursor()),
            Member::Subscription(_) => Position::Untold,
        };
        owners.write_text(index, |out| {
            write_envelope("health_status", &payload, None, &timestamp, position, out);
        });
        owners.send_output(index);
    }
}

/// How the store is, as `health` and `health_status` say it.
pub(in crate::server) fn health_payload(health: &Health) -> Vec<u8> {
    let mut payload = Vec::new();
    match health {
        Health::Sound => payload.extend_from_slice(b"{\"status\":\"ok\"}"),
        Health::Degraded(reason) => {
            payload.extend_from_slice(b"{\"status\":\"degraded\",\"reason\":");
            write_json(reason.as_str(), &mut payload);
            payload.push(b'}');
        }
    }
    payload
}
