//! Encodings that are on disks and in logs: a changed byte here breaks rolling upgrades.

use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{Batch, Command, Intent, Pulse};
use baton_state_machine::testing::{Replica, START_MS, agent, intent_id, submit};
use prost::Message;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn batch() -> Batch {
    Batch {
        log_time_ms: START_MS,
        commands: vec![
            Command {
                origin: 0x0123_4567_89ab_cdef,
                sequence: 7,
                settled_below: 5,
                expires_at_ms: START_MS + 10_000,
                body: Some(Body::Submit(submit("worker", 1))),
            },
            Command {
                body: Some(Body::Pulse(Pulse {})),
                ..Command::default()
            },
        ],
    }
}

fn intent() -> Option<Intent> {
    let mut replica = Replica::new(1, 1);
    replica.apply(&batch());
    replica.intent(intent_id(&agent("worker"), 1))
}

const BATCH: &str = "0880a0f1c2b13412b20109efcdab89674523011090eef1c2b1341a99010a24080212026f311a02773122186167656e743a2f2f61636d652f70726f642f73656e646572121001a3185c5000802180000000000000011a0c6f726465722e7061792e76312203632d31323c0a186167656e743a2f2f61636d652f70726f642f776f726b657212186167656e743a2f2f61636d652f70726f642f776f726b65721a02773122026f31420e0a0c7b22616d6f756e74223a317da00607a8060512025a00";
const INTENT: &str = "0a1001a3185c50008021800000000000000112026f311a027731220c6f726465722e7061792e76312a03632d3132186167656e743a2f2f61636d652f70726f642f73656e6465723a3c0a186167656e743a2f2f61636d652f70726f642f776f726b657212186167656e743a2f2f61636d652f70726f642f776f726b65721a02773122026f3148035880a0f1c2b1346080a0f1c2b134700388010398018080e2c4f2a29903fa01186167656e743a2f2f61636d652f70726f642f73656e64657280020c";

#[test]
fn batch_bytes_are_golden() {
    assert_eq!(hex(&batch().encode_to_vec()), BATCH);
}

#[test]
fn intent_bytes_are_golden() {
    assert_eq!(hex(&intent().unwrap().encode_to_vec()), INTENT);
}

/// What `apply` does with an old log must never change without a feature level.
#[test]
fn state_hash_is_golden() {
    let mut replica = Replica::new(1, 1);
    replica.apply(&batch());
    assert_eq!(format!("{:016x}", replica.hash()), "037172f5538ca22a");
}
