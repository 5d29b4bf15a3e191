//! What is published of `baton.v1` stays as it is: clients that were generated from it go on working.
//!
//! `baton.v1.txt` holds one line per message, field, enum value and method. A line that is there may not go or change;
//! new ones are added with `BATON_RENEW_API=1 cargo nextest run -p baton-protocol client_api`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use baton_protocol::proto::v1::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

const RENEW: &str = "BATON_RENEW_API";

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/baton.v1.txt")
}

fn set() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// One line per thing that a generated client depends on.
fn surface(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|f| f.package() == "baton.v1") {
        for message in &file.message_type {
            add_message(&format!("baton.v1.{}", message.name()), message, &mut lines);
        }
        for one in &file.enum_type {
            add_enum(&format!("baton.v1.{}", one.name()), one, &mut lines);
        }
        for service in &file.service {
            add_service(service, &mut lines);
        }
    }
    lines
}

fn add_message(name: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let label = match (field.label(), field.proto3_optional()) {
            (Label::Repeated, _) => "repeated ",
            (_, true) => "optional ",
            (Label::Optional | Label::Required, false) => "",
        };
        let kind = match field.type_name() {
            "" => field
                .r#type()
                .as_str_name()
                .trim_start_matches("TYPE_")
                .to_lowercase(),
            named => named.trim_start_matches('.').to_owned(),
        };
        let within = field
            .oneof_index
            .filter(|_| !field.proto3_optional())
            .map(|index| format!(" in {}", message.oneof_decl[index as usize].name()));
        lines.insert(format!(
            "field {name} {:>3}: {label}{kind} {}{}",
            field.number(),
            field.name(),
            within.unwrap_or_default()
        ));
    }
    for nested in &message.nested_type {
        add_message(&format!("{name}.{}", nested.name()), nested, lines);
    }
    for one in &message.enum_type {
        add_enum(&format!("{name}.{}", one.name()), one, lines);
    }
}

fn add_enum(name: &str, one: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &one.value {
        lines.insert(format!("value {name} {:>3}: {}", value.number(), value.name()));
    }
}

fn add_service(service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |streams| if streams { "stream " } else { "" };
    for method in &service.method {
        lines.insert(format!(
            "rpc baton.v1.{}.{}({}{}) returns ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}

/// What of the published surface is gone or changed.
fn broken(published: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    published.difference(now).cloned().collect()
}

#[test]
fn client_api_only_grows() {
    let now = surface(&set());
    let stored = std::fs::read_to_string(golden()).unwrap_or_default();
    let published: BTreeSet<String> = stored.lines().map(str::to_owned).collect();
    let broken = broken(&published, &now);
    assert!(
        broken.is_empty(),
        "published parts of baton.v1 are gone or changed; give new things new names and numbers:\n{}",
        broken.join("\n")
    );
    let added: Vec<&str> = now.difference(&published).map(String::as_str).collect();
    if std::env::var_os(RENEW).is_some() {
        let text: String = now.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(golden(), text).unwrap();
    } else {
        assert!(
            added.is_empty(),
            "new in baton.v1; publish it with {RENEW}=1 cargo nextest run -p baton-protocol client_api:\n{}",
            added.join("\n")
        );
    }
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    let mut messages = set.file.iter_mut().flat_map(|f| &mut f.message_type);
    messages.find(|m| m.name() == name).unwrap()
}

fn service(set: &mut FileDescriptorSet) -> &mut ServiceDescriptorProto {
    set.file.iter_mut().find_map(|f| f.service.first_mut()).unwrap()
}

/// How many published lines a change breaks.
fn breaks(change: impl FnOnce(&mut FileDescriptorSet)) -> usize {
    let published = surface(&set());
    let mut changed = set();
    change(&mut changed);
    broken(&published, &surface(&changed)).len()
}

#[test]
fn every_kind_of_break_is_found() {
    fn field(set: &mut FileDescriptorSet) -> &mut prost_types::FieldDescriptorProto {
        &mut message(set, "SubmitReceipt").field[0]
    }
    assert_eq!(breaks(|set| drop(message(set, "SubmitReceipt").field.pop())), 1);
    assert_eq!(breaks(|set| field(set).number = Some(99)), 1);
    assert_eq!(breaks(|set| field(set).name = Some("x".into())), 1);
    assert_eq!(breaks(|set| field(set).set_type(Type::Bytes)), 1);
    assert_eq!(breaks(|set| field(set).set_label(Label::Repeated)), 1);
    assert_eq!(
        breaks(|set| message(set, "SubmitResult").field[0].oneof_index = None),
        1
    );
    assert_eq!(breaks(|set| drop(service(set).method.pop())), 1);
    assert_eq!(
        breaks(|set| service(set).method[0].server_streaming = Some(true)),
        1
    );
    assert!(breaks(|set| message(set, "SubmitReceipt").name = Some("Receipt".into())) > 1);
    let removed_value = |set: &mut FileDescriptorSet| {
        let mut enums = set.file.iter_mut().flat_map(|f| &mut f.enum_type);
        drop(enums.next().unwrap().value.pop());
    };
    assert_eq!(breaks(removed_value), 1);
}

#[test]
fn growth_is_no_break() {
    let grown = |set: &mut FileDescriptorSet| {
        let mut field = message(set, "SubmitReceipt").field[0].clone();
        (field.name, field.number) = (Some("more".into()), Some(50));
        message(set, "SubmitReceipt").field.push(field);
        let mut method = service(set).method[0].clone();
        method.name = Some("More".into());
        service(set).method.push(method);
    };
    assert_eq!(breaks(|_| {}), 0);
    assert_eq!(breaks(grown), 0);
}
