//! Has bulk operations of memory done in pieces.
//!
//! To wasmtime a `memory.fill` of many MiB is one call, in which no epoch is looked at: a worker would be held for as long
//! as it takes, most of which is the kernel bringing memory. So each `memory.fill`, `memory.copy` and `memory.init` that may
//! be long gets a branch: up to 64 KiB it is as it was, and beyond that it is a function that is added to the module,
//! which does the same in a loop. What it comes to is the same to the byte, and to the trap.
//!
//! Debug sections of a changed module go: their code offsets would be wrong. Where code has gone says `Moves`.

mod helper;

use std::borrow::Cow;
use std::collections::HashMap;

use wasm_encoder::{BlockType, Encode, Instruction};
use wasmparser::{
    BinaryReader, BinaryReaderError, CodeSectionReader, CustomSectionReader, DataSectionReader, FunctionBody,
    ImportSectionReader, MemorySectionReader, MemoryType, Operator, TypeRef,
};

use super::{
    functions::{Functions, Site, exchange},
    moves::Moves,
    sections::{
        CODE_SECTION, CUSTOM_SECTION, DATA_SECTION, FUNCTION_SECTION, HEADER_BYTES, IMPORT_SECTION,
        MEMORY_SECTION, Section, TYPE_SECTION, TooDeep, has_code_offsets, push_section, rewrite_modules,
        sections,
    },
};

/// Why a component's operations could not be put into pieces.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The bytes are not a component, or not one that this host's parser knows.
    #[error("the component is malformed: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// Components inside components.
    #[error("{0}")]
    Nested(#[from] TooDeep),
}

/// The component with its long operations in pieces; borrowed if there are none.
pub(super) fn instrument<'a>(component: &'a [u8], moves: &mut Moves) -> Result<Cow<'a, [u8]>, BulkError> {
    rewrite_modules(component, &mut |module| rewrite_module(module, moves))
}

fn rewrite_module<'a>(module: &'a [u8], moves: &mut Moves) -> Result<Cow<'a, [u8]>, BulkError> {
    moves.begin_module();
    let sections = sections(module)?;
    let mut helpers = Helpers::of(&sections)?;
    let mut code = None;
    for section in sections.iter().filter(|section| section.id == CODE_SECTION) {
        code = helpers.rewrite_code(section, moves)?;
    }
    let Some(code) = code else {
        return Ok(Cow::Borrowed(module));
    };
    let mut out = module[..HEADER_BYTES].to_vec();
    for section in &sections {
        match section.id {
            TYPE_SECTION => push_section(&mut out, section.id, &helpers.types(section)?),
            FUNCTION_SECTION => push_section(&mut out, section.id, &helpers.functions(section)?),
            CODE_SECTION => push_section(&mut out, section.id, &code),
            CUSTOM_SECTION if has_code_offsets(section)? => {}
            CUSTOM_SECTION => match helpers.names(section) {
                Ok(Some(names)) => push_section(&mut out, section.id, &names),
                // To the compiler names that cannot be read are none.
                Ok(None) | Err(_) => out.extend(&module[section.start..section.end]),
            },
            _ => out.extend(&module[section.start..section.end]),
        }
    }
    Ok(Cow::Owned(out))
}

/// An operation, with its operands that are not on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Bulk {
    Fill { memory: u32 },
    Copy { to: u32, from: u32 },
    Init { data: u32, memory: u32, data_bytes: u32 },
}

impl Bulk {
    fn instruction(self) -> Instruction<'static> {
        match self {
            Self::Fill { memory } => Instruction::MemoryFill(memory),
            Self::Copy { to, from } => Instruction::MemoryCopy { src_mem: from, dst_mem: to },
            Self::Init { data, memory, .. } => Instruction::MemoryInit { mem: memory, data_index: data },
        }
    }

    /// What a backtrace calls the function.
    fn name(self) -> &'static str {
        match self {
            Self::Fill { .. } => "memory.fill",
            Self::Copy { .. } => "memory.copy",
            Self::Init { .. } => "memory.init",
        }
    }
}

/// The functions that are added to a module, one for each operation that may be long.
struct Helpers {
    module: Functions,
    /// Is it a memory that this host runs: with addresses of 32 bits, and pages of the usual size? The compiler refuses
    /// all others.
    memories: Vec<bool>,
    /// How long each segment is.
    data: Vec<u32>,
    /// In the order of their indices, which follow those of the module's own functions.
    all: Vec<Bulk>,
    indices: HashMap<Bulk, u32>,
}

impl Helpers {
    /// None yet, for the module of these sections.
    fn of(sections: &[Section<'_>]) -> Result<Self, BinaryReaderError> {
        let (mut memories, mut data) = (Vec::new(), Vec::new());
        let usual = |ty: &MemoryType| !ty.memory64 && ty.page_size_log2.is_none();
        for section in sections {
            match section.id {
                IMPORT_SECTION => {
                    for import in ImportSectionReader::new(section.reader())?.into_imports() {
                        if let TypeRef::Memory(ty) = import?.ty {
                            memories.push(usual(&ty));
                        }
                    }
                }
                MEMORY_SECTION => {
                    for ty in MemorySectionReader::new(section.reader())? {
                        memories.push(usual(&ty?));
                    }
                }
                DATA_SECTION => {
                    for segment in DataSectionReader::new(section.reader())? {
                        data.push(segment?.data.len() as u32);
                    }
                }
                _ => {}
            }
        }
        let module = Functions::read(sections)?;
        Ok(Self { module, memories, data, all: Vec::new(), indices: HashMap::new() })
    }

    /// The code with branches, and with what they call at its end; none if nothing in it may be long.
    fn rewrite_code(
        &mut self,
        section: &Section<'_>,
        moves: &mut Moves,
    ) -> Result<Option<Vec<u8>>, BulkError> {
        let bodies = CodeSectionReader::new(section.reader())?;
        let count = bodies.count();
        let mut code = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            let body = body?;
            let sites = self.sites(&body)?;
            match self.module.params(index) {
                Some(params) if !sites.is_empty() => {
                    let put = |out: &mut Vec<u8>, bulk: &Bulk, spare| self.push_branch(out, *bulk, spare);
                    let (bytes, pieces) = exchange(&body, params, &sites, put)?;
                    bytes.encode(&mut code);
                    moves.add(index, pieces);
                }
                _ => body.as_bytes().encode(&mut code),
            }
        }
        if self.all.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(code.len());
        count.saturating_add(self.all.len() as u32).encode(&mut out);
        out.extend(code);
        for bulk in &self.all {
            helper::body(*bulk).encode(&mut out);
        }
        Ok(Some(out))
    }

    /// Where operations stand that may be long.
    fn sites(&mut self, body: &FunctionBody<'_>) -> Result<Vec<Site<Bulk>>, BulkError> {
        let base = body.range().start;
        let mut sites = Vec::new();
        let mut operators = body.get_operators_reader()?;
        let mut constant = None;
        while !operators.eof() {
            let (operator, start) = operators.read_with_offset()?;
            // The last operand is the length.
            let short = constant.take().is_some_and(|bytes| bytes <= PIECE_BYTES);
            if let Operator::I32Const { value } = operator {
                constant = Some(value as u32);
            }
            if let Some(bulk) = self.bulk(&operator).filter(|_| !short) {
                self.add(bulk);
                sites.push((start - base..operators.original_position() - base, bulk));
            }
        }
        Ok(sites)
    }

    /// The operator, if it is one that may be long.
    fn bulk(&self, operator: &Operator<'_>) -> Option<Bulk> {
        let usual = |memory: u32| self.memories.get(memory as usize) == Some(&true);
        match *operator {
            Operator::MemoryFill { mem } if usual(mem) => Some(Bulk::Fill { memory: mem }),
            Operator::MemoryCopy { dst_mem, src_mem } if usual(dst_mem) && usual(src_mem) => {
                Some(Bulk::Copy { to: dst_mem, from: src_mem })
            }
            Operator::MemoryInit { data_index, mem } if usual(mem) => {
                let data_bytes = *self.data.get(data_index as usize)?;
                let bulk = Bulk::Init { data: data_index, memory: mem, data_bytes };
                (data_bytes > PIECE_BYTES).then_some(bulk)
            }
            _ => None,
        }
    }

    fn add(&mut self, bulk: Bulk) {
        let next = self.module.next_index().saturating_add(self.all.len() as u32);
        self.indices.entry(bulk).or_insert_with(|| {
            self.all.push(bulk);
            next
        });
    }

    /// Instead of the instruction, whose operands are on the stack.
    fn push_branch(&self, out: &mut Vec<u8>, bulk: Bulk, spare: u32) {
        let operands = BlockType::FunctionType(self.branch_type());
        for instruction in [
            Instruction::LocalTee(spare),
            Instruction::I32Const(PIECE_BYTES as i32),
            Instruction::I32GtU,
            Instruction::If(operands),
            Instruction::LocalGet(spare),
            Instruction::Call(self.indices[&bulk]),
            Instruction::Else,
            Instruction::LocalGet(spare),
            bulk.instruction(),
            Instruction::End,
        ] {
            instruction.encode(out);
        }
    }

    /// The module's types, and two of ours: a branch takes two operands from the stack, a function all three.
    fn types(&self, section: &Section<'_>) -> Result<Vec<u8>, BinaryReaderError> {
        let ours = [&[FUNC, 2, I32, I32, 0][..], &[FUNC, 3, I32, I32, I32, 0]];
        appended(section.content, ours.len(), &ours.concat())
    }

    fn branch_type(&self) -> u32 {
        self.module.types.len() as u32
    }

    fn helper_type(&self) -> u32 {
        self.branch_type().saturating_add(1)
    }

    fn functions(&self, section: &Section<'_>) -> Result<Vec<u8>, BinaryReaderError> {
        let mut ours = Vec::new();
        self.all.iter().for_each(|_| self.helper_type().encode(&mut ours));
        appended(section.content, self.all.len(), &ours)
    }

    /// If it is the section of names: with those of the functions that are added.
    fn names(&self, section: &Section<'_>) -> Result<Option<Vec<u8>>, BinaryReaderError> {
        let names = CustomSectionReader::new(section.reader())?;
        if names.name() != "name" {
            return Ok(None);
        }
        let mut out = Vec::new();
        names.name().encode(&mut out);
        let mut reader = BinaryReader::new(names.data(), 0);
        while !reader.eof() {
            let id = reader.read_u8()?;
            let size = reader.read_var_u32()?;
            let content = reader.read_bytes(size as usize)?;
            match id {
                FUNCTION_NAMES => push_section(&mut out, id, &self.function_names(content)?),
                _ => push_section(&mut out, id, content),
            }
        }
        Ok(Some(out))
    }

    /// They are in the order of indices, and ours are the last.
    fn function_names(&self, content: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
        let mut ours = Vec::new();
        for bulk in &self.all {
            self.indices[bulk].encode(&mut ours);
            bulk.name().encode(&mut ours);
        }
        appended(content, self.all.len(), &ours)
    }
}

/// A vector's encoding with so many more elements at its end.
fn appended(vector: &[u8], more: usize, elements: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut reader = BinaryReader::new(vector, 0);
    let count = reader.read_var_u32()?;
    let mut out = Vec::with_capacity(vector.len() + elements.len() + 5);
    count.saturating_add(more as u32).encode(&mut out);
    out.extend(&vector[reader.original_position()..]);
    out.extend(elements);
    Ok(out)
}

/// Of memory that is touched for the first time the kernel brings as much within some 30 µs; loops of 32 KiB cost a tenth of the rate, of 64 nothing.
const PIECE_BYTES: u32 = 64 << 10;

/// Within the section of names.
const FUNCTION_NAMES: u8 = 1;
const FUNC: u8 = 0x60;
const I32: u8 = 0x7f;

#[cfg(test)]
mod tests;
