//! Small components as wit-component makes them, rewritten and validated again.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentImportSection, ComponentTypeRef, ComponentTypeSection, InstanceType, NestedComponentSection,
    PrimitiveValType,
};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::*;

/// A component that imports an instance with these functions, each of which takes and gives a number or nothing, and
/// lowers all of them after one of another instance.
fn guest(interface: &str, functions: &[(&str, bool, bool)]) -> Component {
    let mut component = Component::new();
    let mut types = ComponentTypeSection::new();
    for functions in [&[("other", true, false)], functions] {
        let mut instance = InstanceType::new();
        for (index, (name, takes, gives)) in functions.iter().enumerate() {
            let u32 = PrimitiveValType::U32.into();
            let params = takes.then_some(("thread", u32));
            instance.ty().function().params(params).result(gives.then_some(u32));
            instance.export(*name, ComponentTypeRef::Func(index as u32));
        }
        types.instance(&instance);
    }
    component.section(&types);
    let mut imports = ComponentImportSection::new();
    imports.import("conet:test/other", ComponentTypeRef::Instance(0));
    imports.import(interface, ComponentTypeRef::Instance(1));
    component.section(&imports);
    let mut aliases = ComponentAliasSection::new();
    let mut alias = |instance, name| {
        aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name });
    };
    alias(0, "other");
    functions.iter().for_each(|(name, ..)| alias(1, name));
    component.section(&aliases);
    let mut canonicals = CanonicalFunctionSection::new();
    for function in 0..=functions.len() as u32 {
        canonicals.lower(function, Vec::<CanonicalOption>::new());
    }
    component.section(&canonicals);
    component
}

const ALL: &[(&str, bool, bool)] = &[
    ("index", false, true),
    ("suspend", false, true),
    ("suspend-then-resume", true, true),
    ("resume-later", true, false),
];

/// What is lowered or built in, in order, in all components; and it is valid.
fn canonicals(component: &[u8]) -> Vec<String> {
    let features = WasmFeatures::all();
    Validator::new_with_features(features).validate_all(component).expect("a valid component");
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::ComponentCanonicalSection(section) = payload.expect("valid") {
            found.extend(section.into_iter().map(|canonical| format!("{:?}", canonical.expect("valid"))));
        }
    }
    found
}

#[test]
fn calls_become_built_ins_and_others_stay() {
    let component = guest("conet:fibers/threads@0.1.0", ALL).finish();
    let rewritten = instrument(&component).expect("known functions");
    assert_eq!(
        canonicals(&rewritten),
        [
            "Lower { func_index: 0, options: [] }",
            "ThreadIndex",
            "ThreadSuspend { cancellable: false }",
            "ThreadSuspendThenResume { cancellable: false }",
            "ThreadResumeLater",
        ]
    );
}

#[test]
fn nested_components_are_rewritten_too() {
    let inner = guest("conet:fibers/threads@0.1.0", &ALL[..1]);
    let mut outer = Component::new();
    outer.section(&NestedComponentSection(&inner));
    let rewritten = outer.finish();
    let rewritten = instrument(&rewritten).expect("known functions");
    assert_eq!(canonicals(&rewritten), ["Lower { func_index: 0, options: [] }", "ThreadIndex"]);
}

#[test]
fn a_component_without_such_calls_stays_as_it_is() {
    for interface in ["conet:test/threads@0.1.0", "conet:fibers/threads-of-another"] {
        let component = guest(interface, ALL).finish();
        assert!(
            matches!(instrument(&component), Ok(Cow::Borrowed(same)) if same == component),
            "{interface}"
        );
    }
}

#[test]
fn an_unknown_function_is_refused_by_name() {
    let component = guest("conet:fibers/threads@0.1.0", &[("resume-now", true, false)]).finish();
    let error = instrument(&component).expect_err("not known").to_string();
    assert!(error.contains("`resume-now`") && error.contains("conet-guest-sdk"), "{error}");
}

#[test]
fn what_is_cut_off_is_an_error() {
    let component = guest("conet:fibers/threads@0.1.0", ALL).finish();
    for end in 0..component.len() {
        // Some parts are components again, with nothing lowered in them.
        if let Ok(rewritten) = instrument(&component[..end]) {
            assert_eq!(*rewritten, component[..end], "cut at {end}");
        }
    }
}
