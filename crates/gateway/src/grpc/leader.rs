//! Where the next call about the same thing takes no detour.

use baton_protocol::{GroupId, Slot};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Response, Status};

use crate::app::App;

/// Metadata of an answer whose command was forwarded: the client address (`host:port`) of the node that leads. Absent
/// when this node leads, or when no address is known.
const LEADER: &str = "baton-leader";

/// The answer of a call that `group` decided.
pub(super) fn tell<T>(app: &App, group: GroupId, answer: Result<T, Status>) -> Result<Response<T>, Status> {
    let leader = app.service.ports.cluster.leader_elsewhere(group);
    match answer {
        Ok(message) => {
            let mut response = Response::new(message);
            name(response.metadata_mut(), leader);
            Ok(response)
        }
        Err(mut status) => {
            name(status.metadata_mut(), leader);
            Err(status)
        }
    }
}

/// The same for a stream that is open already.
pub(super) fn tell_stream<T>(app: &App, group: GroupId, response: &mut Response<T>) {
    name(
        response.metadata_mut(),
        app.service.ports.cluster.leader_elsewhere(group),
    );
}

/// The group that decides about a slot.
pub(super) fn group_of(app: &App, slot: Slot) -> GroupId {
    app.service.ports.group_map.group_of(slot)
}

fn name(metadata: &mut MetadataMap, leader: Option<String>) {
    let value = leader.and_then(|address| address.parse::<MetadataValue<Ascii>>().ok());
    if let Some(value) = value {
        metadata.insert(LEADER, value);
    }
}
