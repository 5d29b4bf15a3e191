//! Deliveries from a group's leader to the nodes that have listeners.

mod board;
mod claims;
mod group;
mod ledger;
mod session;
mod shared;

pub(crate) use group::GroupDispatch;

use crate::frames;
use crate::work::WorkGroup;
use baton_protocol::proto::internal::FeedKind;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Where streams toward one led group go.
#[derive(Clone)]
struct Doors {
    listeners: Arc<GroupDispatch>,
    workers: Arc<WorkGroup>,
}

/// The groups that this node leads: streams of listening nodes arrive here.
#[derive(Default)]
pub struct Dispatcher {
    groups: Mutex<HashMap<GroupId, Doors>>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// One for the whole node.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Serves a stream that a node (or this one) opened to `group`, in the runtime of the group's service. Returns
    /// at once; dropping `tx` is what tells the other side of a refusal.
    ///
    /// # Errors
    /// `NotLeader` when this node does not lead the group, `BadRequest` for an unknown header.
    pub fn accept(
        &self,
        group: GroupId,
        header: Bytes,
        rx: mpsc::Receiver<Bytes>,
        tx: mpsc::Sender<Bytes>,
    ) -> Result<(), ServiceError> {
        let kind = frames::check_header(header)?;
        let doors = self.lock().get(&group).cloned();
        match doors {
            Some(doors) if doors.listeners.led.is_leader() => {
                match kind {
                    FeedKind::Listeners => doors.listeners.accept(rx, tx),
                    FeedKind::Workers => doors.workers.accept(rx, tx),
                }
                Ok(())
            }
            Some(_) | None => Err(ServiceError::new(
                ErrorCode::NotLeader,
                format!("this node does not lead group {group}"),
            )),
        }
    }

    /// Makes these the doors of their group until the registration is dropped or replaced.
    pub(crate) fn register(
        self: &Arc<Self>,
        listeners: &Arc<GroupDispatch>,
        workers: &Arc<WorkGroup>,
    ) -> Registration {
        let doors = Doors {
            listeners: Arc::clone(listeners),
            workers: Arc::clone(workers),
        };
        self.lock().insert(listeners.led.group_id(), doors);
        Registration {
            dispatcher: Arc::clone(self),
            dispatch: Arc::clone(listeners),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GroupId, Doors>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a registration when dropped. The next term's service may have replaced it already.
pub(crate) struct Registration {
    dispatcher: Arc<Dispatcher>,
    dispatch: Arc<GroupDispatch>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut groups = self.dispatcher.lock();
        let group = self.dispatch.led.group_id();
        if groups
            .get(&group)
            .is_some_and(|d| Arc::ptr_eq(&d.listeners, &self.dispatch))
        {
            groups.remove(&group);
        }
    }
}
