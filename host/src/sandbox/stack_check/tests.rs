//! Small modules as the SDK links them, checked and validated again.

use super::*;
use wasm_encoder::{
    CodeSection, Component, ConstExpr, CustomSection, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, Module, ModuleSection, NestedComponentSection, TypeSection,
    ValType,
};
use wasmparser::Validator;

use super::super::sections::{COMPONENT_SECTION, CORE_MODULE_SECTION, DEPTH_MAX};

/// The stack pointer is not the first global, and one function is imported.
const STACK_POINTER: u32 = 1;
const LIMIT: u32 = 2;
const SPAN: u32 = 3;
const OVERFLOW: u32 = 0;

/// A module as the SDK links it, with `bodies` of type (i64, i32) -> (i32, i64) as compiled code.
struct Guest {
    bodies: Vec<Function>,
    markers: Vec<(&'static str, u32)>,
    customs: Vec<&'static str>,
}

impl Guest {
    fn of(bodies: Vec<Function>) -> Guest {
        let [stack_pointer, limit, span, overflow] = MARKERS;
        let markers = vec![(stack_pointer, 1), (limit, 2), (span, 3), (overflow, OVERFLOW)];
        Guest { bodies, markers, customs: vec![] }
    }

    fn module(&self) -> Module {
        let (i32, i64) = (ValType::I32, ValType::I64);
        let mut types = TypeSection::new();
        types.ty().function([], []);
        types.ty().function([], [i32]);
        types.ty().function([i64, i32], [i32, i64]);
        let mut imports = ImportSection::new();
        imports.import("conet", "overflow", wasm_encoder::EntityType::Function(0));
        let mut functions = FunctionSection::new();
        (0..3).for_each(|_| _ = functions.function(1));
        self.bodies.iter().for_each(|_| _ = functions.function(2));
        let mut globals = GlobalSection::new();
        let ty = GlobalType { val_type: i32, mutable: true, shared: false };
        (0..4).for_each(|_| _ = globals.global(ty, &ConstExpr::i32_const(0)));
        let mut exports = ExportSection::new();
        for (name, index) in &self.markers {
            exports.export(name, ExportKind::Func, *index);
        }
        let mut code = CodeSection::new();
        for global in [STACK_POINTER, LIMIT, SPAN] {
            code.function(&body([], &[Instruction::GlobalGet(global)]));
        }
        self.bodies.iter().for_each(|body| _ = code.function(body));
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&globals);
        module.section(&exports).section(&code);
        for name in &self.customs {
            module.section(&CustomSection { name: (*name).into(), data: b"x".into() });
        }
        module
    }

    fn component(&self) -> Vec<u8> {
        let mut component = Component::new();
        component.section(&ModuleSection(&self.module()));
        component.finish()
    }
}

fn body<const N: usize>(locals: [(u32, ValType); N], instructions: &[Instruction<'_>]) -> Function {
    let mut function = Function::new(locals);
    instructions.iter().for_each(|instruction| _ = function.instruction(instruction));
    function.instruction(&Instruction::End);
    function
}

/// Takes a frame and gives it back, keeping a value on the operand stack across both.
fn frame<const N: usize>(locals: [(u32, ValType); N]) -> Function {
    body(
        locals,
        &[
            Instruction::LocalGet(1),
            Instruction::GlobalGet(STACK_POINTER),
            Instruction::I32Const(64),
            Instruction::I32Sub,
            Instruction::GlobalSet(STACK_POINTER),
            Instruction::GlobalGet(STACK_POINTER),
            Instruction::I32Const(64),
            Instruction::I32Add,
            Instruction::GlobalSet(STACK_POINTER),
            Instruction::LocalGet(0),
        ],
    )
}

/// How many checks each function of the only module has.
fn checks(component: &[u8]) -> Vec<usize> {
    let module = sections(component).unwrap().into_iter().find(|s| s.id == CORE_MODULE_SECTION).unwrap();
    let code = sections(module.content).unwrap().into_iter().find(|s| s.id == CODE_SECTION).unwrap();
    let bodies = CodeSectionReader::new(code.reader()).unwrap();
    let calls = |body: FunctionBody<'_>| {
        let operators = body.get_operators_reader().unwrap().into_iter();
        operators
            .filter(|op| matches!(op, Ok(Operator::Call { function_index }) if *function_index == OVERFLOW))
            .count()
    };
    bodies.into_iter().map(|body| calls(body.unwrap())).collect()
}

fn instrumented(guest: &Guest) -> Vec<u8> {
    let component = guest.component();
    Validator::new().validate_all(&component).expect("the test's own module");
    let checked = instrument(&component, &mut Moves::default()).unwrap();
    Validator::new().validate_all(&checked).expect("the rewritten module");
    checked.into_owned()
}

#[test]
fn every_change_of_the_stack_pointer_is_checked() {
    let i64_locals = frame([(3, ValType::I64), (2, ValType::I32)]);
    let guest = Guest::of(vec![frame([]), i64_locals, body([], &[Instruction::Unreachable])]);
    assert_eq!(checks(&instrumented(&guest)), [0, 0, 0, 2, 2, 0]);
}

#[test]
fn a_change_in_dead_code_stays_valid() {
    let dead = body([], &[Instruction::Unreachable, Instruction::GlobalSet(STACK_POINTER)]);
    assert_eq!(checks(&instrumented(&Guest::of(vec![dead]))), [0, 0, 0, 1]);
}

#[test]
fn code_that_names_the_limit_is_left_alone() {
    let switch = body(
        [],
        &[
            Instruction::GlobalGet(0),
            Instruction::GlobalSet(STACK_POINTER),
            Instruction::I32Const(0),
            Instruction::GlobalSet(LIMIT),
            Instruction::LocalGet(1),
            Instruction::LocalGet(0),
        ],
    );
    assert_eq!(checks(&instrumented(&Guest::of(vec![switch, frame([])]))), [0, 0, 0, 0, 2]);
}

#[test]
fn a_module_without_markers_is_untouched() {
    let guest = Guest { markers: vec![], ..Guest::of(vec![frame([])]) };
    assert!(matches!(instrument(&guest.component(), &mut Moves::default()).unwrap(), Cow::Borrowed(_)));
}

#[test]
fn an_incomplete_or_odd_set_of_markers_is_refused() {
    for missing in MARKERS {
        let mut guest = Guest::of(vec![frame([])]);
        guest.markers.retain(|(name, _)| *name != missing);
        let error = instrument(&guest.component(), &mut Moves::default()).unwrap_err();
        assert!(matches!(error, StackCheckError::Marker(name) if name == missing), "{error}");
    }
    for odd in [OVERFLOW, 4, 1000] {
        let mut guest = Guest::of(vec![frame([])]);
        guest.markers[0].1 = odd;
        let error = instrument(&guest.component(), &mut Moves::default()).unwrap_err();
        assert!(matches!(error, StackCheckError::Marker(name) if name == MARKERS[0]), "{odd}: {error}");
    }
}

#[test]
fn debug_sections_go_and_names_stay() {
    let customs = vec!["name-like", ".debug_line", "metadata.code.branch_hint"];
    let checked = instrumented(&Guest { customs, ..Guest::of(vec![frame([])]) });
    let has = |name: &str| checked.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(has("name-like"));
    assert!(!has(".debug_line"));
    assert!(!has("branch_hint"));
}

#[test]
fn a_module_in_a_nested_component_is_checked() {
    let guest = Guest::of(vec![frame([])]);
    let mut inner = Component::new();
    inner.section(&ModuleSection(&guest.module()));
    let mut outer = Component::new();
    outer.section(&CustomSection { name: "before".into(), data: b"kept".into() });
    outer.section(&NestedComponentSection(&inner));
    outer.section(&CustomSection { name: "after".into(), data: b"kept".into() });
    let outer = outer.finish();
    let checked = instrument(&outer, &mut Moves::default()).unwrap();
    Validator::new().validate_all(&checked).unwrap();
    let nested = sections(&checked).unwrap();
    assert_eq!(nested.iter().map(|section| section.id).collect::<Vec<_>>(), [0, COMPONENT_SECTION, 0]);
    assert_eq!(checks(nested[1].content), [0, 0, 0, 2]);
}

#[test]
fn endless_nesting_is_refused() {
    let mut bytes = Component::new().finish();
    for _ in 0..=DEPTH_MAX {
        let mut outer = Component::new().finish();
        push_section(&mut outer, COMPONENT_SECTION, &bytes);
        bytes = outer;
    }
    assert!(matches!(instrument(&bytes, &mut Moves::default()), Err(StackCheckError::Nested(_))));
}

#[test]
fn too_many_changes_are_refused() {
    let change = [Instruction::GlobalGet(0), Instruction::GlobalSet(STACK_POINTER)];
    let mut instructions: Vec<_> = (0..=SITES_MAX).flat_map(|_| change.clone()).collect();
    instructions.push(Instruction::Unreachable);
    let guest = Guest::of(vec![body([], &instructions)]);
    assert!(matches!(instrument(&guest.component(), &mut Moves::default()), Err(StackCheckError::Sites)));
}

/// A declaration of four billion locals has no room for one more.
#[test]
fn too_many_locals_are_refused() {
    let guest = Guest::of(vec![frame([(u32::MAX, ValType::I32)])]);
    let refused = instrument(&guest.component(), &mut Moves::default())
        .map(|checked| Validator::new().validate_all(&checked).is_err());
    assert!(refused.unwrap_or(true));
}

#[test]
fn damaged_bytes_give_errors_and_no_panics() {
    let component = Guest { customs: vec![".debug_line"], ..Guest::of(vec![frame([])]) }.component();
    for length in 0..component.len() {
        let _ = instrument(&component[..length], &mut Moves::default());
    }
    for position in 0..component.len() {
        for value in 0..=u8::MAX {
            let mut damaged = component.clone();
            damaged[position] = value;
            let _ = instrument(&damaged, &mut Moves::default());
        }
    }
    assert!(instrument(&component[..component.len() - 1], &mut Moves::default()).is_err());
    assert!(instrument(b"", &mut Moves::default()).is_err());
}
