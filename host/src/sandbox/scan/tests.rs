//! What is no component, what it exports, and bombs.

use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentInstanceSection, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, ComponentTypeSection, InstanceSection, Module, ModuleArg, ModuleSection,
    NestedComponentSection,
};

use super::{ScanError, scan};

/// A component that instantiates an empty module twice, and exports something under `name`.
fn leaf(name: Option<&str>) -> Component {
    let mut component = Component::new();
    component.section(&ModuleSection(&Module::new()));
    let mut instances = InstanceSection::new();
    instances.instantiate(0, Vec::<(&str, ModuleArg)>::new());
    instances.instantiate(0, Vec::<(&str, ModuleArg)>::new());
    component.section(&instances);
    if let Some(name) = name {
        let mut exports = ComponentExportSection::new();
        exports.export(name, ComponentExportKind::Module, 0, None);
        component.section(&exports);
    }
    component
}

/// `inner`, instantiated twice.
fn doubled(inner: &Component) -> Component {
    let mut component = Component::new();
    component.section(&NestedComponentSection(inner));
    instantiate(&mut component, 0, 2);
    component
}

fn instantiate(component: &mut Component, index: u32, times: usize) {
    let mut instances = ComponentInstanceSection::new();
    for _ in 0..times {
        instances.instantiate(index, Vec::<(&str, ComponentExportKind, u32)>::new());
    }
    component.section(&instances);
}

#[test]
fn tells_what_it_is_not() {
    assert_eq!(scan(b"", 9), Err(ScanError::Empty));
    assert_eq!(scan(b"fn main() {}", 9), Err(ScanError::NotWasm { looks_like_text: true }));
    assert_eq!(scan(b"\x7fELF\0\0", 9), Err(ScanError::NotWasm { looks_like_text: false }));
    assert_eq!(scan(&Module::new().finish(), 9), Err(ScanError::CoreModule));
    let whole = leaf(Some("wasi:cli/run@0.2.3")).finish();
    for end in 1..whole.len() {
        assert!(scan(&whole[..end], 9).is_err(), "cut at {end}");
    }
}

#[test]
fn entries_are_found_in_any_version_of_theirs() {
    let scanned = scan(&leaf(Some("conet:net/handler-entry@0.1.7")).finish(), 9).expect("valid");
    assert!(scanned.handler && !scanned.program && !scanned.fibers);
    assert_eq!(scanned.export("conet:net/handler-entry"), Some("conet:net/handler-entry@0.1.7"));
    let other = scan(&leaf(Some("conet:net/handler-entry@0.2.0")).finish(), 9);
    assert!(matches!(other, Err(ScanError::NoEntry { .. })));
}

#[test]
fn nested_instances_multiply() {
    let mut bomb = leaf(None);
    for _ in 0..24 {
        bomb = doubled(&bomb);
    }
    let error = scan(&bomb.finish(), 256).expect_err("2^25 instances");
    assert!(matches!(error, ScanError::TooManyInstances { max: 256, .. }), "{error}");
}

/// Each component takes the one before it from outside, so that none is in a list of its own.
#[test]
fn instances_multiply_through_outer_aliases() {
    let chain = |length, times| {
        let mut component = leaf(Some("wasi:cli/run@0.2.3"));
        component.section(&NestedComponentSection(&leaf(None)));
        for index in 0..length {
            let mut nested = Component::new();
            let mut aliases = ComponentAliasSection::new();
            let kind = ComponentOuterAliasKind::Component;
            aliases.alias(Alias::Outer { kind, count: 1, index });
            nested.section(&aliases);
            instantiate(&mut nested, 0, times);
            component.section(&NestedComponentSection(&nested));
        }
        instantiate(&mut component, length, 1);
        component.finish()
    };
    assert!(scan(&chain(1, 100), 256).is_ok(), "200 instances of the leaf's, and two");
    assert!(scan(&chain(100, 1), 256).is_ok(), "a deep one makes no more than its leaf");
    for (length, times) in [(1, 128), (3, 10), (8, 100)] {
        let error = scan(&chain(length, times), 256).expect_err("2 * times^length instances");
        assert!(matches!(error, ScanError::TooManyInstances { max: 256, .. }), "{error}");
    }
}

/// What is passed in could be passed on, and multiply each time.
#[test]
fn given_components_are_not_instantiated() {
    let mut from_import = Component::new();
    let mut types = ComponentTypeSection::new();
    types.component(&ComponentType::new());
    from_import.section(&types);
    let mut imports = ComponentImportSection::new();
    imports.import("given", ComponentTypeRef::Component(0));
    from_import.section(&imports);
    instantiate(&mut from_import, 0, 1);

    let mut from_instance = doubled(&leaf(None));
    let mut aliases = ComponentAliasSection::new();
    let kind = ComponentExportKind::Component;
    aliases.alias(Alias::InstanceExport { instance: 0, kind, name: "given" });
    from_instance.section(&aliases);
    instantiate(&mut from_instance, 1, 1);

    for component in [from_import, from_instance] {
        assert_eq!(scan(&component.finish(), 256), Err(ScanError::GivenComponent));
    }
}

/// The names are the component's, and go to a terminal.
#[test]
fn export_names_are_shown_escaped_and_cut() {
    let mut component = Component::new();
    component.section(&ModuleSection(&Module::new()));
    let mut exports = ComponentExportSection::new();
    exports.export("dig\x1b[2J\nerror: all is well", ComponentExportKind::Module, 0, None);
    exports.export("x".repeat(90_000), ComponentExportKind::Module, 0, None);
    for index in 0..10_000 {
        exports.export(format!("export-{index}"), ComponentExportKind::Module, 0, None);
    }
    component.section(&exports);
    let error = scan(&component.finish(), 256).expect_err("it has no entry").to_string();
    assert!(error.contains(r"dig\u{1b}[2J\nerror: all is well, xxxx"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
    assert!(error.ends_with("export-1 and 9998 more") && error.len() < 400, "{error}");
}
