//! Deliveries from a group's leader to the nodes that have listeners.

mod board;
mod group;
mod ledger;
mod session;

pub(crate) use group::GroupDispatch;

use crate::frames;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// The groups that this node leads: streams of listening nodes arrive here.
#[derive(Default)]
pub struct Dispatcher {
    groups: Mutex<HashMap<GroupId, Arc<GroupDispatch>>>,
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
        frames::check_header(header)?;
        let dispatch = self.lock().get(&group).cloned();
        match dispatch {
            Some(dispatch) if dispatch.led.is_leader() => {
                dispatch.accept(rx, tx);
                Ok(())
            }
            Some(_) | None => Err(ServiceError::new(
                ErrorCode::NotLeader,
                format!("this node does not lead group {group}"),
            )),
        }
    }

    /// Makes `dispatch` the one for its group until the registration is dropped or replaced.
    pub(crate) fn register(self: &Arc<Self>, dispatch: &Arc<GroupDispatch>) -> Registration {
        self.lock().insert(dispatch.led.group_id(), Arc::clone(dispatch));
        Registration {
            dispatcher: Arc::clone(self),
            dispatch: Arc::clone(dispatch),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GroupId, Arc<GroupDispatch>>> {
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
        if groups.get(&group).is_some_and(|d| Arc::ptr_eq(d, &self.dispatch)) {
            groups.remove(&group);
        }
    }
}
