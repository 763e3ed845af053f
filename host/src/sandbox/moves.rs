//! Where instructions go when a component's code is rewritten: what points into it by offset is still right afterwards.

use std::collections::HashMap;

use super::functions::Pieces;

/// Of one rewriting of a component.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Core modules of which the rewriting has begun, in the order of the component's bytes.
    modules: u32,
    /// Of the module and the function, both by their order. What is not here has not moved within its function.
    bodies: HashMap<(u32, u32), Pieces>,
}

impl Moves {
    /// The next core module is rewritten now, or looked at and left as it is.
    pub(super) fn begin_module(&mut self) {
        self.modules += 1;
    }

    /// The body of one of its functions has been rewritten: of those that it defines, the one with this index.
    pub(super) fn add(&mut self, function: usize, pieces: Pieces) {
        self.bodies.insert((self.modules.saturating_sub(1), function as u32), pieces);
    }

    /// Where a position in the function's body is afterwards.
    pub(super) fn moved(&self, module: u32, function: u32, position: u32) -> u32 {
        let Some(pieces) = self.bodies.get(&(module, function)) else { return position };
        let next = pieces.partition_point(|(before, _)| *before <= position);
        match next.checked_sub(1).map(|last| pieces[last]) {
            Some((before, after)) => after + (position - before),
            None => position,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::{BinaryReader, CodeSectionReader, Operator, OperatorsReader};

    use super::*;
    use crate::sandbox::{
        bulk,
        sections::{CODE_SECTION, CORE_MODULE_SECTION, sections},
        stack_check,
    };

    /// As the SDK links it, with frames and operations that may be long; and twice, with another between.
    fn component() -> Vec<u8> {
        let module = |locals: &str| {
            let long = |name: &str| format!("(local.get 0) (i32.const 7) (local.get 1) ({name})");
            let lower = "global.get $pointer i32.const 64 i32.sub global.set $pointer";
            format!(
                "(core module (import \"conet\" \"overflow\" (func $overflow)) (memory 1) (data $data \"{data}\") \
                   (global (mut i32) (i32.const 0)) (global $pointer (mut i32) (i32.const 0)) \
                   (global $limit (mut i32) (i32.const 0)) (global $span (mut i32) (i32.const 0)) \
                   (func (export \"conet_stack_pointer_of\") (result i32) global.get $pointer) \
                   (func (export \"conet_stack_limit_of\") (result i32) global.get $limit) \
                   (func (export \"conet_stack_span_of\") (result i32) global.get $span) \
                   (export \"conet_stack_overflow\" (func $overflow)) \
                   (func (param i32 i32) (result i32) {locals} {lower} {fill} {copy} \
                     (if (local.get 0) (then {init} (i64.store (i32.const 8) (i64.const -1)))) \
                     {lower} (i32.add (local.get 0) (i32.const 300000))) \
                   (func (param i32) (result f64) (local.get 0) drop (f64.const 2.5)) \
                   (func (param i32 i32) {init} {lower} nop call $overflow))",
                data = "x".repeat(70_000),
                fill = long("memory.fill"),
                copy = long("memory.copy"),
                init = long("memory.init $data"),
            )
        };
        let many: String = (0..127).map(|_| "(local i64) (local f32)").collect();
        let text = format!(
            "(component {} (core module (func nop)) (component {}))",
            module(""),
            module(&format!("{many} (local i32)"))
        );
        wat::parse_str(text).expect("it is well formed")
    }

    /// The bodies of each module's functions.
    fn bodies(component: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for section in sections(component).expect("it is well formed") {
            if section.id == CORE_MODULE_SECTION {
                let module = sections(section.content).expect("it is well formed");
                let code = module.iter().find(|section| section.id == CODE_SECTION).expect("it has code");
                let bodies = CodeSectionReader::new(code.reader()).expect("it is well formed");
                all.push(bodies.into_iter().map(|body| body.expect("a body").as_bytes().to_vec()).collect());
            } else if section.id == super::super::sections::COMPONENT_SECTION {
                all.extend(bodies(section.content));
            }
        }
        all
    }

    /// Where each instruction begins, and what it is.
    fn operators(body: &[u8]) -> Vec<(u32, Operator<'_>)> {
        let body = wasmparser::FunctionBody::new(BinaryReader::new(body, 0));
        let mut operators = body.get_operators_reader().expect("it is well formed");
        let mut all = Vec::new();
        while !operators.eof() {
            let (operator, start) = operators.read_with_offset().expect("it is well formed");
            all.push((start as u32, operator));
        }
        all
    }

    fn at(body: &[u8], position: u32) -> Operator<'_> {
        let reader = BinaryReader::new(&body[position as usize..], 0);
        OperatorsReader::new(reader).read().expect("an instruction begins there")
    }

    /// Each instruction is where it is said to be; those that `exchanged` counts, by what they have become. Ends are ends.
    #[track_caller]
    fn assert_followed(
        before: &[u8],
        after: &[u8],
        rewritings: &[&Moves],
        exchanged: fn(&Operator<'_>) -> bool,
    ) -> usize {
        let (before, after) = (bodies(before), bodies(after));
        assert_eq!(before.len(), 3, "modules");
        let (mut same, mut changed) = (0, 0);
        for (module, (before, after)) in before.iter().zip(&after).enumerate() {
            for (function, (before, after)) in before.iter().zip(after).enumerate() {
                let moved = |position| {
                    rewritings.iter().fold(position, |position, moves| {
                        moves.moved(module as u32, function as u32, position)
                    })
                };
                assert_eq!(moved(before.len() as u32), after.len() as u32, "the end of {module}, {function}");
                for (position, operator) in operators(before) {
                    let found = at(after, moved(position));
                    if exchanged(&operator) {
                        assert!(matches!(found, Operator::LocalTee { .. }), "{operator:?} is {found:?}");
                        changed += 1;
                    } else {
                        assert_eq!(
                            format!("{found:?}"),
                            format!("{operator:?}"),
                            "{module}, {function}, {position}"
                        );
                        same += 1;
                    }
                }
            }
        }
        assert!(same > 50, "{same} are as they were");
        changed
    }

    fn is_stack_pointer(operator: &Operator<'_>) -> bool {
        matches!(operator, Operator::GlobalSet { global_index: 1 })
    }

    fn is_long(operator: &Operator<'_>) -> bool {
        matches!(
            operator,
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. }
        )
    }

    #[test]
    fn instructions_are_followed_through_stack_checks() {
        let (before, mut moves) = (component(), Moves::default());
        let after = stack_check::instrument(&before, &mut moves).expect("it is the SDK's");
        assert_eq!(assert_followed(&before, &after, &[&moves], is_stack_pointer), 6);
    }

    #[test]
    fn instructions_are_followed_into_pieces() {
        let (before, mut moves) = (component(), Moves::default());
        let after = bulk::instrument(&before, &mut moves).expect("it is well formed");
        assert_eq!(assert_followed(&before, &after, &[&moves], is_long), 8);
    }

    #[test]
    fn instructions_are_followed_through_both() {
        let (before, mut checks, mut pieces) = (component(), Moves::default(), Moves::default());
        let between = stack_check::instrument(&before, &mut checks).expect("it is the SDK's");
        let after = bulk::instrument(&between, &mut pieces).expect("it is well formed");
        let either = |operator: &Operator<'_>| is_stack_pointer(operator) || is_long(operator);
        assert_eq!(assert_followed(&before, &after, &[&checks, &pieces], either), 14);
    }
}
