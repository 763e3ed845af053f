//! A relocatable wasm object, as clang would write it: the linker gives every named symbol its index.
//!
//! The format is WebAssembly's tool-conventions, Linking.md.

use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, Encode, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction, LinkingSection, MemArg,
    MemoryType, Module, SymbolTable, TypeSection, ValType,
};

use crate::archive::Member;

/// One step of a function; functions and globals go by symbol.
pub(crate) enum Step<'a> {
    /// An instruction that needs no relocation.
    Plain(Instruction<'a>),
    Call(&'a str),
    GlobalGet(&'a str),
    GlobalSet(&'a str),
}

/// Loads the `u32` at a byte offset from the address on the stack.
pub(crate) fn load(offset: u64) -> Step<'static> {
    Step::Plain(Instruction::I32Load(MemArg { offset, align: 2, memory_index: 0 }))
}

/// A function defined by the object.
pub(crate) struct Definition<'a> {
    pub(crate) symbol: &'a str,
    pub(crate) params: &'a [ValType],
    pub(crate) results: &'a [ValType],
    /// How many i32 locals follow the parameters.
    pub(crate) locals: u32,
    pub(crate) steps: Vec<Step<'a>>,
    /// The core module exports it by this name, whether or not anything calls it.
    pub(crate) export: Option<&'a str>,
}

/// The object under construction. Imports come before definitions.
#[derive(Default)]
pub(crate) struct Object {
    signatures: Vec<Signature>,
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    globals: GlobalSection,
    exports: ExportSection,
    code: CodeSection,
    bodies: u32,
    code_bytes: usize,
    relocations: Vec<Relocation>,
    function_symbols: Vec<Symbol>,
    global_symbols: Vec<Symbol>,
}

type Signature = (Vec<ValType>, Vec<ValType>);

struct Symbol {
    name: String,
    flags: u32,
}

/// A padded index in the code, to be replaced by the final index of a symbol.
struct Relocation {
    kind: u8,
    offset: usize,
    symbol: usize,
}

impl Object {
    pub(crate) fn new() -> Object {
        let mut object = Object::default();
        let memory =
            MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
        object.imports.import("env", "__linear_memory", memory);
        object
    }

    /// A function of another object of the guest.
    pub(crate) fn needs_function(&mut self, symbol: &str, params: &[ValType], results: &[ValType]) {
        self.import_function(symbol, "env", symbol, params, results, SymbolTable::WASM_SYM_UNDEFINED);
    }

    /// A function of the core module's importer, known by `symbol` in here.
    pub(crate) fn imports_function(
        &mut self,
        symbol: &str,
        module: &str,
        field: &str,
        params: &[ValType],
        results: &[ValType],
    ) {
        let flags = SymbolTable::WASM_SYM_UNDEFINED | SymbolTable::WASM_SYM_EXPLICIT_NAME;
        self.import_function(symbol, module, field, params, results, flags);
    }

    /// A mutable i32 global of another object of the guest.
    pub(crate) fn needs_global(&mut self, symbol: &str) {
        self.imports.import("env", symbol, EntityType::Global(MUTABLE_I32));
        self.global_symbols.push(Symbol { name: symbol.into(), flags: SymbolTable::WASM_SYM_UNDEFINED });
    }

    /// Defines a mutable i32 global.
    pub(crate) fn defines_global(&mut self, symbol: &str, value: i32) {
        self.globals.global(MUTABLE_I32, &ConstExpr::i32_const(value));
        self.global_symbols
            .push(Symbol { name: symbol.into(), flags: SymbolTable::WASM_SYM_VISIBILITY_HIDDEN });
    }

    /// Defines a function.
    pub(crate) fn defines(&mut self, definition: Definition<'_>) {
        let signature = self.signature(definition.params, definition.results);
        self.functions.function(signature);
        let mut flags = SymbolTable::WASM_SYM_VISIBILITY_HIDDEN;
        if let Some(name) = definition.export {
            flags |= SymbolTable::WASM_SYM_EXPORTED | SymbolTable::WASM_SYM_NO_STRIP;
            self.exports.export(name, ExportKind::Func, self.function_symbols.len() as u32);
        }
        self.function_symbols.push(Symbol { name: definition.symbol.into(), flags });
        self.push_body(definition.locals, definition.steps);
    }

    /// The finished object.
    pub(crate) fn finish(self, name: &'static str) -> Member {
        let linking = self.linking();
        let relocations = self.relocation_section();
        let symbols = self.function_symbols.into_iter().chain(self.global_symbols);
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.globals);
        module.section(&self.exports).section(&self.code).section(&linking);
        module.section(&CustomSection { name: "reloc.CODE".into(), data: relocations.into() });
        Member {
            name,
            symbols: symbols
                .filter(|symbol| symbol.flags & SymbolTable::WASM_SYM_UNDEFINED == 0)
                .map(|symbol| symbol.name)
                .collect(),
            bytes: module.finish(),
        }
    }

    fn import_function(
        &mut self,
        symbol: &str,
        module: &str,
        field: &str,
        params: &[ValType],
        results: &[ValType],
        flags: u32,
    ) {
        assert!(self.functions.is_empty(), "the import {symbol} comes after a definition");
        let signature = self.signature(params, results);
        self.imports.import(module, field, EntityType::Function(signature));
        self.function_symbols.push(Symbol { name: symbol.into(), flags });
    }

    fn signature(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let signature = (params.to_vec(), results.to_vec());
        let known = self.signatures.iter().position(|other| *other == signature);
        known.unwrap_or_else(|| {
            self.types.ty().function(params.iter().copied(), results.iter().copied());
            self.signatures.push(signature);
            self.signatures.len() - 1
        }) as u32
    }

    fn push_body(&mut self, locals: u32, steps: Vec<Step<'_>>) {
        let declared = if locals == 0 { vec![] } else { vec![(locals, ValType::I32)] };
        let mut body = Function::new(declared).into_raw_body();
        let mut relocations = Vec::new();
        for step in steps {
            let (opcode, kind, symbol) = match step {
                Step::Plain(instruction) => {
                    instruction.encode(&mut body);
                    continue;
                }
                Step::Call(name) => (0x10, R_WASM_FUNCTION_INDEX_LEB, self.function(name)),
                Step::GlobalGet(name) => (0x23, R_WASM_GLOBAL_INDEX_LEB, self.global(name)),
                Step::GlobalSet(name) => (0x24, R_WASM_GLOBAL_INDEX_LEB, self.global(name)),
            };
            body.push(opcode);
            relocations.push(Relocation { kind, offset: body.len(), symbol });
            body.extend(PADDED_ZERO);
        }
        Instruction::End.encode(&mut body);

        // Relocations count from the start of the section's content, which opens with the number of bodies.
        let start = COUNT_BYTES + self.code_bytes + leb_bytes(body.len());
        self.relocations
            .extend(relocations.into_iter().map(|r| Relocation { offset: start + r.offset, ..r }));
        self.code_bytes += leb_bytes(body.len()) + body.len();
        self.bodies += 1;
        assert!(self.bodies < 128, "the number of bodies takes more than one byte");
        self.code.raw(&body);
    }

    fn function(&self, name: &str) -> usize {
        position(&self.function_symbols, name)
    }

    fn global(&self, name: &str) -> usize {
        position(&self.global_symbols, name)
    }

    /// Function symbols in index order, then globals in theirs.
    fn linking(&self) -> LinkingSection {
        let mut table = SymbolTable::new();
        for (index, symbol) in self.function_symbols.iter().enumerate() {
            table.function(symbol.flags, index as u32, symbol.table_name());
        }
        for (index, symbol) in self.global_symbols.iter().enumerate() {
            table.global(symbol.flags, index as u32, symbol.table_name());
        }
        let mut section = LinkingSection::new();
        section.symbol_table(&table);
        section
    }

    fn relocation_section(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        CODE_SECTION_INDEX.encode(&mut bytes);
        self.relocations.len().encode(&mut bytes);
        for relocation in &self.relocations {
            let globals_start = self.function_symbols.len();
            let first = if relocation.kind == R_WASM_GLOBAL_INDEX_LEB { globals_start } else { 0 };
            bytes.push(relocation.kind);
            relocation.offset.encode(&mut bytes);
            (first + relocation.symbol).encode(&mut bytes);
        }
        bytes
    }
}

impl Symbol {
    /// An undefined symbol without explicit name takes the name of its import.
    fn table_name(&self) -> Option<&str> {
        let named_by_import = self.flags & SymbolTable::WASM_SYM_UNDEFINED != 0
            && self.flags & SymbolTable::WASM_SYM_EXPLICIT_NAME == 0;
        (!named_by_import).then_some(self.name.as_str())
    }
}

fn position(symbols: &[Symbol], name: &str) -> usize {
    symbols.iter().position(|symbol| symbol.name == name).unwrap_or_else(|| panic!("no symbol {name}"))
}

fn leb_bytes(value: usize) -> usize {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes.len()
}

const MUTABLE_I32: GlobalType = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
const R_WASM_FUNCTION_INDEX_LEB: u8 = 0;
const R_WASM_GLOBAL_INDEX_LEB: u8 = 7;
/// Zero in five bytes, room for any index.
const PADDED_ZERO: [u8; 5] = [0x80, 0x80, 0x80, 0x80, 0x00];
/// The section follows those of types, imports, functions, globals and exports.
const CODE_SECTION_INDEX: u32 = 5;
const COUNT_BYTES: usize = 1;
