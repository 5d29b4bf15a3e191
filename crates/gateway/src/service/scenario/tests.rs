//! Bundles and what is made of them: kinds, edges, findings.

use baton_protocol::proto::internal::{HumanTask, Reminders};

use super::kinds::Target;
use super::plan::{Plan, plan};
use super::{Bundle, BundleAgent, BundleHuman, Findings, Step};

fn step(id: &str, assigned: Option<&str>) -> Step {
    Step {
        step_id: id.into(),
        assigned_to: assigned.map(Into::into),
        ..Step::default()
    }
}

fn tool(id: &str, tool_id: &str) -> Step {
    Step {
        tool_id: Some(tool_id.into()),
        ..step(id, None)
    }
}

fn runtime(id: &str, kind: &str, seconds: u32) -> Step {
    let mut made = step(id, None);
    made.runtime_type = Some(kind.into());
    made.config.seconds = (seconds != 0).then_some(seconds);
    made
}

fn bundle(steps: Vec<Step>) -> Bundle {
    Bundle {
        scenario_id: "s.demo.v1".into(),
        agents: vec![BundleAgent {
            role: Some("worker".into()),
            address: "payment-service-demo".into(),
            ..BundleAgent::default()
        }],
        humans: vec![BundleHuman {
            role: Some("boss".into()),
            contact: Some("boss@example.com".into()),
            display_name: Some("The Boss".into()),
        }],
        steps,
        ..Bundle::default()
    }
}

fn errors(steps: Vec<Step>) -> Vec<String> {
    bundle(steps).check().errors
}

fn planned(steps: Vec<Step>) -> Plan {
    let (plan, findings) = plan(&bundle(steps));
    assert_eq!(findings.errors, Vec::<String>::new());
    plan
}

fn targets(steps: Vec<Step>) -> Vec<Target> {
    planned(steps).steps.into_iter().map(|s| s.target).collect()
}

#[test]
fn steps_run_in_order_by_role_or_address() {
    let steps = vec![
        step("a", Some("worker")),
        step("b", Some("agent://payment-service-demo")),
        step("c", None),
        step("d", Some("agent://acme/prod/other")),
    ];
    let (plan, findings) = plan(&bundle(steps));
    assert_eq!(findings, Findings::default());
    let found: Vec<_> = plan.steps.iter().map(|s| s.target.clone()).collect();
    assert_eq!(
        found,
        [
            Target::Agent(0),
            Target::Agent(0),
            Target::Noop,
            Target::Address("agent://acme/prod/other".into()),
        ]
    );
    let next: Vec<_> = plan.steps.iter().map(|s| s.on_success).collect();
    assert_eq!(next, [2, 3, 4, 0]);
}

#[test]
fn every_kind_is_found_by_its_first_rule() {
    let approval = |assigned| Step {
        requires_approval: true,
        ..step("s", assigned)
    };
    let asking = |assigned| Step {
        human_task: Some(HumanTask::default()),
        ..step("s", assigned)
    };
    let mut delay = tool("s", "tool.internal.delay");
    delay.config.seconds = Some(10);
    let mut call = tool("s", "tool.internal.escalation");
    call.config.escalate_to = Some("boss".into());
    let chief = Target::Escalation("boss@example.com".into());
    for (given, expected) in [
        (runtime("s", "human_approval", 0), Target::Gate(None)),
        (runtime("s", "delay", 7), Target::Delay(7)),
        (runtime("s", "timeout", 7), Target::Delay(7)),
        (runtime("s", "reminder", 7), Target::Delay(7)),
        (runtime("s", "notification", 0), Target::Notification),
        (delay, Target::Delay(10)),
        (call, chief.clone()),
        (
            Step {
                runtime_type: Some("escalation".into()),
                ..step("s", Some("boss"))
            },
            chief,
        ),
        (tool("s", "tool.internal.notification"), Target::Notification),
        (tool("s", "tool.approval.human_signoff"), Target::Gate(None)),
        (tool("s", "tool.human.approval.v1"), Target::Gate(None)),
        (tool("s", "tool.notification.notify_owner"), Target::Gate(None)),
        (approval(None), Target::Gate(None)),
        (approval(Some("boss")), Target::Gate(Some(0))),
        (asking(Some("boss")), Target::Gate(Some(0))),
        (step("s", Some("boss")), Target::Gate(Some(0))),
        // The agent works first, then the person is asked.
        (approval(Some("worker")), Target::Agent(0)),
        (step("s", Some("worker")), Target::Agent(0)),
        (step("s", Some("agent_core")), Target::Noop),
        (step("s", None), Target::Noop),
    ] {
        assert_eq!(targets(vec![given.clone()]), [expected], "{given:?}");
    }
}

#[test]
fn settings_go_to_the_wait_behind_them() {
    let reminder = Step {
        reminders: Some(Reminders {
            remind_after_seconds: 5,
            max_reminders: 2,
            ..Reminders::default()
        }),
        ..runtime("r", "reminder", 0)
    };
    let plan = planned(vec![
        runtime("t", "timeout", 30),
        reminder,
        step("ask", Some("boss")),
    ]);
    assert_eq!(plan.steps[0].target, Target::Delay(30), "a reminder is no wait");
    assert_eq!(plan.steps[1].target, Target::Noop);
    assert_eq!(plan.steps[2].reminders.as_ref().map(|r| r.max_reminders), Some(2));
    let mut work = step("work", Some("worker"));
    work.step_deadline_seconds = 60;
    let plan = planned(vec![runtime("t", "timeout", 30), work]);
    assert_eq!(
        (plan.steps[0].target.clone(), plan.steps[1].deadline_seconds),
        (Target::Noop, 30)
    );
}

#[test]
fn every_problem_is_named_with_its_field() {
    let mut human = step("a", Some("boss"));
    human.on_success = Some("nowhere".into());
    let mut greedy = step("b", Some("worker"));
    greedy.max_retries = 1_000;
    let found = errors(vec![
        human,
        runtime("a", "dance", 0),
        runtime("c", "delay", 0),
        tool("d", "tool.internal.escalation"),
        tool("e", "tool.agent.task.v1"),
        greedy,
        runtime("f", "delay", u32::MAX),
    ]);
    for part in [
        "workflow.steps[1].step_id is used twice",
        "workflow.steps[0].on_success names no step",
        "workflow.steps[1].runtime_type is dance; it must be one of human_approval",
        "workflow.steps[2].runtime_config.seconds is required",
        "workflow.steps[3].input.escalate_to is required",
        "workflow.steps[4].assigned_to is missing",
        "workflow.steps[5].retry.max_retries is 1000, at most 100",
        "workflow.steps[6].seconds is",
    ] {
        assert!(found.iter().any(|e| e.contains(part)), "{part} in {found:?}");
    }
    let mut double = bundle(vec![]);
    double.humans[0].role = Some("worker".into());
    double.macro_id = Some("m.v1".into());
    let found = double.check().errors;
    assert!(
        found
            .iter()
            .any(|e| e.starts_with("humans[0].role is used twice")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|e| e.starts_with("workflow.macro_id names no macro")),
        "{found:?}"
    );
}

#[test]
fn what_works_but_surprises_is_a_warning() {
    let mut hasty = runtime("d", "delay", 10);
    hasty.step_deadline_seconds = 3;
    let mut sure = step("n", None);
    sure.on_failure = Some("d".into());
    let mut reminded = step("w", Some("worker"));
    reminded.reminders = Some(Reminders::default());
    reminded.on_success = Some("n".into());
    let unreached = step("u", Some("boss"));
    let found = bundle(vec![hasty, reminded, unreached, sure]).check();
    assert_eq!(found.errors, Vec::<String>::new());
    for part in [
        "workflow.steps[0].step_deadline_seconds is shorter",
        "workflow.steps[2] (u) is never reached",
        "workflow.steps[3].on_failure: this step cannot fail",
        "(d) may lead back to itself",
    ] {
        assert!(
            found.warnings.iter().any(|w| w.contains(part)),
            "{part} in {found:?}"
        );
    }
}

#[test]
fn the_internal_runtime_runs_nothing_even_when_it_is_listed() {
    let mut core = bundle(vec![step("a", Some("runtime")), step("b", Some("agent_core"))]);
    core.agents.push(BundleAgent {
        role: Some("runtime".into()),
        address: "agent_core".into(),
        create_if_missing: true,
        ..BundleAgent::default()
    });
    let (compiled, findings) = plan(&core);
    assert_eq!(findings, Findings::default());
    assert!(compiled.steps.iter().all(|s| s.target == Target::Noop));
    core.steps[0].tool_id = Some("tool.agent.task.v1".into());
    assert!(core.check().errors[0].contains("unknown to agent_core"));
}

#[test]
fn agents_that_cannot_be_created_are_named_before_anything_is() {
    let mut unnameable = bundle(vec![step("a", Some("worker"))]);
    unnameable.agents[0].address = "x".into();
    assert_eq!(
        unnameable.check(),
        Findings::default(),
        "known under whatever name"
    );
    unnameable.agents[0].create_if_missing = true;
    assert!(unnameable.check().errors[0].starts_with("agents[0].address: name must leave"));
}

#[test]
fn circles_without_a_wait_are_refused_and_others_are_bounded() {
    let mut a = step("a", Some("worker"));
    a.on_success = Some("b".into());
    let mut b = step("b", Some("worker"));
    b.on_failure = Some("a".into());
    let found = bundle(vec![a, b]).check();
    assert_eq!(found.errors, Vec::<String>::new());
    assert!(found.warnings[0].contains("workflow_loop"), "{found:?}");
    let mut alone = step("a", None);
    alone.on_success = Some("a".into());
    assert!(errors(vec![alone])[0].contains("without waiting"));
    let mut tell = tool("b", "tool.internal.notification");
    tell.on_success = Some("a".into());
    assert!(errors(vec![step("a", None), tell])[0].contains("without waiting"));
}
