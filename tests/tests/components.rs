//! What is and is not a component that runs here.

use std::path::PathBuf;

use conet_tests::artifacts::{guest, scratch, text_component};
use conet_tests::config::Config;
use conet_tests::host::{Exit, Launch};
use conet_tests::peer;
use wasmparser::{ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration, Parser, Payload};

#[test]
fn text_file_is_refused() {
    refused(file("notes.txt", b"Dear host,\nplease run this.\n"), "notes.txt");
}

#[test]
fn empty_file_is_refused() {
    refused(file("empty.wasm", b""), "empty.wasm");
}

#[test]
fn core_module_is_refused_and_told_from_a_component() {
    let line = refused(text_component("core_module"), "core_module.wasm");
    assert!(line.contains("module"), "{line}");
}

#[test]
fn truncated_component_is_refused() {
    let whole = std::fs::read(guest("echo")).expect("cargo built it");
    for length in [9, 100, whole.len() / 2, whole.len() - 1] {
        refused(file(&format!("cut-{length}.wasm"), &whole[..length]), "cut-");
    }
}

#[test]
fn unknown_import_is_refused_by_name() {
    let line = refused(text_component("unknown_import"), "unknown_import.wasm");
    assert!(line.contains("somewhere:else/thing"), "{line}");
}

#[test]
fn component_without_an_entry_is_refused() {
    let line = refused(text_component("no_entry"), "no_entry.wasm");
    assert!(line.contains("program") && line.contains("handler"), "what it could export: {line}");
}

/// A thousand instances in these two; with a few more levels, the compiler would take all memory there is.
#[test]
fn instantiation_bombs_are_refused_before_they_are_compiled() {
    let line = refused(text_component("outer_alias_bomb"), "outer_alias_bomb.wasm");
    assert!(line.contains("more than 256"), "{line}");
    let line = refused(text_component("given_component_bomb"), "given_component_bomb.wasm");
    assert!(line.contains("has given it"), "{line}");
}

#[test]
fn entry_without_its_function_is_refused() {
    let line = refused(text_component("no_run"), "no_run.wasm");
    assert!(line.contains("conet:net/program-entry") && line.contains("`run`"), "{line}");

    let shared = text_component("no_fiber_handle");
    let exit =
        Launch::component(shared).option("--listen", "127.0.0.1:0").option("--isolation", "shared").finish();
    let line = exit.assert_code(4).one_line();
    assert!(line.contains("conet:fibers/handler-entry") && line.contains("`handle`"), "{line}");
}

/// Names are the component's own, and may hold what moves a terminal's cursor.
#[test]
fn names_of_a_component_are_shown_escaped_and_cut() {
    let encoded = |text: String| wat::parse_str(text).expect("the text is well formed");
    let name = r"dig\1b[2J\nerror: all is well";
    let no_entry = encoded(format!(
        r#"(component (core module)
             (export "{name}" (core module 0))
             (export "{}" (core module 0)))"#,
        "x".repeat(50_000)
    ));
    let invalid = encoded(format!(
        r#"(component (core module (func (export "{name}")) (func (export "{name}")))
             (instance $entry)
             (export "conet:net/program-entry@0.1.0" (instance $entry)))"#
    ));
    for (file_name, bytes) in [("export_names.wasm", no_entry), ("core_names.wasm", invalid)] {
        let line = refused(file(file_name, &bytes), file_name);
        assert!(line.contains("dig"), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn plain_handler_cannot_be_shared() {
    let exit = Launch::handler("echo-handler").option("--isolation", "shared").finish();
    exit.assert_code(2).assert_stderr("isolation `shared`").assert_stderr("#[conet::handler(shared)]");
    exit.one_line();
}

#[test]
fn missing_file_is_a_bad_argument() {
    let exit = Launch::component("/no/such/component.wasm").finish();
    exit.assert_code(2).assert_stderr("/no/such/component.wasm");
    exit.one_line();
}

/// A pipe without a writer would be waited for, a device read for ever.
#[test]
fn what_is_no_file_is_a_bad_argument() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    for path in [pipe.as_path(), "/dev/zero".as_ref()] {
        let exit = Launch::component(path).finish();
        exit.assert_code(2).assert_stderr("not a file");
        exit.one_line();
    }
}

#[test]
fn oversized_file_is_not_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("huge.wasm");
    let huge = std::fs::File::create(&path).expect("a file");
    huge.set_len(1 << 40).expect("a hole");
    let exit = Launch::component(&path).finish();
    exit.assert_code(4).assert_stderr("the most it may");
    exit.one_line();
}

#[test]
fn component_that_needs_more_memory_than_it_may_have_is_refused() {
    let exit = Launch::guest("echo").option("--memory-max", "64KiB").finish();
    exit.assert_code(4).assert_stderr("--memory-max");
    exit.one_line();
}

/// Of each one more than the default, which is then allowed by its key.
#[test]
fn memories_tables_and_core_instances_beyond_their_numbers_are_refused() {
    for (key, default, parts) in [
        ("memories", 2, "(memory 1) ".repeat(3)),
        ("tables", 8, "(table 1 funcref) ".repeat(9)),
        ("core-instances", 32, String::new()),
    ] {
        let more = if key == "core-instances" { 32 } else { 0 };
        let more = "(core instance (instantiate $empty)) ".repeat(more);
        let component = format!(
            r#"(component
                 (core module $empty)
                 (core module $guest {parts} (func (export "run") (result i32) (i32.const 0)))
                 (core instance $guest (instantiate $guest))
                 {more}
                 (func $run (result (result)) (canon lift (core func $guest "run")))
                 (instance $entry (export "run" (func $run)))
                 (export "conet:net/program-entry@0.1.0" (instance $entry)))"#
        );
        let component = wat::parse_str(component).expect("the text is well formed");
        let component = file(&format!("{key}.wasm"), &component);
        let with = |limits: &str| {
            Config::new().component("t", &component, &format!("restart = \"never\"\n{limits}"))
        };

        let exit = Launch::serve(&with("")).finish();
        let line = exit.assert_code(4).one_line();
        assert!(
            line.contains(&default.to_string()) && line.contains(&(default + 1).to_string()),
            "{key}: {line}"
        );

        let raised = with(&format!("[tenant.limits]\n{key} = {}", default + 1));
        let host = Launch::serve(&raised).flag("-v").start();
        host.wait_line("the program returned");
        host.stop();
    }
}

/// A program that grows a table one by one until refused, and fails if that is not after so many.
#[test]
fn a_table_grows_to_its_limit_and_no_further() {
    let component = |most: usize| {
        let text = format!(
            r#"(component
                 (core module $guest
                   (table $table 1 funcref)
                   (func (export "run") (result i32)
                     (loop $more
                       (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1)) (i32.const -1))))
                     (i32.ne (table.size $table) (i32.const {most}))))
                 (core instance $guest (instantiate $guest))
                 (func $run (result (result)) (canon lift (core func $guest "run")))
                 (instance $entry (export "run" (func $run)))
                 (export "conet:net/program-entry@0.1.0" (instance $entry)))"#
        );
        file(&format!("table-{most}.wasm"), &wat::parse_str(text).expect("the text is well formed"))
    };
    for (most, limits) in [(20_000, ""), (500, "[tenant.limits]\ntable-elements = 500")] {
        let config =
            Config::new().component("t", &component(most), &format!("restart = \"never\"\n{limits}"));
        let host = Launch::serve(&config).flag("-vv").start();
        host.wait_line("the program returned, and");
        host.signal(conet_tests::process::Signal::TERM);
        host.wait_exit().assert_stderr(" memory_refused=1");
    }
}

#[test]
fn program_is_not_listened_for() {
    let exit = Launch::handler("echo").finish();
    exit.assert_code(2).assert_stderr("--listen is for handlers");
    exit.one_line();
}

#[test]
fn folder_without_a_package_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let exit = Launch::component(folder.path()).finish();
    exit.assert_code(4).assert_stderr("Cargo.toml");
}

/// Random damage: whatever becomes of the component, it is an answer and not a crash.
#[test]
fn damaged_component_is_refused_or_runs() {
    let whole = std::fs::read(guest("ending")).expect("cargo built it");
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..12 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let position = state as usize % bytes.len();
            bytes[position] ^= 1 << (state >> 61);
        }
        let exit = Launch::component(file(&format!("damaged-{round}.wasm"), &bytes)).arg("ok").finish();
        assert!([0, 1, 4].contains(&exit.code()), "{exit:?}");
        assert!(!exit.stderr.contains("panicked at host/"), "{exit:?}");
    }
}

#[test]
fn plain_handler_needs_no_fibers() {
    let imports = surface(&guest("echo-handler"));
    assert!(imports.names.iter().any(|name| name.starts_with("conet:net/tcp@0.1")), "{:?}", imports.names);
    assert!(!imports.names.iter().any(|name| name.starts_with("conet:fibers")), "{:?}", imports.names);
    assert_eq!(imports.async_types, 0);

    // The same look at a component that does use them finds both.
    let fibers = surface(&guest("echo"));
    assert!(fibers.names.iter().any(|name| name.starts_with("conet:fibers/")), "{:?}", fibers.names);
    assert!(fibers.async_types > 0);
}

#[test]
fn plain_handler_runs_in_an_engine_without_concurrency() {
    let host = Launch::handler("echo-handler").flag("-v").start();
    peer::echo_exact(host.connect(), 1000);
    host.wait_line("engine: concurrency off");
    host.stop();

    let host = Launch::guest("echo").flag("-v").arg("127.0.0.1:0").start();
    peer::echo_exact(host.connect(), 1000);
    assert!(!host.stderr().contains("engine: concurrency off"), "{host:?}");
    host.stop();
}

/// Checks that the component is refused in one line that names the file; gives the line.
#[track_caller]
fn refused(component: PathBuf, name: &str) -> String {
    let exit: Exit = Launch::component(component).finish();
    let line = exit.assert_code(4).one_line();
    assert!(line.contains(name), "the line names the file: {line}");
    assert!(line.len() < 400, "one line to read: {line}");
    line.to_owned()
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, bytes).expect("the scratch folder is ours");
    path
}

#[derive(Default)]
struct Surface {
    /// Of imports and exports.
    names: Vec<String>,
    /// Async functions and stream, future and error-context types, at any depth.
    async_types: usize,
}

/// What a component shows to its host.
fn surface(path: &PathBuf) -> Surface {
    let bytes = std::fs::read(path).expect("cargo built it");
    let mut surface = Surface::default();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.expect("cargo builds valid components") {
            Payload::ComponentImportSection(section) => {
                surface
                    .names
                    .extend(section.into_iter().map(|import| import.expect("valid").name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) => {
                surface
                    .names
                    .extend(section.into_iter().map(|export| export.expect("valid").name.name.to_owned()));
            }
            Payload::ComponentTypeSection(section) => {
                let types = section.into_iter().map(|ty| ty.expect("valid"));
                surface.async_types += types.map(|ty| async_types(&ty)).sum::<usize>();
            }
            _ => {}
        }
    }
    surface
}

fn async_types(ty: &ComponentType) -> usize {
    use wasmparser::ComponentDefinedType::{Future, Stream};
    match ty {
        ComponentType::Func(function) => usize::from(function.async_),
        ComponentType::Defined(Future(_) | Stream(_)) => 1,
        ComponentType::Instance(declarations) => {
            let types = declarations.iter().map(|declaration| match declaration {
                InstanceTypeDeclaration::Type(ty) => async_types(ty),
                _ => 0,
            });
            types.sum()
        }
        ComponentType::Component(declarations) => {
            let types = declarations.iter().map(|declaration| match declaration {
                ComponentTypeDeclaration::Type(ty) => async_types(ty),
                _ => 0,
            });
            types.sum()
        }
        _ => 0,
    }
}
