//! One file per command. Each validates first; a rejection takes back whatever was written before it.

pub(crate) mod acknowledge;
pub(crate) mod acknowledge_attempt;
pub(crate) mod answer_task;
pub(crate) mod bootstrap;
pub(crate) mod controls;
pub(crate) mod create_api_key;
pub(crate) mod create_service_account;
pub(crate) mod deliver;
pub(crate) mod disable_callback;
pub(crate) mod fail_attempt;
pub(crate) mod finish;
pub(crate) mod finish_attempt;
pub(crate) mod policy;
pub(crate) mod pulse;
pub(crate) mod record_replay;
pub(crate) mod redeliver;
pub(crate) mod replay_delivery;
pub(crate) mod reserve;
pub(crate) mod resolve;
pub(crate) mod resume;
pub(crate) mod revoke_api_key;
pub(crate) mod set_feature_level;
pub(crate) mod start_scenario;
pub(crate) mod submit;
pub(crate) mod update_service_account;
pub(crate) mod write_thread;
